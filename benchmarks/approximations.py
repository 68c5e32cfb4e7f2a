"""How accurate the post's two approximations of the variance are in practice, along training.

    python benchmarks/approximations.py RESULTS.jsonl --out DIR [--tasks …] [--seeds 5]

Rewards to go less the run's own value network, on fresh episodes of the policy at several points of
training: D/Var (approximation i: steps uncorrelated), F/Var (approximation ii: score and weight
independent too), C/Var (what i leaves out), and how far the value network is from the baseline of
least variance. One JSON line a point of a run; points that are in the file are not measured again.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

import policygrad
from policygrad import diagnostics, environments
from policygrad.doctor import Judge, collect
from policygrad.runs import RunDirectory

# settings, steps, episodes measured; a schedule over the whole run would see every stop as its end
TASKS = {
    "gymnax/CartPole-v1": ({"algorithm": "vanilla"}, 100_000, 256),
    "gymnax/Pendulum-v1": ({"algorithm": "ppo", "step_size_schedule": "constant"}, 250_000, 256),
    "Hopper-v5": ({"algorithm": "vanilla"}, 400_000, 192),
}
SHARES = (0.02, 0.1, 0.3, 0.6, 1.0)
RATIOS = {
    "diagonal_ratio": "D/Var: steps taken as uncorrelated (i)",
    "factored_ratio": "F/Var: score and weight independent too (ii)",
    "cross_ratio": "C/Var: what (i) leaves out",
}


def interval(measured) -> dict:
    """Value and bounds of a measured number."""
    return {"value": measured.value, "low": measured.low, "high": measured.high}


def measure(run: policygrad.Run, episodes: int) -> dict:
    """The decomposition and the baseline's distance from the best, at the end of a run."""
    directory = RunDirectory.open(run.path)
    environment = environments.make(run.summary["env"], 32)
    judge = Judge.of(directory, run.config, environment, None)
    limit = environment.time_limit or 1000
    key = jax.random.key(run.config.seed + 1000)
    record, _ = collect(environment, run.policy, key, episodes, limit)
    record = judge.scaled(record)
    estimator = judge.rewards_to_go(judge.subtracted[0])
    state = judge.state._replace(baseline=judge.subtracted[1])
    found = diagnostics.decompose_variance(run.policy, estimator, state, record).total
    quality = diagnostics.judge_baseline(run.policy, estimator, state, record)
    return {
        **{name: interval(getattr(found, name)) for name in RATIOS},
        "excess_ratio": interval(quality.excess_ratio),
        "removed_from_none": quality.removed_from_none.value / found.variance.value,
        "explained_variance": interval(quality.explained_variance),
        "mean_length": float(np.mean(np.sum(record.valid, axis=0))),
    }


def cells(task: str, seed: int, known: set, file: Path) -> None:
    """One run, stopped at every point."""
    settings, total, episodes = TASKS[task]
    wanted = [share for share in SHARES if (task, seed, share) not in known]
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as folder:
        path, run = Path(folder, "run"), None
        for share in SHARES:
            steps = round(share * total)
            if run is None:
                run = policygrad.train(task, out=path, seed=seed, total_steps=steps, **settings)
            elif run.summary["env_steps"] < steps:
                run = policygrad.resume(path, total_steps=steps)
            line = {"task": task, "seed": seed, "share": share, "settings": settings}
            line |= {"env_steps": run.summary["env_steps"], "episodes": episodes}
            if share in wanted:
                line |= measure(run, episodes)
                with file.open("a") as out:
                    out.write(json.dumps(line) + "\n")
                print(task, seed, share, {k: line[k]["value"] for k in RATIOS}, file=sys.stderr)


def draw(lines: list[dict], task: str) -> Figure:
    """The three ratios, and the baseline's excess, against environment steps."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    mine = [line for line in lines if line["task"] == task]
    seeds = sorted({line["seed"] for line in mine})

    def curves(axes, name: str, label: str, colour: str) -> None:
        for seed in seeds:
            points = sorted((p for p in mine if p["seed"] == seed), key=lambda p: p["env_steps"])
            x = [p["env_steps"] for p in points]
            y, low, high = ([p[name][k] for p in points] for k in ("value", "low", "high"))
            axes.plot(x, y, color=colour, label=label if seed == seeds[0] else None)
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)

    for (name, label), colour in zip(RATIOS.items(), ("C0", "C1", "C2"), strict=True):
        curves(left, name, label, colour)
    left.axhline(1, color="0.6", linewidth=0.8)
    curves(right, "excess_ratio", "variance above the best baseline's, of Var", "C3")
    for axes, title in ((left, task), (right, "the value network as a baseline")):
        axes.set(title=title, xlabel="environment steps")
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    return figure


def table(lines: list[dict]) -> str:
    """Medians over seeds, with the range."""
    rows = [
        "| task | share of training | D/Var | F/Var | C/Var | above the best baseline |",
        "|---|---|---|---|---|---|",
    ]
    for task in TASKS:
        for share in SHARES:
            some = [p for p in lines if p["task"] == task and p["share"] == share]
            if some:
                values = ([p[name]["value"] for p in some] for name in (*RATIOS, "excess_ratio"))
                shown = [f"{np.median(v):.2f} ({min(v):.2f} to {max(v):.2f})" for v in values]
                rows.append(f"| {task} | {share:.0%} | " + " | ".join(shown) + " |")
    return "\n".join(rows)


def main() -> None:
    """Measure what is missing; draw and print what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()

    def read() -> list[dict]:
        if not options.results.exists():
            return []
        return [json.loads(line) for line in options.results.read_text().splitlines()]

    known = {(p["task"], p["seed"], p["share"]) for p in read()}
    for seed in range(options.seeds):
        for task in options.tasks:
            cells(task, seed, known, options.results)
    lines = read()
    options.out.mkdir(parents=True, exist_ok=True)
    for task in {p["task"] for p in lines}:
        name = task.split("/")[-1].split("-")[0].lower()
        draw(lines, task).savefig(options.out / f"approximations_{name}.png", dpi=130)
    print(table(lines))


if __name__ == "__main__":
    main()

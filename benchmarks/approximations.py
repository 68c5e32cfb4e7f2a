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
from matplotlib.ticker import NullLocator

import policygrad
from policygrad import diagnostics
from policygrad.doctor.collecting import collect
from policygrad.doctor.fitted_estimator import FittedEstimator
from policygrad.doctor.subject import Subject

# settings, steps, episodes measured; a schedule over the whole run would see every stop as its end
TASKS = {
    "gymnax/CartPole-v1": ({"algorithm": "vanilla"}, 100_000, 256),
    "gymnax/Pendulum-v1": ({"algorithm": "ppo", "step_size_schedule": "constant"}, 250_000, 256),
    "Hopper-v5": ({"algorithm": "vanilla"}, 400_000, 192),
}
SHARES = (0.02, 0.1, 0.3, 0.6, 1.0)
RATIOS = ("diagonal_ratio", "factored_ratio", "cross_ratio")  # D/Var, F/Var, C/Var
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def interval(measured) -> dict:
    """Value and bounds of a measured number."""
    return {"value": measured.value, "low": measured.low, "high": measured.high}


def measure(run: policygrad.Run, episodes: int) -> dict:
    """The decomposition and the baseline's distance from the best, at the end of a run."""
    subject = Subject.of(run.path, {})
    source = subject.source(32)
    fitted = FittedEstimator.of(subject, run.agent, source)
    limit = source.time_limit or 1000
    key = jax.random.key(run.config.seed + 1000)
    record, _ = collect(source, run.policy, key, episodes, limit)
    record = fitted.scaled(record)
    baseline, fitted_baseline = fitted.subtracted
    estimator = fitted.rewards_to_go(baseline)
    state = fitted.state._replace(baseline=fitted_baseline)
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
    """The ratios and the baseline's excess against environment steps: seeds thin, medians bold."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    mine = [line for line in lines if line["task"] == task]
    panels = {
        "diagonal_ratio": (left, "C0", "D/Var: steps as uncorrelated (i)"),
        "factored_ratio": (left, "C1", "F/Var: score and weight independent too (ii)"),
        "cross_ratio": (middle, "C2", None),
        "excess_ratio": (right, "C3", None),
    }
    for name, (axes, colour, label) in panels.items():
        for seed in sorted({line["seed"] for line in mine}):
            x, y = points(mine, name, seed)
            axes.plot(x, y, color=colour, alpha=0.35, linewidth=0.9, marker=".", markersize=3)
        x, y = medians(mine, name)
        axes.plot(x, y, color=colour, linewidth=2.2, label=label)
    left.axhline(1, color="0.4", linewidth=0.8)
    left.set_yscale("log")
    low, high = left.get_ylim()
    low, high = min(low, 0.45), max(high, 2.2)
    left.set_ylim(low, high * (high / low) ** 0.25)  # room for the legend, above the data
    ticks = [x for x in TICKS if low <= x <= high]
    left.set_yticks(ticks, [f"{x:g}" for x in ticks])
    left.yaxis.set_minor_locator(NullLocator())
    left.legend(fontsize=8, loc="upper left", frameon=False)
    for axes, least, most in ((middle, -0.3, 0.6), (right, -0.05, 1.05)):
        axes.axhline(0, color="0.4", linewidth=0.8)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, least), max(high, most))  # nothing small drawn large
    titles = (
        (left, f"{task.split('/')[-1]}: the approximations / Var"),
        (middle, "C/Var: what (i) leaves out"),
        (right, "variance above the best baseline's, of Var"),
    )
    for axes, title in titles:
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel("environment steps", fontsize=9)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
        axes.tick_params(labelsize=8.5)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def points(lines: list[dict], name: str, seed: int) -> tuple[list[float], list[float]]:
    """Environment steps, and a measured number at them, of one run."""
    own = sorted((p for p in lines if p["seed"] == seed), key=lambda p: p["env_steps"])
    return [p["env_steps"] for p in own], [p[name]["value"] for p in own]


def medians(lines: list[dict], name: str) -> tuple[list[float], list[float]]:
    """The same over seeds, point by point."""
    shares = sorted({p["share"] for p in lines})
    at = [[p for p in lines if p["share"] == share] for share in shares]
    return (
        [float(np.median([p["env_steps"] for p in some])) for some in at],
        [float(np.median([p[name]["value"] for p in some])) for some in at],
    )


def table(lines: list[dict]) -> str:
    """Medians over seeds, with the range."""
    rows = [
        "| task | share of training | D/Var | F/Var | C/Var | above the best baseline "
        "| explained variance |",
        "|---|---|---|---|---|---|---|",
    ]
    columns = (*RATIOS, "excess_ratio", "explained_variance")
    for task in TASKS:
        for share in SHARES:
            some = [p for p in lines if p["task"] == task and p["share"] == share]
            if some:
                values = ([p[name]["value"] for p in some] for name in columns)
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

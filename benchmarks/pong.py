"""Pong: the score, the steps to a score of 18, where the seconds go, and memory.

    python benchmarks/pong.py run RESULTS.jsonl --algorithms ppo --first-seed 1 --seeds 3
    python benchmarks/pong.py table RESULTS.jsonl
    python benchmarks/pong.py speed [--algorithm vanilla] [--settings '{"shared_trunk": true}']
    python benchmarks/pong.py memory [--batch-steps 2048 8192] [--json FILE]

`run` trains with the defaults of an algorithm for 2 million steps at most. Every 200,000 steps it
plays 20 games by the policy's mode and 20 by samples; it stops once the means of both are 18.5, and
then plays 40 other games. A cell whose line is in the file is not run again.
`speed` measures the simulator alone, with random actions, and training, in turns. Pong is stepped
by EnvPool where it is installed.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from clock import training_rate
from common import (
    append_line,
    in_turns,
    median_ratio,
    policygrad_command,
    provenance,
    read_lines,
    spread,
)
from memory import sampled
from throughput import stepping_rate

import policygrad
from policygrad import callbacks
from policygrad.environments.atari import PREPROCESSING
from policygrad.environments.envpool import Pool

GOAL = 18
EVALUATED = {
    "deterministic": "evaluation/deterministic_return_mean",
    "stochastic": "evaluation/return_mean",
}
GAMES = 20
LANES = 16  # of the defaults


def cell(algorithm: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run, its evaluation, and where its seconds went."""
    settings = json.loads(options.settings)
    evaluated: list[dict[str, float]] = []

    def stop(run: Any) -> Any:
        found = {name: run[key] for name, key in EVALUATED.items() if run.get(key) is not None}
        if not found:
            return None
        evaluated.append({"steps": run["env_steps"], **found})
        return policygrad.STOP if min(found.values()) >= options.stop_at else None

    trained = policygrad.train(
        "Pong-v5", algorithm=algorithm, seed=seed, total_steps=options.steps,
        out=options.runs / f"{algorithm}-{seed}" if options.runs else None,
        on_update=(callbacks.evaluate_every(options.evaluate_every, episodes=GAMES), stop),
        **settings,
    )  # fmt: skip
    if trained.summary["stopped_by"] not in (None, "callback"):
        sys.exit(f"stopped by {trained.summary['stopped_by']}")
    played = policygrad.evaluate(trained, episodes=GAMES, seed=10_000 + seed)
    known = [m for m in trained.metrics if m["return_mean"] is not None]
    return {
        "algorithm": algorithm,
        "seed": seed,
        "settings": settings,
        "env": trained.summary["env"],
        "steps": trained.summary["env_steps"],
        "evaluated": evaluated,
        "deterministic": played.deterministic.mean,
        "stochastic": played.stochastic.mean,
        "seconds": trained.summary["seconds"],
        "timings": trained.summary["timings"],
        "curve": [[m["env_steps"], m["return_mean"]] for m in known[::10] + known[-1:]],
    }


def steps_to_goal(line: dict[str, Any], name: str) -> str:
    """The steps of the first evaluation that reached the goal."""
    steps = next((x["steps"] for x in line["evaluated"] if x[name] >= GOAL), None)
    return f"{steps:,}" if steps else "not reached"


def run(options: argparse.Namespace) -> None:
    """Run the cells that are not in the file yet."""
    origin = provenance()
    ran = {(line["algorithm"], line["seed"]) for line in read_lines(options.results)}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for algorithm in options.algorithms:
            if (algorithm, seed) in ran:
                continue
            line = cell(algorithm, seed, options)
            append_line(options.results, line | origin)
            print(algorithm, seed, line["deterministic"], file=sys.stderr, flush=True)


def table(options: argparse.Namespace) -> None:
    """Print a row for each run."""
    print(
        "| algorithm | seed | steps | minutes | steps to 18, by the mode | by samples "
        "| 20 games at the end, by the mode | by samples "
        "| seconds in the gradient | in collecting |\n"
        "|---|---|---|---|---|---|---|---|---|---|"
    )
    for line in read_lines(options.results):
        shares = _shares(line["timings"])
        print(
            f"| {line['algorithm']} | {line['seed']} | {line['steps']:,} "
            f"| {line['seconds'] / 60:.0f} | {steps_to_goal(line, 'deterministic')} "
            f"| {steps_to_goal(line, 'stochastic')} "
            f"| {line['deterministic']:.1f} | {line['stochastic']:.1f} "
            f"| {shares['update']:.0%} | {shares['collect']:.0%} |"
        )


def _shares(timings: dict[str, float]) -> dict[str, float]:
    """Shares of a run's seconds, those of compiling among them."""
    total = sum(timings.values())
    return {name: seconds / total for name, seconds in timings.items()}


def speed(options: argparse.Namespace) -> None:
    """Print the rates of the simulator and of training, and the shares of a second."""
    rows = options.updates * options.batch_steps // LANES
    shares: list[dict[str, float]] = []
    settings = {
        "algorithm": options.algorithm,
        "batch_steps": options.batch_steps,
        **json.loads(options.settings),
    }

    def train() -> float:
        with tempfile.TemporaryDirectory() as folder:
            rate = training_rate(
                "envpool/Pong-v5", num_envs=LANES, out=Path(folder, "run"),
                total_steps=(2 + options.updates) * options.batch_steps, **settings,
            )  # fmt: skip
            timings = json.loads(Path(folder, "run", "summary.json").read_text())["timings"]
        shares.append({k: v for k, v in timings.items() if not k.startswith("first")})
        return rate

    train()  # compiles
    shares.clear()
    found = in_turns(
        {"EnvPool alone": lambda: stepping_rate(Pool("Pong-v5", LANES, PREPROCESSING), rows),
         "training": train},
        options.rounds,
    )  # fmt: skip
    steps = (1 + options.updates) * options.batch_steps
    parts = [
        _parts(t, steps / alone) for t, alone in zip(shares, found["EnvPool alone"], strict=True)
    ]
    ratio = median_ratio(found["training"], found["EnvPool alone"])
    print("| | steps/s |\n|---|---|")
    for name, rates in found.items():
        print(f"| {name} | {spread(rates)} |")
    print(f"| ratio | {ratio:.2f} |\n\n| part | share of the seconds |\n|---|---|")
    for name in parts[0]:
        print(f"| {name} | {spread([part[name] for part in parts], '.0%')} |")
    if options.json:
        line = {"steps_per_second": found, "ratio": ratio, "parts": parts} | settings
        options.json.write_text(json.dumps(provenance() | line, indent=1))


def _parts(timings: dict[str, float], of_simulator: float) -> dict[str, float]:
    """Shares of a run's seconds. Acting is what collection takes beside the simulator alone."""
    total = sum(timings.values())
    seconds = {
        "simulator": of_simulator,
        "acting": timings["collect"] - of_simulator,
        "policy gradient": timings["update"],
        "critic": timings.get("wait_for_refit", 0.0),
    }
    seconds["the rest"] = total - sum(seconds.values())
    return {name: value / total for name, value in seconds.items()}


def memory(options: argparse.Namespace) -> None:
    """Print the peak memory of training processes."""
    found = {}
    for batch in options.batch_steps:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "run")
            command = [
                policygrad_command(), "train", "envpool/Pong-v5", "--algorithm", options.algorithm,
                "--batch-steps", str(batch), "--total-steps", str(options.updates * batch),
                "--out", str(out), "--json",
            ]  # fmt: skip
            _, found[batch] = sampled(command, out / "metrics.jsonl", 0.2)
        print(f"batches of {batch:,} steps: peak {found[batch]:,.0f} MiB", flush=True)
    if options.json:
        options.json.write_text(json.dumps(provenance() | {"peak_mib": found}, indent=1))


def main() -> None:
    """Parse the command line and do what it asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(required=True)
    for action in (run, table, speed, memory):
        sub = actions.add_parser(action.__name__, help=(action.__doc__ or "").splitlines()[0])
        sub.set_defaults(action=action)
        if action in (run, table):
            sub.add_argument("results", type=Path, metavar="RESULTS.jsonl")
        else:
            sub.add_argument("--algorithm", default="vanilla" if action is speed else "ppo")
            sub.add_argument("--updates", type=int, default=8)
            sub.add_argument("--json", type=Path)
        if action in (run, speed):
            sub.add_argument("--settings", default="{}", help="further settings, as JSON")
        if action is run:
            sub.add_argument("--algorithms", nargs="+", default=["ppo"])
            sub.add_argument("--first-seed", type=int, default=1)
            sub.add_argument("--seeds", type=int, default=3, help="how many")
            sub.add_argument("--steps", type=int, default=2_000_000)
            sub.add_argument("--stop-at", type=float, default=18.5)
            sub.add_argument("--evaluate-every", type=int, default=200_000)
            sub.add_argument("--runs", type=Path, help="where run directories are written")
        if action is speed:
            sub.add_argument("--rounds", type=int, default=5)
            sub.add_argument("--batch-steps", type=int, default=2048)
        if action is memory:
            sub.add_argument("--batch-steps", type=int, nargs="+", default=[2048, 8192])
    options = parser.parse_args()
    options.action(options)


if __name__ == "__main__":
    main()

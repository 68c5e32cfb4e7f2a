"""Tasks that ask for a memory: trained with one and without, several seeds each.

    python benchmarks/memory_tasks.py run MEMORY.jsonl [--tasks …] [--memories none gru] [--seeds 5]
    python benchmarks/memory_tasks.py table MEMORY.jsonl [--json FILE]

CartPole with both velocities hidden, stepped by Gymnasium and compiled (gymnax), and as it is, for
comparison; and bsuite's two chains, compiled. In MemoryChain one bit is told at the start and asked
for at the end. In UmbrellaChain the first action decides, every observation tells what is needed,
and most rewards are noise: the memory is for the critic at most.

Each cell is one run with the defaults of an algorithm, in this process. What is in the file is not
run again; keep runs of other lengths, or of another `--num-envs`, in files of their own. Reported
is the mean return of fresh episodes by `policygrad.evaluate`, with sampled actions and with the
likeliest ones.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from common import append_line, provenance, read_lines
from hidden_velocities import CompiledHiddenVelocities, HiddenVelocities
from summary import mean_over_run

import policygrad

WITHOUT = "none"
KEYS = ("task", "memory", "algorithm", "seed")


@dataclass(frozen=True)
class Task:
    """What is trained, for how long, and how it is judged.

    Attributes:
        env: gives what `policygrad.train` takes.
        steps: environment steps of training.
        episodes: of the evaluation.
        best: the greatest mean return that is possible.
        goal: a mean return that counts as solved.
        kwargs: `env_kwargs`.
    """

    env: Callable[[], Any]
    steps: int
    episodes: int
    best: float
    goal: float
    kwargs: dict[str, Any] = field(default_factory=dict)


def by_name(name: str) -> Callable[[], str]:
    """Gives an id."""
    return lambda: name


TASKS = {
    "hidden CartPole, Gymnasium": Task(lambda: HiddenVelocities, 150_000, 100, 500.0, 450.0),
    "hidden CartPole, compiled": Task(cache(CompiledHiddenVelocities), 150_000, 100, 500.0, 450.0),
    "CartPole, compiled": Task(by_name("gymnax/CartPole-v1"), 150_000, 100, 500.0, 450.0),
    "MemoryChain": Task(by_name("gymnax/MemoryChain-bsuite"), 100_000, 1000, 1.0, 0.95),
    "MemoryChain of 30": Task(
        by_name("gymnax/MemoryChain-bsuite"), 200_000, 1000, 1.0, 0.95, {"memory_length": 30}
    ),
    # nine of ten rewards are ±1 by chance: a return's deviation is 3, and the mean's 0.03
    "UmbrellaChain": Task(by_name("gymnax/UmbrellaChain-bsuite"), 100_000, 10_000, 1.0, 0.9),
}


def cell(name: str, memory: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run and its evaluation."""
    task = TASKS[name]
    remembers = {} if memory == WITHOUT else {"memory": memory}
    started = time.perf_counter()
    run = policygrad.train(
        task.env(),
        env_kwargs=task.kwargs or None,
        algorithm=options.algorithm,
        num_envs=options.num_envs,
        seed=seed,
        total_steps=options.steps or task.steps,
        **remembers,
    )
    if run.interrupted:
        raise SystemExit(f"{name}, {memory}, seed {seed}: stopped; it will be run again")
    seconds = time.perf_counter() - started
    found = policygrad.evaluate(run, seed=10_000 + seed, episodes=task.episodes)
    return {
        "task": name,
        "memory": memory,
        "algorithm": options.algorithm,
        "rows": run.config.rows,
        "seed": seed,
        "steps": run.summary["env_steps"],
        "episodes": task.episodes,
        "stochastic": found.stochastic.mean,
        "deterministic": found.deterministic.mean,
        "over_run": mean_over_run(run.metrics),
        "seconds": seconds,
    }


def run(options: argparse.Namespace) -> None:
    """Run what is not in the file yet."""
    origin = provenance()
    ran = [tuple(line[k] for k in KEYS) for line in read_lines(options.file)]
    for seed in range(options.seeds):
        for name in options.tasks:
            for memory in options.memories:
                if (name, memory, options.algorithm, seed) in ran:
                    continue
                line = cell(name, memory, seed, options)
                append_line(options.file, line | origin)
                told = f"{line['stochastic']:.2f}, {line['seconds']:.0f} s"
                print(name, memory, seed, told, file=sys.stderr, flush=True)


def rows_of(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a task, memory and algorithm, by seed in rising order."""
    rows = []
    for key in dict.fromkeys(tuple(line[k] for k in KEYS[:-1]) for line in lines):
        cells = [line for line in lines if tuple(line[k] for k in KEYS[:-1]) == key]
        cells.sort(key=lambda line: line["seed"])
        columns = ("seed", "stochastic", "deterministic", "over_run", "seconds")
        row = dict(zip(KEYS, key, strict=False)) | {"steps": cells[0]["steps"]}
        row |= {name: [line[name] for line in cells] for name in columns}
        goal = TASKS[key[0]].goal
        rows.append(row | {"goal": goal, "solved": sum(x >= goal for x in row["stochastic"])})
    return sorted(rows, key=lambda row: list(TASKS).index(row["task"]))


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    shown = [
        "| task | memory | algorithm | steps | sampled actions, by seed "
        "| likeliest actions, by seed | at the goal |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        digits = 0 if TASKS[row["task"]].best > 10 else 2
        sampled, likeliest = (
            ", ".join(f"{round(x, digits) + 0.0:.{digits}f}" for x in row[name])
            for name in ("stochastic", "deterministic")
        )
        goal = f"{row['solved']} of {len(row['seed'])} (≥ {row['goal']:g})"
        shown.append(
            f"| {row['task']} | {row['memory']} | {row['algorithm']} | {row['steps']:,} "
            f"| {sampled} | {likeliest} | {goal} |"
        )
    return "\n".join(shown)


def table(options: argparse.Namespace) -> None:
    """Print the table, and where asked, write its numbers."""
    rows = rows_of(read_lines(options.file))
    print(markdown(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def main() -> None:
    """Parse the command line and do what it asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(required=True)
    for action in (run, table):
        sub = actions.add_parser(action.__name__, help=(action.__doc__ or "").splitlines()[0])
        sub.add_argument("file", type=Path, metavar="MEMORY.jsonl")
        sub.set_defaults(action=action)
        if action is run:
            sub.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
            sub.add_argument("--memories", nargs="+", choices=[WITHOUT, "gru", "lstm"],
                             default=[WITHOUT, "gru"])  # fmt: skip
            sub.add_argument("--algorithm", default="ppo")
            sub.add_argument("--seeds", type=int, default=5)
            sub.add_argument("--num-envs", type=int, default=16)
            sub.add_argument("--steps", type=int, help="in place of each task's own number")
        else:
            sub.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.action(options)


if __name__ == "__main__":
    main()

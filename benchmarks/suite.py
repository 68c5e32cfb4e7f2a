"""Tasks × algorithms × seeds: train, evaluate, a table with intervals, learning curves.

    python benchmarks/suite.py run RESULTS.jsonl --tasks HalfCheetah-v5 --algorithms vanilla ppo
    python benchmarks/suite.py table RESULTS.jsonl
    python benchmarks/suite.py plot RESULTS.jsonl --out curves.png

Every cell runs in processes of its own and appends one line of JSON: this library as a user would,
with `policygrad train` and `policygrad evaluate` and the defaults of an algorithm; its peers with
their own defaults, in interpreters of their own (`requirements-sb3.txt`, `requirements-rejax.txt`).
A cell whose line is in the file is not run again, so that a run which was stopped goes on; keep
runs of different length in different files. Reported is the stochastic policy's mean return over
100 evaluation episodes.
"""

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import curves
import summary
from common import (
    WORKERS,
    CellFailed,
    append_line,
    child_json,
    policygrad,
    provenance,
    read_lines,
)
from tasks import KNOWN, TASKS

OURS = ("vanilla", "natural", "trpo", "ppo")
SB3 = ("sb3-ppo", "sb3-ppo-normalised", "sb3-a2c", "sb3-a2c-normalised")
REJAX = ("rejax-ppo",)
REJAX_TASKS = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1")


def recent_returns(run: Path, points: int = 200) -> list[list[float]]:
    """[environment steps, mean of the last 100 training returns], about `points` of them."""
    lines = read_lines(run / "metrics.jsonl")
    known = [[m["env_steps"], m["return_mean"]] for m in lines if m["return_mean"] is not None]
    return known[:: max(1, len(known) // points)] + known[-1:]


def our_cell(task: str, algorithm: str, seed: int, steps: int) -> dict[str, Any]:
    """One run of this library with the defaults of an algorithm."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        trained = policygrad(
            "train", task, "--algorithm", algorithm, "--seed", str(seed),
            "--total-steps", str(steps), "--out", str(run),
        )  # fmt: skip
        result = policygrad("evaluate", str(run), "--seed", str(10_000 + seed))
        return {
            "task": task,
            "algorithm": algorithm,
            "seed": seed,
            "steps": trained["env_steps"],
            "env": trained["env"],
            "stochastic": result["stochastic"],
            "deterministic": result["deterministic"],
            "seconds": trained["seconds"],
            "timings": trained["timings"],
            "curve": recent_returns(run),
        }


def peer_cell(
    python: str, worker: str, task: str, algorithm: str, seed: int, steps: int
) -> dict[str, Any]:
    """One run of another library, with its own defaults, in its own interpreter."""
    arguments = [task, "--algorithm", algorithm, "--seed", str(seed), "--steps", str(steps)]
    line = child_json([python, str(WORKERS / worker), *arguments])
    return {"task": task, "algorithm": algorithm, "seed": seed} | line


def run(options: argparse.Namespace) -> None:
    """Run the cells that are not in the file yet; a cell that fails leaves the others running."""
    origin = provenance()
    ran = {(line["task"], line["algorithm"], line["seed"]) for line in read_lines(options.results)}
    cells = [
        (task, algorithm, options.first_seed + seed)
        for seed in range(options.seeds)
        for task in options.tasks
        for algorithm in options.algorithms
        if algorithm not in REJAX or task in REJAX_TASKS
    ]
    pythons = {"run_sb3.py": options.sb3_python, "run_rejax.py": options.rejax_python}
    failed = []

    def one(cell: tuple[str, str, int]) -> None:
        task, algorithm, seed = cell
        steps = options.steps or KNOWN[task].steps
        try:
            if algorithm in OURS:
                line = our_cell(task, algorithm, seed, steps)
            else:
                worker = "run_sb3.py" if algorithm in SB3 else "run_rejax.py"
                line = peer_cell(pythons[worker], worker, task, algorithm, seed, steps)
        except CellFailed as error:
            failed.append(cell)
            print(f"{cell}: {error}", file=sys.stderr, flush=True)
            return
        append_line(options.results, line | origin)
        print(*cell, f"{line['stochastic']['mean']:.1f}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, [cell for cell in cells if cell not in ran]))
    if failed:
        sys.exit(f"{len(failed)} of {len(cells)} cells failed")


def table(options: argparse.Namespace) -> None:
    """Print the table, and where asked, write its numbers."""
    rows = summary.rows_of(read_lines(options.results))
    print(summary.markdown(rows))
    if options.json:
        options.json.write_text(json.dumps([vars(row) for row in rows], indent=1))


def plot(options: argparse.Namespace) -> None:
    """Draw the learning curves."""
    out = options.out or options.results.with_suffix(".png")
    curves.draw(read_lines(options.results), out)
    print(out)


def main() -> None:
    """Parse the command line and do what it asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(required=True)
    for action in (run, table, plot):
        sub = actions.add_parser(action.__name__, help=(action.__doc__ or "").splitlines()[0])
        sub.add_argument("results", type=Path, metavar="RESULTS.jsonl")
        sub.set_defaults(action=action)
        if action is run:
            sub.add_argument("--tasks", nargs="+", choices=list(KNOWN), default=list(TASKS))
            known = [*OURS, *SB3, *REJAX]
            sub.add_argument("--algorithms", nargs="+", choices=known, default=list(OURS))
            sub.add_argument("--seeds", type=int, default=5, help="how many")
            sub.add_argument("--first-seed", type=int, default=0)
            sub.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
            sub.add_argument("--steps", type=int, help="in place of each task's own number")
            sub.add_argument("--sb3-python", default=".venv-sb3/bin/python")
            sub.add_argument("--rejax-python", default=".venv-rejax/bin/python")
        elif action is table:
            sub.add_argument("--json", type=Path)
        else:
            sub.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.action(options)


if __name__ == "__main__":
    main()

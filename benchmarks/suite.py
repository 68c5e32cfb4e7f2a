"""Tasks × algorithms × seeds: train, evaluate, a table with intervals, learning curves.

    python benchmarks/suite.py run RESULTS.jsonl --tasks HalfCheetah-v5 --algorithms vanilla ppo
    python benchmarks/suite.py table RESULTS.jsonl
    python benchmarks/suite.py trial RESULTS.jsonl
    python benchmarks/suite.py choice RESULTS.jsonl --against natural
    python benchmarks/suite.py plot RESULTS.jsonl --out curves.png

Every cell runs in processes of its own and appends one line of JSON: this library as a user would,
with `policygrad train` and `policygrad evaluate` and the defaults of an algorithm; its peers in
interpreters of their own (`requirements-sb3.txt`, `requirements-rejax.txt`), with their own
defaults or with the settings of rl-baselines3-zoo. A cell whose line is in the file is not run
again, so that a run which was stopped goes on; keep runs of different length in different files.
Ctrl-C and SIGTERM end the cells that are running. Reported are the mean returns of the stochastic
and of the deterministic policy over 100 evaluation episodes each.
"""

import argparse
import json
import os
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cells
import choice
import curves
import summary
import trial
from children import CHILDREN, CellFailed, interrupt_on_sigterm
from common import append_line, provenance, read_lines
from tasks import GROUPS, KNOWN, named


def cells_of(options: argparse.Namespace) -> list[cells.Cell]:
    """The cells that are asked for, seed by seed, those of peers only where they have the task.

    Raises:
        ValueError: an algorithm or settings that are not known.
    """
    settings = {name: cells.settings_of(name, options.settings) for name in options.algorithms}
    asked = {name for algorithm in options.algorithms for name in algorithm.split("+")[1:]}
    if unused := set(options.settings) - asked:
        raise ValueError(f"settings that no algorithm asks for, as ALGORITHM+NAME: {unused}")
    return [
        cells.Cell(task, algorithm, seed, options.steps or KNOWN[task].steps, settings[algorithm])
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for task in options.tasks
        for algorithm in options.algorithms
        if cells.defined(algorithm, task)
    ]


def not_yet_run(wanted: list[cells.Cell], results: Path) -> list[cells.Cell]:
    """Those without a line in the file.

    Raises:
        ValueError: the file holds one of them, run by another command.
    """
    lines = {(x["task"], x["algorithm"], x["seed"]): x for x in read_lines(results)}
    for cell in wanted:
        command = lines.get(cell.key, {}).get("command", cell.command)
        if command != cell.command:
            raise ValueError(
                f"{results} holds {cell.key} by another command; take another file, or name the "
                f"settings otherwise\n  there: {command}\n  now:   {cell.command}"
            )
    return [cell for cell in wanted if cell.key not in lines]


def run(options: argparse.Namespace) -> None:
    """Run the cells that are not in the file yet; a cell that fails leaves the others running."""
    try:
        wanted = cells_of(options)
        left = not_yet_run(wanted, options.results)
    except ValueError as error:
        sys.exit(str(error))
    pythons = {"run_sb3.py": options.sb3_python, "run_rejax.py": options.rejax_python}
    failed = []

    def one(cell: cells.Cell) -> None:
        origin = provenance()
        try:
            line = cells.ran(cell, pythons)
        except CellFailed as error:
            failed.append(cell)
            print(f"{cell.key}: {error}", file=sys.stderr, flush=True)
            return
        append_line(options.results, origin | line)
        means = [f"{way} {line[way]['mean']:.1f}" for way in trial.WAYS]
        print(*cell.key, *means, file=sys.stderr, flush=True)

    interrupt_on_sigterm()
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            list(pool.map(one, left))
        except KeyboardInterrupt:
            CHILDREN.stop()
            sys.exit("interrupted; the same command goes on from here")
    if failed:
        sys.exit(f"{len(failed)} of {len(wanted)} cells failed")


def table(options: argparse.Namespace) -> None:
    """Print the table, and where asked, write its numbers."""
    rows = summary.rows_of(read_lines(options.results))
    print(summary.markdown(rows))
    if options.json:
        options.json.write_text(json.dumps([vars(row) for row in rows], indent=1))


def trial_(options: argparse.Namespace) -> None:
    """Print one column an algorithm, peers beside ours, deterministic and stochastic."""
    first = options.peer_first_seed
    first = options.first_seed if first is None else first
    ours = range(options.first_seed, options.first_seed + options.seeds)
    peers = range(first, first + options.peer_seeds)
    plan = trial.Plan(
        {task: options.steps or KNOWN[task].steps for task in options.tasks},
        dict.fromkeys(options.ours, ours) | dict.fromkeys(options.peers, peers),
    )
    lines = read_lines(options.results)
    print(trial.markdown(plan, lines))
    if options.json:
        options.json.write_text(json.dumps(trial.numbers(plan, lines), indent=1))


def choice_(options: argparse.Namespace) -> None:
    """Print how much every algorithm of a file gains over one of them."""
    try:
        found = choice.comparisons(read_lines(options.results), options.against)
    except ValueError as error:
        sys.exit(f"{options.results}: {error}")
    print(choice.markdown(found, options.against))
    if options.json:
        options.json.write_text(json.dumps([choice.plain(c) for c in found], indent=1))


def plot(options: argparse.Namespace) -> None:
    """Draw the learning curves."""
    out = options.out or options.results.with_suffix(".png")
    curves.draw(read_lines(options.results), out)
    print(out)


def settings(text: str) -> tuple[str, tuple[str, ...]]:
    """`NAME=FLAGS` of the command line."""
    name, equals, flags = text.partition("=")
    if not name or not equals or "+" in name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME='--flag value …'")
    return name, tuple(shlex.split(flags))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    actions = parser.add_subparsers(required=True)
    for action in (run, table, trial_, choice_, plot):
        name = action.__name__.rstrip("_")
        sub = actions.add_parser(name, help=(action.__doc__ or "").splitlines()[0])
        sub.add_argument("results", type=Path, metavar="RESULTS.jsonl")
        sub.set_defaults(action=action)
        if action in (run, trial_):
            group = "default" if action is run else "mujoco"
            sub.add_argument(
                "--tasks", nargs="+", choices=[*GROUPS, *KNOWN], default=[group], metavar="TASK",
                help=f"by their ids, or groups of them: {', '.join(GROUPS)}",
            )  # fmt: skip
            sub.add_argument("--steps", type=int, help="in place of each task's own number")
        if action in (table, trial_, choice_):
            sub.add_argument("--json", type=Path)
        if action is choice_:
            sub.add_argument("--against", default="natural", help="the algorithm of the file")
        if action is run:
            sub.add_argument("--algorithms", nargs="+", default=list(cells.OURS))
            sub.add_argument(
                "--settings", type=settings, action="append", default=[], metavar="NAME='--FLAG …'",
                help="of `policygrad train`, for the algorithm ALGORITHM+NAME",
            )  # fmt: skip
            sub.add_argument("--seeds", type=int, default=5, help="how many")
            sub.add_argument("--first-seed", type=int, default=0)
            sub.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
            sub.add_argument("--sb3-python", default=".venv-sb3/bin/python")
            sub.add_argument("--rejax-python", default=".venv-rejax/bin/python")
        elif action is trial_:
            peers = [*cells.ZOO, "sb3-ppo-normalised"]
            sub.add_argument("--ours", nargs="+", default=["natural"], help="the first is judged")
            sub.add_argument("--peers", nargs="+", choices=cells.PEERS, default=peers)
            sub.add_argument("--seeds", type=int, default=10, help="how many of ours")
            sub.add_argument("--first-seed", type=int, default=20)
            sub.add_argument("--peer-seeds", type=int, default=5, help="how many of peers")
            sub.add_argument("--peer-first-seed", type=int, help="default: that of ours")
        elif action is plot:
            sub.add_argument("--out", type=Path)
    return parser


def main() -> None:
    """Parse the command line and do what it asks."""
    options = parser().parse_args()
    if "tasks" in options:
        options.tasks = named(options.tasks)
    if "settings" in options:
        options.settings = dict(options.settings)
    options.action(options)


if __name__ == "__main__":
    main()

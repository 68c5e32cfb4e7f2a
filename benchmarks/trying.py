"""Does the doctor's advice pay, once it was tried?

    python benchmarks/trying.py cures TRYING.jsonl [--only NAME …] [--seeds 5] [--budget 50000]
    python benchmarks/trying.py gains TRYING.jsonl [--only NAME …] [--seeds 5]
    python benchmarks/trying.py table TRYING.jsonl

`cures`: the twelve broken runs and the twelve healthy ones of `doctor.py`. Each is trained,
diagnosed and tried. The first advice and what was adopted are then trained on seeds that the trial
did not see, beside the healthy settings: what share of their gain do they reach? (The gain is
counted from the return of the untrained policy, since many returns are negative.) Where the
environment is what is broken, no setting helps; what is counted is whether the doctor says so. On a
healthy run what was adopted is trained beside the defaults, on such seeds too.

`gains`: for each task and seed, a run with the defaults is diagnosed and tried. What was adopted is
trained from nothing for as long as the run, beside the defaults for as long as the run and the
trial together took.

What is in the file is not run again.
"""

import argparse
import contextlib
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import append_line, provenance, read_lines
from doctor import CASES, HEALTHY, Case

import policygrad
from policygrad.core.errors import NonFiniteError
from policygrad.doctor.trial_runs import TrialRuns
from policygrad.doctor.verdict import Outcome, difference, outcome_of

STEPS = 20_480  # of a run that is diagnosed in `cures`
UNSEEN = 1000  # the first of the seeds that no trial has
ENOUGH = 0.9  # of the healthy run's gain
GAINS = {  # algorithm, steps
    "CartPole-v1": ("vanilla", 100_000),
    "Acrobot-v1": ("vanilla", 150_000),
    "Hopper-v5": ("vanilla", 300_000),
    "Pendulum-v1": ("vanilla", 200_000),
    "FrozenLake-v1": ("vanilla", 100_000),
    "Walker2d-v5": ("vanilla", 300_000),
}


def trained(env: Any, out: Path, **settings: Any) -> None:
    """A run on disk; one that stops by itself is diagnosed like any other."""
    with contextlib.suppress(NonFiniteError):
        finished(policygrad.train(env, out=out, **settings))


def finished(run: policygrad.Run) -> policygrad.Run:
    """The run; KeyboardInterrupt if somebody stopped it, since half a run is no figure."""
    if run.interrupted:
        raise KeyboardInterrupt
    return run


class RowsOnly:
    """A callback that keeps the metrics of every update."""

    needs_state = False

    def __init__(self, rows: list[Mapping[str, Any]]) -> None:
        self.rows = rows

    def __call__(self, metrics: Mapping[str, Any]) -> None:
        self.rows.append(metrics)


def reached(env: Any, seeds: Iterable[int], **settings: Any) -> list[Outcome]:
    """What runs from nothing reach."""
    found = []
    for seed in seeds:
        rows: list[Mapping[str, Any]] = []
        failed, keep_row = None, RowsOnly(rows)
        try:
            finished(policygrad.train(env, seed=seed, on_update=keep_row, **settings))
        except NonFiniteError as error:
            failed = str(error)
        found.append(outcome_of(rows, failed))
    return found


def settings_of(run: Path, adopted: Mapping[str, Any], steps: int) -> policygrad.TrainConfig:
    """The settings of a run with what was adopted."""
    from policygrad.doctor.subject import Subject

    return TrialRuns.of(Subject.of(run, {}), steps, None).config(adopted)


def reached_with(env: Any, seeds: Iterable[int], config: policygrad.TrainConfig) -> list[Outcome]:
    """As `reached`, with a configuration."""
    found = []
    for seed in seeds:
        run = finished(policygrad.train(env, config=replace(config, seed=seed)))
        found.append(outcome_of(run.metrics))
    return found


def mean(outcomes: Iterable[Outcome], name: str) -> float:
    """The mean of one number of outcomes."""
    return float(np.mean([getattr(outcome, name) for outcome in outcomes]))


def cure(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """One broken or healthy run: diagnosed, tried, and trained with what was adopted."""
    name, algorithm = case.tasks[0]
    env, started = case.env(name), time.perf_counter()
    own = None if isinstance(env, str) else env
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        trained(env, path, seed=0, total_steps=STEPS, algorithm=algorithm,
                **case.settings(algorithm))  # fmt: skip
        diagnosis = policygrad.diagnose(path, own)
        trial = policygrad.try_advice(
            path, own, diagnosis=diagnosis, seeds=options.seeds, budget=options.budget
        )
        if trial.interrupted:
            raise KeyboardInterrupt
        seeds = range(UNSEEN, UNSEEN + options.seeds)
        line: dict[str, Any] = {
            "case": case.what,
            "broken": case.expected is not None,
            "env": name,
            "algorithm": algorithm,
            "found": [finding.name for finding in diagnosis.findings],
            "right": [f.name for f in diagnosis.findings[:1]] == [case.expected],
            "in_the_environment": own is not None,
            "budget": trial.budget,
            "trial": trial.to_json() | {"sides": None},
            "adopted": dict(trial.adopted),
        }
        if own is None and (case.expected is not None or trial.adopted):
            config = settings_of(path, trial.adopted, trial.budget)
            with_advice = reached_with(env, seeds, config)
            first = trial.tried[0].change.settings if trial.tried else {}
            with_first = with_advice
            if dict(first) != dict(trial.adopted):
                with_first = reached_with(env, seeds, settings_of(path, first, trial.budget))
            healthy = reached(name, seeds, algorithm=algorithm, total_steps=trial.budget)
            start = mean(healthy, "start")
            gain = mean(healthy, "end") - start
            apart = [x.end - y.end for x, y in zip(with_advice, healthy, strict=True)]
            line |= {
                "start": start,
                "healthy": mean(healthy, "end"),
                "with_advice": mean(with_advice, "end"),
                "with_first": mean(with_first, "end"),
                "share": (mean(with_advice, "end") - start) / gain if gain else None,
                "share_of_first": (mean(with_first, "end") - start) / gain if gain else None,
                "difference": difference(apart, 0.05).to_json(),
            }
    return line | {"seconds": time.perf_counter() - started}


def gain(task: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One default run: tried, and trained with what was adopted; the trial's cost is counted."""
    algorithm, steps = GAINS[task]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        trained(task, path, seed=seed, total_steps=steps, algorithm=algorithm)
        trial = policygrad.try_advice(path, seeds=options.seeds, budget=options.budget)
        if trial.interrupted:
            raise KeyboardInterrupt
        if trial.adopted:
            (after,) = reached_with(task, [UNSEEN + seed], settings_of(path, trial.adopted, steps))
            (default,) = reached(
                task, [UNSEEN + seed], algorithm=algorithm, total_steps=steps + trial.steps
            )
    line = {
        "task": task,
        "seed": seed,
        "adopted": dict(trial.adopted),
        "tried": [x["change"]["settings"] for x in trial.to_json()["tried"]],
        "trial_steps": trial.steps,
        "steps": steps,
        "seconds": time.perf_counter() - started,
    }
    if trial.adopted:
        line |= {"with_advice": after.end, "default_for_as_long": default.end}
    return line


def cures(options: argparse.Namespace) -> None:
    """Run the broken and the healthy cases that are not in the file yet."""
    done = {x["case"] for x in read_lines(options.file) if x["kind"] == "cure"}
    for case in (*CASES, *HEALTHY):
        if case.what not in done and wanted(options, case.what):
            keep(options, {"kind": "cure", **cure(case, options)})


def gains(options: argparse.Namespace) -> None:
    """Run the tasks and seeds that are not in the file yet."""
    done = {(x["task"], x["seed"]) for x in read_lines(options.file) if x["kind"] == "gain"}
    for seed in range(options.seeds):
        for task in GAINS:
            if (task, seed) not in done and wanted(options, task):
                keep(options, {"kind": "gain", **gain(task, seed, options)})


def wanted(options: argparse.Namespace, name: str) -> bool:
    """Whether a cell was asked for."""
    return not options.only or any(part in name for part in options.only)


def keep(options: argparse.Namespace, line: dict[str, Any]) -> None:
    """Write a cell, and say so."""
    append_line(options.file, line | provenance())
    what = line.get("case") or f"{line['task']}, seed {line['seed']}"
    print(f"{what}: {line['adopted'] or 'nothing adopted'}, {line['seconds']:.0f} s",
          file=sys.stderr, flush=True)  # fmt: skip


def table(options: argparse.Namespace) -> None:
    """Print every cell, and the counts."""
    lines = read_lines(options.file)
    cells = [x for x in lines if x["kind"] == "cure"]
    print("| case | run | first finding | adopted | with it | healthy | share | share of the first "
          "advice | trial |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for x in cells:
        numbers = [f"{x[k]:.4g}" if x.get(k) is not None else "–"
                   for k in ("with_advice", "healthy", "share", "share_of_first")]  # fmt: skip
        adopted = ", ".join(f"{k} {v}" for k, v in x["adopted"].items()) or "nothing"
        if x["in_the_environment"]:
            adopted = "nothing: the environment is to be corrected"
        print(f"| {x['case']} | {x['env']}, {x['algorithm']} | {(x['found'] or ['healthy'])[0]} | "
              f"{adopted} | {' | '.join(numbers)} | {x['trial']['steps']:,} steps |")  # fmt: skip
    broken = [x for x in cells if x["broken"]]
    settings = [x for x in broken if not x["in_the_environment"]]
    advised = sum((x.get("share_of_first") or 0) >= ENOUGH for x in settings)
    cured = sum((x.get("share") or 0) >= ENOUGH for x in settings)
    named = sum(x["right"] for x in broken if x["in_the_environment"])
    print(f"\ncured by the first advice: {advised} of {len(settings)}; by what the trial adopted: "
          f"{cured}; the environment named as broken: {named} of {len(broken) - len(settings)}"
          )  # fmt: skip
    healthy = [x for x in cells if not x["broken"]]
    worse = [x for x in healthy if x.get("difference", {}).get("high", 0) < 0]
    changed = sum(bool(x["adopted"]) for x in healthy)
    print(f"healthy: {len(healthy)}, something adopted in {changed}, "
          f"lower beyond the interval in {len(worse)}")  # fmt: skip
    gained = [x for x in lines if x["kind"] == "gain"]
    print("\n| task | seeds | adopted in | with it − default, as long with the trial |\n"
          "|---|---|---|---|")  # fmt: skip
    for task in dict.fromkeys(x["task"] for x in gained):
        mine = [x for x in gained if x["task"] == task]
        apart = [x["with_advice"] - x["default_for_as_long"] for x in mine if x["adopted"]]
        apart += [0.0] * (len(mine) - len(apart))
        shown = "–"
        if len(apart) > 1:
            found = difference(apart, 0.05)
            shown = f"{found.value:.4g} [{found.low:.4g}, {found.high:.4g}]"
        print(f"| {task} | {len(mine)} | {sum(bool(x['adopted']) for x in mine)} | {shown} |")


def main() -> None:
    """Parse the command line and do what it asks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    actions = parser.add_subparsers(required=True)
    for action in (cures, gains, table):
        sub = actions.add_parser(action.__name__, help=(action.__doc__ or "").splitlines()[0])
        sub.add_argument("file", type=Path, metavar="TRYING.jsonl")
        sub.set_defaults(action=action)
        if action is not table:
            sub.add_argument("--only", nargs="*", help="parts of the cells' names")
            sub.add_argument("--seeds", type=int, default=5)
            sub.add_argument("--budget", type=int, help="steps of each run of a trial")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.action(options)


if __name__ == "__main__":
    main()

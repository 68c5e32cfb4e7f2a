"""From a run to a trial of the doctor's advice on it, and the file that keeps the trial."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import policygrad
from policygrad.core.errors import RunError, UserError
from policygrad.core.plain import to_json
from policygrad.core.shell import user_path
from policygrad.doctor.changes import changes_of
from policygrad.doctor.diagnosis import diagnose
from policygrad.doctor.result import Diagnosis
from policygrad.doctor.subject import Subject
from policygrad.doctor.trial_runs import OnTrialUpdate, TrialRuns
from policygrad.doctor.trials_shown import announced
from policygrad.doctor.trying import Side, Trial, try_changes
from policygrad.doctor.units import Say, silent
from policygrad.doctor.verdict import Outcome
from policygrad.runs import RunDirectory, storage

SEEDS = 5
LEAST, MOST = 50_000, 250_000  # steps of a run of a trial, where nobody says how many
FILE = "trial.json"  # in the run's directory


def try_advice(
    run: str | Path,
    env: Any = None,
    *,
    diagnosis: Diagnosis | None = None,
    seeds: int = SEEDS,
    budget: int | None = None,
    begin: Say = silent,
    tell: Callable[[Trial], None] = lambda trial: None,
    on_update: OnTrialUpdate | None = None,
    **objects: Any,
) -> Trial:
    """Train each change that the doctor proposes beside the settings in use, and compare.

    Both sides begin afresh with the same seeds, none of which is the run's own: a run that is
    diagnosed may have had bad luck. Of the run's directory nothing is changed; `trial.json` is
    added. A trial that was interrupted goes on from there.

    Args:
        run: a run directory, finished or not.
        env: as of `diagnose`.
        diagnosis: of the run; None makes one.
        seeds: how many at most, at least 2. Three are enough where the outcome is clear.
        budget: environment steps of each run. None takes as many as the run has, but at least
            50,000 and at most 250,000.
        begin: called with what is going to be done, and what it may cost.
        tell: called after every change with the trial so far.
        on_update: called with the changed settings, the seed and the metrics of every update.
        objects: as of `diagnose`.

    Returns:
        What was tried, with verdicts, and which settings to change.

    Raises:
        UserError: a number out of range, or a run that cannot be trained anew.
        RunError: a run that is missing or damaged.
    """
    subject, runs = opened(run, env, seeds, budget, on_update, **objects)
    if diagnosis is None:
        diagnosis = diagnose(run, env, **objects)
    changes = changes_of(diagnosis.findings, diagnosis.examination.settings)
    trial = Trial(runs.budget, seeds_of(subject, seeds))
    if not changes:
        begin("nothing to try: no finding proposes another setting")
        return trial
    file = TrialFile(subject.directory, runs, own=bool(subject.objects))
    known = file.read()
    most = runs.cost((change.settings for change in changes), seeds)
    begin(announced(changes, seeds, runs.budget, most, sum(side.steps for side in known)))
    file.write(replace(trial, sides=known))  # first, so that an error comes before hours of work

    def told(trial: Trial) -> None:
        file.write(trial)
        tell(trial)

    return try_changes(
        changes, runs, budget=trial.budget, seeds=trial.seeds, known=known, tell=told
    )


def opened(
    run: str | Path, env: Any, seeds: int, budget: int | None,
    on_update: OnTrialUpdate | None = None, **objects: Any,
) -> tuple[Subject, TrialRuns]:  # fmt: skip
    """The run, and what trains the runs of a trial of it; arguments and errors of `try_advice`."""
    if seeds < 2:
        raise UserError(f"--seeds of a trial must be at least 2, got {seeds}")
    if budget is not None and budget < 1:
        raise UserError(f"--budget must be at least 1 step, got {budget}")
    subject = Subject.of(user_path(run), {**objects, "env": env})
    runs = TrialRuns.of(subject, budget or budget_of(subject), on_update)
    runs.check({})
    return subject, runs


def budget_of(subject: Subject) -> int:
    """Steps of a run of a trial, where nobody says how many."""
    return min(max(subject.recorded().env_steps, LEAST), MOST)


def seeds_of(subject: Subject, count: int) -> tuple[int, ...]:
    """The first seeds from 0 on, without the run's own."""
    own = subject.resolved.config.seed
    return tuple([seed for seed in range(count + 1) if seed != own][:count])


class TrialFile:
    """`trial.json` in the directory of a run; `trial-2.json` and so on beside another trial's.

    A trial goes on in its own file, and leaves those of other settings, budgets and environments,
    and what it cannot read, as they are.

    Args:
        directory: of the run.
        runs: of the trial.
        own: whether objects were passed, which may have changed since.
    """

    def __init__(self, directory: RunDirectory, runs: TrialRuns, *, own: bool) -> None:
        self._directory = directory
        self._of = to_json({
            "policygrad": policygrad.__version__, "asked": runs.asked, "budget": runs.budget,
            "env": None if own else runs.env, "env_kwargs": runs.env_kwargs,
        })  # fmt: skip
        for number in itertools.count(1):
            self.name = FILE if number == 1 else f"{Path(FILE).stem}-{number}.json"
            if not (directory.path / self.name).exists() or (not own and self._sides() is not None):
                break

    def write(self, trial: Trial) -> None:
        """Keep a trial."""
        self._directory.write_json(self.name, {"of": self._of, **trial.to_json()})

    def read(self) -> tuple[Side, ...]:
        """What was trained before, with the same settings, environment and budget."""
        return self._sides() or ()

    def _sides(self) -> tuple[Side, ...] | None:
        """Of the file; None where it is missing, damaged, or another trial's."""
        try:
            data = storage.read_signed(self._directory.path / self.name)
            return tuple(map(_side, data["sides"])) if data["of"] == self._of else None
        except (OSError, RunError, KeyError, TypeError, ValueError, AttributeError):
            return None


def _side(data: dict[str, Any]) -> Side:
    def outcome(found: dict[str, Any]) -> Outcome:
        start, end, area = (
            math.nan if found[k] is None else found[k] for k in ("start", "end", "area")
        )
        return Outcome(start, end, area, found["steps"], found["failed"])

    return Side(data["settings"], {int(k): outcome(v) for k, v in data["outcomes"].items()})

"""Trying the doctor's advice: each change is trained beside the settings in use, same seeds.

The first is the advice for the most likely cause. What is adopted becomes the settings in use for
what is tried after it. The other changes that the same finding proposes are then left out.
"""

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from policygrad.core.errors import UserError
from policygrad.core.plain import to_json
from policygrad.doctor.changes import Change
from policygrad.doctor.verdict import ADOPT, UNCLEAR, Outcome, Verdict, judge, looks_of

Settings = Mapping[str, Any]


class Interrupted(KeyboardInterrupt):
    """Somebody asked to stop: the runs that ended are kept, the one in progress is not.

    Attributes:
        exit_code: what a command exits with: 128 and the number of the signal.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


class Runs(Protocol):
    """What trains the runs of a trial."""

    def check(self, settings: Settings) -> None:
        """UserError if a run cannot have these changes."""
        ...

    def train(self, settings: Settings, seeds: Sequence[int], done: dict[int, Outcome]) -> None:
        """Train seeds with some settings changed, and add to `done` what each reached.

        Raises:
            Interrupted: somebody asked to stop.
        """
        ...


@dataclass(frozen=True)
class Side:
    """Runs with the same settings.

    Attributes:
        settings: what differs from the run that was diagnosed.
        outcomes: by seed.
    """

    settings: Settings
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Environment steps of all of its runs."""
        return sum(outcome.steps for outcome in self.outcomes.values())


@dataclass(frozen=True)
class Tried:
    """One change, and what became of it.

    Attributes:
        change: what was proposed.
        against: the changes that the settings in use had when it was tried.
        verdict: None if it was not tried.
        reason: why it was not; None if it was.
        steps: environment steps that it cost, those of the settings in use where they were trained
            for it.
    """

    change: Change
    against: Settings
    verdict: Verdict | None = None
    reason: str | None = None
    steps: int = 0

    @property
    def adopted(self) -> bool:
        """Whether the change is worth making."""
        return self.verdict is not None and self.verdict.word == ADOPT


@dataclass(frozen=True)
class Trial:
    """What trying the doctor's advice came to.

    Attributes:
        budget: environment steps of one run.
        seeds: that may be trained, in their order.
        tried: every change, in the order in which they were tried.
        adopted: the settings to change.
        sides: all runs by the changes that they had.
        steps: environment steps that it cost, without what was known before.
        interrupted: whether it was stopped before its last change.
        exit_code: what a command exits with: 0, or 128 and the number of the signal that stopped
            the trial.
    """

    budget: int
    seeds: tuple[int, ...]
    tried: tuple[Tried, ...] = ()
    adopted: Settings = field(default_factory=dict)
    sides: tuple[Side, ...] = ()
    steps: int = 0
    interrupted: bool = False
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return to_json(self)

    def now(self, sides: Sequence[Side], known: int) -> "Trial":
        """The same with all runs so far, of which some steps were known before."""
        steps = sum(side.steps for side in sides) - known
        return replace(self, sides=tuple(sides), steps=steps)


def try_changes(
    changes: Sequence[Change],
    runs: Runs,
    *,
    budget: int,
    seeds: Sequence[int],
    known: Sequence[Side] = (),
    tell: Callable[[Trial], None] = lambda trial: None,
) -> Trial:
    """Try changes one after the other.

    Args:
        changes: in the order in which to try them.
        runs: what trains.
        budget: environment steps of one run.
        seeds: of both sides; at least two.
        known: what was trained before, with this budget.
        tell: called after every change with the trial so far, and where an error ends it.

    Returns:
        The trial; what was interrupted holds what had ended.
    """
    sides = [Side(side.settings, dict(side.outcomes)) for side in known]

    def side_of(settings: Settings) -> Side:
        found = next((side for side in sides if side.settings == settings), None)
        if found is None:
            sides.append(found := Side(settings))
        return found

    before = sum(side.steps for side in sides)
    trial = Trial(budget, tuple(seeds))
    base, cured = side_of({}), set()
    for change in changes:
        settings = {**base.settings, **change.settings}
        tried = Tried(change, base.settings)
        if change.finding in cured:
            tried = replace(tried, reason=f"another change for {change.finding} was adopted")
        elif settings == base.settings:
            tried = replace(tried, reason="it is among what was adopted")
        else:
            try:
                tried = _tried(tried, base, side_of(settings), runs, trial.seeds)
            except BaseException as error:
                stopped = isinstance(error, KeyboardInterrupt)
                code = getattr(error, "exit_code", 128 + signal.SIGINT if stopped else 1)
                trial = replace(trial.now(sides, before), interrupted=True, exit_code=code)
                tell(trial)
                if stopped:
                    return trial
                raise
        if tried.adopted:
            base = side_of(settings)
            cured.add(change.finding)
        trial = replace(trial, tried=(*trial.tried, tried), adopted=base.settings)
        trial = trial.now(sides, before)
        tell(trial)
    return trial


def _tried(tried: Tried, base: Side, changed: Side, runs: Runs, seeds: tuple[int, ...]) -> Tried:
    """One change with its verdict."""
    try:
        runs.check(changed.settings)
    except UserError as error:
        return replace(tried, reason=f"it cannot be trained: {error}")
    before, looks = base.steps + changed.steps, looks_of(len(seeds))
    verdict = None
    for n in looks:
        some = seeds[:n]
        for side in (base, changed):
            missing = [seed for seed in some if seed not in side.outcomes]
            if missing:
                runs.train(side.settings, missing, side.outcomes)
        pairs = [{seed: side.outcomes[seed] for seed in some} for side in (base, changed)]
        verdict = judge(pairs[0], pairs[1], len(looks))
        if verdict.word != UNCLEAR:
            break
    return replace(tried, verdict=verdict, steps=base.steps + changed.steps - before)

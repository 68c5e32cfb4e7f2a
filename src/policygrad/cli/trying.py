"""`policygrad diagnose RUN --try`: the doctor's advice, trained beside the settings in use."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from tyro.conf import arg

from policygrad.core.errors import UserError
from policygrad.core.settings import flag

SECONDS = 5.0  # between two lines of progress
TRY_HELP = (
    "Train each change that is proposed beside the settings in use, with the same seeds, and say "
    "which to adopt. It takes training runs; RUN/trial.json keeps what they showed."
)
SEEDS_HELP = "With --try: how many seeds at most; three are enough where the outcome is clear. [5]"
BUDGET_HELP = (
    "With --try: environment steps of each run. Default: as many as RUN has, at least 50000 and at "
    "most 250000."
)


POINTS_HELP = (
    "Compare estimators at so many points of training, at least 2. RUN is trained again to get "
    "there. One is recommended only if it points better at all of them."
)


@dataclass(frozen=True)
class Asked:
    """What the flags ask for beyond a diagnosis.

    Attributes:
        trial: whether to try the advice.
        seeds, budget: of the trial; None takes the default.
        points: at which to compare estimators; None for one, the run as it is.
    """

    trial: bool
    seeds: int | None
    budget: int | None
    points: int | None

    @property
    def at_most(self) -> int:
        """Seeds of a trial."""
        from policygrad.doctor.advising import SEEDS

        return SEEDS if self.seeds is None else self.seeds


def trial_arguments() -> list[tuple[str, Any, Any]]:
    """The flags of a trial: name, kind, default; for `cli.options.Argument`."""
    return [
        ("trial", Annotated[bool, arg(name="try", help=TRY_HELP)], False),
        ("seeds", Annotated[int | None, arg(metavar="INT", help=SEEDS_HELP)], None),
        ("budget", Annotated[int | None, arg(metavar="STEPS", help=BUDGET_HELP)], None),
        ("points", Annotated[int | None, arg(metavar="INT", help=POINTS_HELP)], None),
    ]


def take_trial(given: dict[str, Any]) -> Asked | None:
    """What the flags ask for, which are taken out of `given`; None for nothing."""
    asked = Asked(*(given.pop(name) for name, *_ in trial_arguments()))
    for name in ("seeds", "budget"):
        value = getattr(asked, name)
        if value is not None and not asked.trial:
            raise UserError(f"{flag(name)} {value} is for a trial only; add --try, or leave it out")
    return asked if asked.trial or asked.points is not None else None


def check(asked: Asked | None, run: Path | None, env: Any, *, gradients: bool) -> None:
    """UserError for what cannot be done, before the diagnosis is."""
    if asked is None:
        return
    name = "--try" if asked.trial else f"--points {asked.points}"
    if run is None:
        raise UserError(f"{name} trains the settings of a run anew; name a run directory")
    if asked.points is not None:
        from policygrad.doctor.points import check_points

        check_points(asked.points)
        if not gradients:
            raise UserError(f"--points {asked.points} measures gradients; leave out --no-gradients")
    from policygrad.doctor.advising import opened

    opened(run, env, asked.at_most, asked.budget)


class Further(NamedTuple):
    """What was found beyond a diagnosis.

    Attributes:
        code: what the command exits with.
        data: plain data by name.
        lines: the same in words.
    """

    code: int = 0
    data: Mapping[str, Any] = MappingProxyType({})
    lines: Sequence[str] = ()

    def and_then(self, other: "Further", *, quiet: bool) -> "Further":
        """Both; the other is shown."""
        if not quiet:
            print("\n" + "\n".join(other.lines))
        return Further(other.code, {**self.data, **other.data}, (*self.lines, *other.lines))


def go_further(
    asked: Asked, run: Path, env: Any, diagnosis: Any, look: dict[str, Any], *, quiet: bool
) -> Further:
    """Compare at several points and try the advice, as asked for.

    Args:
        asked: what to do.
        run: the run's directory.
        env: the environment, where it was named.
        diagnosis: of the run.
        look: how it was looked at.
        quiet: print progress alone.
    """
    found = Further()
    if asked.points is not None:
        from policygrad.doctor import points

        compared = points.compare_at(
            run, env, points=asked.points, last=diagnosis.examination, **look
        )
        more = Further(0, {"points": compared.to_json()}, points.lines_of(compared))
        found = found.and_then(more, quiet=quiet)
    if asked.trial:
        found = found.and_then(_tried(asked, run, env, diagnosis), quiet=quiet)
    return found


def _tried(asked: Asked, run: Path, env: Any, diagnosis: Any) -> Further:
    """The advice, tried."""
    from policygrad.doctor.advising import try_advice
    from policygrad.doctor.trials_shown import lines_of

    progress = TrialProgress()
    trial = try_advice(
        run, env, diagnosis=diagnosis, seeds=asked.at_most, budget=asked.budget, begin=progress.say,
        tell=progress.tell, on_update=progress.update,
    )  # fmt: skip
    lines = (["Tried:"] if trial.tried else []) + lines_of(trial)
    return Further(trial.exit_code, {"trial": trial.to_json()}, lines)


class TrialProgress:
    """Lines on stderr: the newest update, every few seconds, and every verdict."""

    def __init__(self) -> None:
        self._shown = time.perf_counter()
        self._verdicts = 0

    def say(self, text: str) -> None:
        """Show a line."""
        print(text, file=sys.stderr, flush=True)

    def tell(self, trial: Any) -> None:
        """Show the newest verdict."""
        for tried in trial.tried[self._verdicts :]:
            word = "not tried" if tried.verdict is None else tried.verdict.word
            self.say(f"{tried.change.flags}: {word}")
        self._verdicts = len(trial.tried)

    def update(self, settings: Any, seed: int, metrics: dict[str, Any]) -> None:
        """Take the metrics of one update."""
        from policygrad.doctor.changes import flags_of

        now = time.perf_counter()
        if now - self._shown < SECONDS:
            return
        self._shown = now
        mean = metrics["return_mean"]
        what = flags_of(settings) or "settings in use"
        score = "no episode yet" if mean is None else f"mean return {mean:.4g}"
        self.say(f"{what}, seed {seed}: {metrics['env_steps']:,} steps, {score}")

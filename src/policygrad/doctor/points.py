"""Estimators compared at several points of a run, which is trained again to get there."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from policygrad.core.errors import UserError
from policygrad.core.plain import to_json
from policygrad.core.shell import user_path
from policygrad.diagnostics.comparison import Comparison
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.recommending import LEAST_POINTS, Recommendation, recommend
from policygrad.diagnostics.rules.values import IN_USE
from policygrad.doctor.diagnosis import examine
from policygrad.doctor.subject import Subject
from policygrad.doctor.trial_runs import TrialRuns
from policygrad.doctor.trying import Interrupted
from policygrad.doctor.units import Say, silent
from policygrad.training import entry
from policygrad.training.callbacks import STOP


@dataclass(frozen=True)
class Points:
    """Estimators at several points of training.

    Attributes:
        env_steps: of each point; the last is the run as it is.
        found: what follows.
        steps: environment steps that it took to train the run again.
    """

    env_steps: tuple[int, ...]
    found: Recommendation
    steps: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return to_json(self)


class StopAt:
    """Ends a run when it has so many steps."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, run: Any) -> Any:
        return STOP if run.env_steps >= self.steps else None


def compare_at(
    run: str | Path, env: Any = None, *, points: int, last: Examination, say: Say = silent,
    **look: Any,
) -> Points:  # fmt: skip
    """Compare estimators at points that are spread evenly over a run.

    The files of a run hold its newest policies alone. So it is trained again with its own seed, in
    a folder that is removed.

    Args:
        run: its directory.
        env: as of `diagnose`.
        points: how many; at least two.
        last: the examination of the run as it is, the last point.
        say: called with a few words about what is being done.
        look: as of `examine`.

    Raises:
        UserError: fewer than two points, a run that is too short for them or that cannot be
            trained anew, or a gradient that could not be measured.
    """
    check_points(points)
    own = {name: value for name, value in look.items() if name in entry.OBJECTS}
    subject = Subject.of(user_path(run), {**own, "env": env})
    config = subject.resolved.config
    runs = TrialRuns.of(subject, config.total_steps, None)
    if last.updates < points:
        raise UserError(f"--points {points} are more than the {last.updates} updates of {run}")
    marks = [last.env_steps * k // points for k in range(1, points)]
    comparisons, at, stop = [], [], StopAt()
    passed = {**runs.objects, **({"env": env} if "env" in subject.saved["objects"] else {})}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        for mark in marks:
            say(f"training again to {mark:,} steps")
            stop.steps = mark
            if not at:
                ended = entry.train(
                    runs.env, env_kwargs=runs.env_kwargs, start=runs.start, out=path,
                    config=replace(runs.config({}), seed=config.seed), on_update=stop,
                    **runs.objects,
                )  # fmt: skip
            else:
                ended = entry.resume(path, on_update=stop, **passed)
            if ended.interrupted and ended.summary.get("stopped_by") != "callback":
                raise Interrupted(ended.exit_code)
            at.append(int(ended.summary["env_steps"]))
            comparisons.append(_of(examine(path, env, say=say, **look), path))
    comparisons.append(_of(last, run))
    found = recommend(comparisons, IN_USE)
    return Points((*at, last.env_steps), found, at[-1])


def check_points(points: int) -> None:
    """UserError unless there are enough points."""
    if points < LEAST_POINTS:
        raise UserError(f"--points must be at least {LEAST_POINTS}, got {points}")


def _of(examination: Examination, run: Any) -> Comparison:
    if examination.comparison is None:
        why = "; ".join(examination.notes) or "gradients were not measured"
        raise UserError(f"--points cannot compare estimators of {run}: {why}")
    return examination.comparison


def lines_of(points: Points) -> list[str]:
    """The comparison in lines of plain text: the cosine of each estimator at each point."""
    head = "cosine with the true gradient after " + ", ".join(f"{n:,}" for n in points.env_steps)
    found = [f"{head} steps:"]
    width = max(map(len, points.found.cosines))
    for name, cosines in points.found.cosines.items():
        found.append(f"   {name:<{width}}  " + "  ".join(map(_shown, cosines)))
    cost = f"It took {points.steps:,} environment steps to train the run again."
    return [*found, f"→ {_advice(points.found)} {cost}"]


def _shown(x: Any) -> str:
    return f"{x.value:5.2f} [{x.low:5.2f}, {x.high:5.2f}]" if x.value == x.value else "not known"


def _advice(found: Recommendation) -> str:
    if found.recommended is None:
        return (
            "No estimator is recommended: none points better than the one in use at all "
            f"{found.points} points, beyond the intervals."
        )
    return (
        f"Try {found.recommended}: it points better than the estimator in use at all "
        f"{found.points} points, beyond the intervals."
    )


__all__: Sequence[str] = ["Points", "check_points", "compare_at", "lines_of"]

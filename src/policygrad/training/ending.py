"""How a run ends: what is written, what is said of it, and its picture."""

import contextlib
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from policygrad import environments
from policygrad.core.errors import EnvironmentFailure, WriteError
from policygrad.core.shell import command
from policygrad.devices.sharing import as_one_device
from policygrad.policies import unresolved_components
from policygrad.policies.meeting import Policy
from policygrad.runs import RunDirectory
from policygrad.runs.directory import CURVE, SUMMARY
from policygrad.training import checkpoint
from policygrad.training.metrics import Metrics
from policygrad.training.tally import recent_mean

if TYPE_CHECKING:
    from policygrad.training.loop import Training
    from policygrad.training.result import Run

NAMED = 3  # so many components are named where many are lost


class StoppedEarly(UserWarning):
    """A signal ended a run before its last step."""


def warn_of_a_signal(run: "Run") -> None:
    """Warn of a run that a signal ended: it returns as one that has all its steps does."""
    if not run.interrupted or run.summary["stopped_by"] == "callback":
        return
    saved = "; it has no directory, so it cannot be continued"
    if run.path is not None:
        saved = f" and is saved; continue with: {command('resume', run.path)}"
    warnings.warn(
        f"{run.summary['stopped_by']}: the run stopped after {run.summary['env_steps']:,} of its "
        f"{run.config.total_steps:,} environment steps{saved}",
        StoppedEarly,
        stacklevel=3,
    )


def summary_of(training: "Training", interrupted: bool) -> Metrics:
    """How a run ended.

    Args:
        training: the run.
        interrupted: whether it was stopped before its last step.
    """
    progress, tally = training.progress, training.progress.state.tally
    episodes, seconds = int(tally.episodes), progress.seconds
    return {
        "env": environments.describe(training.assembly.task.env),
        "seed": training.assembly.config.seed,
        "env_steps": progress.env_steps,
        "updates": progress.updates,
        "episodes": episodes,
        "return_mean": recent_mean(tally.recent_returns, episodes),
        "length_mean": recent_mean(tally.recent_lengths, episodes),
        "seconds": seconds,
        "steps_per_second": progress.env_steps / seconds if seconds else None,
        "timings": training.timings,
        "interrupted": interrupted,
        "stopped_by": training.stop.by if interrupted else None,
        "resumed_exactly": progress.resumed_exactly,
        "exact": progress.exact and training.assembly.collector.exact,
        **_of_workers(training),
        "path": None if training.directory is None else str(training.directory.path),
    }


def _of_workers(training: "Training") -> Metrics:
    """What only a run that was collected elsewhere has: its workers' restarts since it began, or
    was resumed."""
    metrics = training.assembly.collector.metrics()
    return {name: value for name, value in metrics.items() if name.endswith("_restarts")}


def write(training: "Training", summary: Metrics) -> None:
    """Write the state, the policy and how the run ended, if there is a directory."""
    if training.directory is not None:
        training.save()
        _write_policy(training, training.directory, summary)


def _write_policy(training: "Training", directory: RunDirectory, summary: Metrics) -> None:
    policy = as_one_device(training.progress.state.learner.policy)
    directory.save_policy(*checkpoint.policy_files(training.assembly, policy))
    directory.write_json(SUMMARY, summary)


def warn_of_lost_components(policy: Policy) -> None:
    """Warn of components of the observation that the policy could not tell apart in training."""
    found = unresolved_components(policy)
    if found:
        more = f"; and {len(found) - NAMED} more components" if len(found) > NAMED else ""
        warnings.warn(
            "float32 cannot tell neighbouring values apart in the observation"
            f"{'; '.join(found[:NAMED])}{more}: subtract an offset in the environment",
            stacklevel=2,
        )


def keep_after(training: "Training", error: BaseException) -> None:
    """Save what an error leaves of a run; where that fails too, the error says so.

    Where a callback raised, the environments are still where the newest update left them, and a
    checkpoint is written. Else they may be anywhere in the next batch, as they are where a callback
    that needs numbers alone is told of an update on the host: only the policy is written, and the
    run goes on from the checkpoint before.
    """
    directory, told = training.directory, error is training.told
    if directory is None or not (told or isinstance(error, Exception)):
        return
    if isinstance(error, WriteError):  # nothing can be written
        return
    settled = training.watched or training.assembly.collector.program() is not None
    saves = told and settled
    summary = summary_of(training, True) | {"stopped_by": type(error).__name__}
    try:
        if saves:
            training.save()
        _write_policy(training, directory, summary)
    except Exception as other:
        error.add_note(f"and the run could not be saved: {other}")
        return
    if isinstance(error, EnvironmentFailure) or (told and not saves):
        error.add_note(
            f"the policy after {training.progress.env_steps:,} steps is saved; go on from "
            f"{int(directory.newest_checkpoint().name):,} steps with: {directory.resume_command}"
        )


def try_to_draw(path: Path) -> None:
    """Draw the learning curve; where that fails, say so and how to draw it later."""
    try:
        draw_curve(path)
    except Exception as error:  # nothing that a picture needs may cost the run its result
        with contextlib.suppress(Exception):
            print(
                f"policygrad: the learning curve could not be drawn ({type(error).__name__}: "
                f"{error}). The run is saved; draw it with: {command('plot', path)}",
                file=sys.stderr,
            )


def draw_curve(path: Path) -> None:
    """Draw the learning curve of a run into its directory."""
    from policygrad.figures.curves import learning_curve, save_figure

    save_figure(learning_curve([path]), path / CURVE)

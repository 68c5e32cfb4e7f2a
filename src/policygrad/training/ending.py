"""How a run ends: what is written, what is said of it, and its picture."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from policygrad import environments
from policygrad.core.shell import command
from policygrad.devices.sharing import as_one_device
from policygrad.runs.directory import CURVE, SUMMARY
from policygrad.training import checkpoint
from policygrad.training.metrics import Metrics
from policygrad.training.tally import recent_mean

if TYPE_CHECKING:
    from policygrad.training.loop import Training


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
        "path": None if training.directory is None else str(training.directory.path),
    }


def write(training: "Training", summary: Metrics) -> None:
    """Write the state, the policy and how the run ended, if there is a directory."""
    if training.directory is not None:
        policy = as_one_device(training.progress.state.learner.policy)
        training.save()
        training.directory.save_policy(*checkpoint.policy_files(training.assembly, policy))
        training.directory.write_json(SUMMARY, summary)


def keep_after(training: "Training", error: BaseException) -> None:
    """Save the run that a callback's error ends; where that fails too, the error says so."""
    settled = training.watched or training.assembly.collector.program() is not None
    if training.directory is None or not settled:  # else the next batch is collected already
        return
    try:
        write(training, summary_of(training, True) | {"stopped_by": type(error).__name__})
    except Exception as other:
        error.add_note(f"and the run could not be saved: {other}")


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

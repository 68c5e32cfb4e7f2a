"""What is recorded of an update, and where it goes."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from policygrad.core.errors import UserError
from policygrad.diagnostics.monitor import NOISE_METRICS, noise_metrics
from policygrad.runs import MetricsFile, RunDirectory, sinks
from policygrad.training.adaptive_batch import AdaptiveBatch
from policygrad.training.config import TrainConfig
from policygrad.training.report import UpdateReport
from policygrad.training.tally import recent_mean

Metrics = dict[str, Any]
OnUpdate = Callable[[Metrics], None]
NAMES = frozenset(
    (
        "update", "env_steps", "episodes", "return_mean", "length_mean", "kl", "entropy",
        "gradient_norm", "step_size", "explained_variance_before", "explained_variance_after",
        "reward_scale", "clipped_fraction", "steps_per_second", "seconds", "batch_episodes",
        "noise_scale_smoothed", *NOISE_METRICS,
    )
)  # fmt: skip
"""Metrics of this library; an algorithm's own numbers go by other names."""


def metrics_of(update: int, report: UpdateReport, env_steps: int, seconds: float) -> Metrics:
    """The row of one update, without the noise of its gradient and the time.

    Args:
        update: its number, from 1.
        report: complete with its refit.
        env_steps: the total, with those of this update.
        seconds: how long the update took.
    """
    assert report.refit is not None
    info, episodes, steps = report.info, int(report.episodes), int(report.steps)
    taken = sorted(set(info.more) & NAMES)
    if taken:
        raise UserError(
            f"the algorithm logs a number as {taken[0]!r}, which is the name of a metric of this "
            "library; choose another name in Improved.more"
        )
    numbers = {
        "kl": info.kl,
        "entropy": info.entropy,
        "gradient_norm": info.gradient_norm,
        "step_size": info.step_size,
        **info.more,
        "explained_variance_before": info.explained_variance_before,
        "explained_variance_after": report.refit.explained_variance,
        "reward_scale": info.reward_scale,
        "clipped_fraction": report.clipped_fraction,
    }
    return {
        "update": update,
        "env_steps": env_steps,
        "episodes": episodes,
        "return_mean": recent_mean(report.recent_returns, episodes),
        "length_mean": recent_mean(report.recent_lengths, episodes),
        **{name: float(value) for name, value in numbers.items()},
        "steps_per_second": steps / seconds,
    }


def noise_of(report: UpdateReport, batch: AdaptiveBatch | None) -> Metrics:
    """The noise of an update's gradient; empty if it was not measured."""
    if report.moments is None:
        return {}
    steps = int(report.steps)
    metrics: Metrics = dict(noise_metrics(report.moments, steps))
    if batch is not None:
        episodes, scale = int(report.moments.columns), batch.noise_scale
        smoothed = scale * steps / episodes if np.isfinite(scale) else None
        metrics |= {"batch_episodes": episodes, "noise_scale_smoothed": smoothed}
    return metrics


@dataclass
class Recorder:
    """Where rows go: the run directory, other sinks and the caller; memory if there is no
    directory.

    Attributes:
        on_update: called with every row.
        kept: the rows of a run without a directory.
        writers: the sinks, open while the run goes on.
        newest: when the newest row was recorded, by `time.perf_counter`.
    """

    on_update: OnUpdate | None = None
    kept: list[Metrics] = field(default_factory=list)
    writers: list[sinks.Sink] = field(default_factory=list)
    in_memory: bool = True
    newest: float = field(default_factory=time.perf_counter)

    @contextlib.contextmanager
    def opened(
        self, config: TrainConfig, directory: RunDirectory | None, resumed_after: int | None
    ) -> Iterator["Recorder"]:
        """Keep its writers open.

        Args:
            config: of the run.
            directory: of the run; None if nothing is written.
            resumed_after: the update that a run goes on after; rows of later ones are dropped.
        """
        path = None if directory is None else directory.path
        self.in_memory = directory is None
        self.writers = sinks.make_sinks(
            path, tensorboard=config.tensorboard, wandb=config.wandb, config=config.to_json()
        )
        if directory is not None:
            self.writers.append(MetricsFile(directory.path / "metrics.jsonl", resumed_after))
        try:
            yield self
        finally:
            for writer in self.writers:
                writer.close()
            self.writers = []

    def record(self, row: Metrics) -> None:
        """Record one update."""
        if self.in_memory:
            self.kept.append(row)
        for writer in self.writers:
            writer.write(row)
        if self.on_update is not None:
            self.on_update(row)
        self.newest = time.perf_counter()

"""What is recorded of an update, and where it goes."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from policygrad.core.errors import UserError
from policygrad.core.numbers import plain_number
from policygrad.core.settings import plain_value
from policygrad.diagnostics.monitor import NOISE_METRICS, noise_metrics
from policygrad.runs import MetricsFile, RunDirectory, sinks
from policygrad.runs.directory import EVALUATIONS, METRICS
from policygrad.runs.rows import CompactRows, read_rows
from policygrad.training.adaptive_batch import AdaptiveBatch
from policygrad.training.config import TrainConfig
from policygrad.training.report import UpdateReport
from policygrad.training.tally import recent_mean

Metrics = dict[str, Any]
NAMES = frozenset(
    (
        "update", "env_steps", "episodes", "return_mean", "length_mean", "kl", "entropy",
        "gradient_norm", "step_size", "explained_variance_before", "explained_variance_after",
        "reward_scale", "clipped_fraction", "steps_per_second", "seconds", "batch_episodes",
        "noise_scale_smoothed", "greedy_return_mean", "greedy_steps", *NOISE_METRICS,
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
    greedy: Metrics = {}
    if report.greedy is not None:
        greedy["greedy_return_mean"] = float(report.greedy.return_mean)
        greedy["greedy_steps"] = int(report.greedy.steps)
    return {
        "update": update,
        "env_steps": env_steps,
        "episodes": episodes,
        "return_mean": recent_mean(report.recent_returns, episodes),
        "length_mean": recent_mean(report.recent_lengths, episodes),
        **greedy,
        **{name: float(value) for name, value in numbers.items()},
        "steps_per_second": steps / seconds,
    }


def infos_of(names: Sequence[str], report: UpdateReport) -> Metrics:
    """The numbers in the infos that a compiled program tallied: those that an episode had."""
    if report.infos is None:
        return {}
    found: Metrics = {}
    for i, name in enumerate(names):
        for kind, means in zip(("info", "info_sum"), report.infos, strict=True):
            if np.isfinite(means[i]):
                found[f"{kind}/{name}"] = float(means[i])
    return found


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
    """Where rows go: the run directory and other sinks; memory if there is no directory.

    Attributes:
        kept: the rows of a run without a directory.
        writers: the sinks by what they write, open while the run goes on.
        directory: of the run; None if nothing is written.
        newest: when the newest row was recorded, by `time.perf_counter`.
    """

    kept: CompactRows = field(default_factory=CompactRows)
    writers: dict[str, sinks.Sink] = field(default_factory=dict)
    directory: RunDirectory | None = None
    newest: float = field(default_factory=time.perf_counter)

    @contextlib.contextmanager
    def opened(
        self,
        config: TrainConfig,
        directory: RunDirectory | None,
        resumed_after: int | None,
        before_writing: Callable[[], None] = lambda: None,
    ) -> Iterator["Recorder"]:
        """Keep its writers open.

        Args:
            config: of the run.
            directory: of the run; None if nothing is written.
            resumed_after: the update that a run goes on after; rows of later ones are dropped.
            before_writing: called once all files were read, and before any is written.

        Raises:
            RunError: a line that would be kept is damaged.
        """
        self.directory = directory
        kept = {name: self._read(name, resumed_after) for name in (METRICS, EVALUATIONS)}
        before_writing()
        path = None if directory is None else directory.path
        makers: dict[str, Callable[[], sinks.Sink]] = {}
        if path is not None:
            makers[METRICS] = lambda: MetricsFile(path / METRICS, kept[METRICS])
            if resumed_after is not None and (path / EVALUATIONS).exists():
                with self._writing(EVALUATIONS):
                    MetricsFile(path / EVALUATIONS, kept[EVALUATIONS]).close()
        makers |= sinks.sinks_of(
            path, kept[METRICS], tensorboard=config.tensorboard, wandb=config.wandb,
            config=config.to_json(),
        )  # fmt: skip
        with contextlib.ExitStack() as stack:
            for name, make in makers.items():
                stack.enter_context(self._kept_open(name, make))
            for rows in kept.values():
                rows.clear()  # a run of days does not hold those of the days before
            yield self

    def _read(self, name: str, up_to: int | None) -> list[Metrics]:
        """The rows of a file that a run goes on behind."""
        if self.directory is None or up_to is None:
            return []
        if name == METRICS:
            return self.directory.read_metrics(up_to)
        path = self.directory.path / name
        return read_rows(path, up_to) if path.exists() else []

    def _writing(self, name: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.directory is None else self.directory.writing(name)

    @contextlib.contextmanager
    def _kept_open(self, name: str, make: Callable[[], sinks.Sink]) -> Iterator[None]:
        """Keep one sink open; where something failed, this and not its end is reported."""
        with self._writing(name):
            self.writers[name] = make()
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                self.writers.pop(name).close()
            raise
        with self._writing(name):
            self.writers.pop(name).close()

    def record(self, rows: list[Metrics]) -> None:
        """Record updates."""
        for row in rows:
            if self.directory is None:
                self.kept.append(row)
            for name, writer in self.writers.items():
                with self._writing(name):
                    writer.write(row)
        self.newest = time.perf_counter()

    def evaluated(self, row: Metrics) -> None:
        """Record an evaluation; nothing without a directory."""
        if self.directory is not None:
            with self.directory.writing(EVALUATIONS):
                file = MetricsFile(self.directory.path / EVALUATIONS, append=True)
                try:
                    file.write(row)
                finally:
                    file.close()

    @staticmethod
    def own(numbers: Mapping[str, Any]) -> dict[str, float | None]:
        """Metrics of a user's own as they are written: a scalar array is a number.

        Raises:
            UserError: one is no number, or has the name of a metric of this library.
        """
        found: dict[str, float | None] = {}
        for name, value in numbers.items():
            if name in NAMES:
                raise UserError(f"{name!r} is the name of a metric of this library; take another")
            plain = plain_value(float, value)  # of a scalar array its number
            number = plain_number(plain) if np.isscalar(plain) else None
            if number is None and value is not None:
                raise UserError(f"a metric is a number or None, got {name}={value!r}")
            found[name] = number
        return found

"""Where metrics go besides the run directory: TensorBoard and Weights & Biases."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from policygrad.environments.catalogue import require_extra


class Sink(Protocol):
    """Receives the metrics of each update."""

    def write(self, metrics: dict[str, Any]) -> None:
        """Write the metrics of one update."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class TensorBoardSink:
    """TensorBoard events, with environment steps on the x-axis.

    A run that goes on writes its events anew, from the rows that it kept: TensorBoard would show
    the steps behind the checkpoint twice. Files that the library did not write stay.
    """

    SUFFIX, FLUSH_SECONDS = ".policygrad", 5.0

    def __init__(self, path: Path, kept: list[dict[str, Any]]) -> None:
        """Open the folder.

        Args:
            path: of the folder.
            kept: the rows that a resumed run goes on behind.

        Raises:
            OSError: it cannot be written.
        """
        module = require_extra("tensorboardX", "--tensorboard", "tensorboard")
        self._proto = module.proto
        path.mkdir(exist_ok=True)
        for old in path.glob(f"events.out.tfevents.*{self.SUFFIX}"):
            old.unlink()
        # in this thread: an error in another one would be lost
        self._writer = module.event_file_writer.EventsWriter(str(path / "events"), self.SUFFIX)
        self._flushed = now = time.time()
        for row in kept:  # at the time when it was made, as far as the run worked since
            self._add(row, now + row.get("seconds", 0.0) - kept[-1].get("seconds", 0.0))
        self._writer.flush()

    def write(self, metrics: dict[str, Any]) -> None:
        now = time.time()
        self._add(metrics, now)
        if now - self._flushed > self.FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = now

    def _add(self, metrics: dict[str, Any], at: float) -> None:
        values = [
            self._proto.summary_pb2.Summary.Value(tag=name, simple_value=value)
            for name, value in metrics.items()
            if isinstance(value, (int, float)) and name != "env_steps"
        ]
        summary = self._proto.summary_pb2.Summary(value=values)
        event = self._proto.event_pb2.Event(summary=summary, step=metrics["env_steps"])
        event.wall_time = at
        self._writer.write_event(event)

    def close(self) -> None:
        self._writer.close()


class WandbSink:
    """Weights & Biases, with environment steps on the x-axis. A resumed run is a new one there."""

    def __init__(self, path: Path | None, config: dict[str, Any]) -> None:
        module = require_extra("wandb", "--wandb")
        where = {} if path is None else {"name": path.name, "dir": str(path)}
        self._run = module.init(project="policygrad", config=config, **where)

    def write(self, metrics: dict[str, Any]) -> None:
        self._run.log(metrics, step=metrics["env_steps"])

    def close(self) -> None:
        self._run.finish()


def check(*, tensorboard: bool, wandb: bool) -> None:
    """UserError if a sink that was asked for needs a package that is not installed."""
    if tensorboard:
        require_extra("tensorboardX", "--tensorboard", "tensorboard")
    if wandb:
        require_extra("wandb", "--wandb")


def sinks_of(
    path: Path | None,
    kept: list[dict[str, Any]],
    *,
    tensorboard: bool,
    wandb: bool,
    config: dict[str, Any],
) -> dict[str, Callable[[], Sink]]:
    """What opens the sinks that were asked for, by what they write in the run directory.

    Args:
        path: the run directory; None if nothing is written.
        kept: the rows that a resumed run goes on behind.
        tensorboard, wandb: which.
        config: the settings, for those that show them.
    """
    makers: dict[str, Callable[[], Sink]] = {}
    if tensorboard and path is not None:
        makers["tensorboard"] = lambda: TensorBoardSink(path / "tensorboard", kept)
    if wandb:
        makers["wandb"] = lambda: WandbSink(path, config)
    return makers

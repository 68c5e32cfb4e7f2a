"""Where metrics go besides the run directory: TensorBoard and Weights & Biases."""

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
    """TensorBoard events, with environment steps on the x-axis."""

    def __init__(self, path: Path) -> None:
        module = require_extra("tensorboardX", "--tensorboard", "tensorboard")
        self._writer = module.SummaryWriter(str(path))

    def write(self, metrics: dict[str, Any]) -> None:
        for name, value in metrics.items():
            if isinstance(value, (int, float)) and name != "env_steps":
                self._writer.add_scalar(name, value, metrics["env_steps"])

    def close(self) -> None:
        self._writer.close()


class WandbSink:
    """Weights & Biases, with environment steps on the x-axis."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        module = require_extra("wandb", "--wandb")
        self._run = module.init(project="policygrad", name=path.name, dir=str(path), config=config)

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


def make_sinks(
    path: Path | None, *, tensorboard: bool, wandb: bool, config: dict[str, Any]
) -> list[Sink]:
    """The sinks that were asked for."""
    sinks: list[Sink] = []
    if tensorboard:
        sinks.append(TensorBoardSink((path or Path()) / "tensorboard"))
    if wandb:
        sinks.append(WandbSink(path or Path(), config))
    return sinks

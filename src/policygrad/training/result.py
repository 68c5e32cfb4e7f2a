"""What training returns."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policygrad.core.elsewhere import METHODS, no_attribute
from policygrad.evaluating import Place
from policygrad.policies import Agent
from policygrad.runs import RunDirectory
from policygrad.training.config import TrainConfig
from policygrad.training.metrics import Metrics


@dataclass(frozen=True)
class Run:
    """A training run that has ended.

    Attributes:
        path: its directory; None if nothing was written.
        config: the value of every setting.
        agent: the trained policy, with the spaces it acts between.
        summary: how it ended.
        env: the environment, as it was passed.
        interrupted: whether it was stopped before its last step.
        env_kwargs: the arguments that the environment was made with from its id.
        engine: what opened the environment; None for the library's own engines.
        recorded: the metrics of a run without a directory.
    """

    path: Path | None
    config: TrainConfig
    agent: Agent
    summary: Metrics
    env: Any
    interrupted: bool = False
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    engine: Any = None
    recorded: Sequence[Metrics] = field(default=(), repr=False)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise no_attribute("a Run", name, METHODS)

    @property
    def policy(self) -> Any:
        """The trained policy: raw observation -> distribution."""
        return self.agent.policy

    @property
    def place(self) -> Place:
        """Where it was trained."""
        return Place(self.env, self.env_kwargs, self.engine, step_timeout=self.config.step_timeout)

    @property
    def exit_code(self) -> int:
        """What a command that made this run exits with: 0, or 128 plus the signal that ended it."""
        if not self.interrupted:
            return 0
        stopped_by = str(self.summary.get("stopped_by"))
        return 128 + signal.Signals.__members__.get(stopped_by, signal.SIGINT)

    @property
    def metrics(self) -> list[Metrics]:
        """One dictionary an update; for a run with a directory they are read from its files."""
        if self.path is None:
            return list(self.recorded)
        return RunDirectory.open(self.path).read_metrics()

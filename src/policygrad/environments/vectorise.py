"""Copies of a Gymnasium environment as one vector environment, in this process or in workers."""

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from policygrad.core.errors import EnvironmentFailure


class ReportingLane(gymnasium.Wrapper):
    """One environment, whose exceptions say which environment it was, and at which step."""

    def __init__(self, env: gymnasium.Env, lane: int) -> None:
        super().__init__(env)
        self._lane, self._step, self._episode = lane, 0, 0

    def reset(self, **kwargs: Any) -> Any:
        self._step, self._episode = 0, self._episode + 1
        try:
            return self.env.reset(**kwargs)
        except Exception as error:
            raise self._failure("reset", error) from error

    def step(self, action: Any) -> Any:
        self._step += 1
        try:
            return self.env.step(action)
        except Exception as error:
            raise self._failure(f"step {self._step}", error) from error

    def _failure(self, where: str, error: Exception) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"environment {self._lane} raised {type(error).__name__} at {where} of its episode "
            f"{self._episode}: {error}\n{''.join(traceback.format_exception(error))}"
        )


def vectorise(make: Callable[[], Any], num_envs: int, *, processes: bool = False) -> VectorEnv:
    """B copies stepped one after the other, or in spawned worker processes."""

    def lane(i: int) -> Callable[[], gymnasium.Env]:
        return lambda: ReportingLane(make(), i)

    factories = [lane(i) for i in range(num_envs)]
    if processes:
        return AsyncVectorEnv(
            [_elsewhere(factory, os.getpid()) for factory in factories],
            context="spawn",
            autoreset_mode=AutoresetMode.DISABLED,
            copy=True,
        )
    return SyncVectorEnv(factories, autoreset_mode=AutoresetMode.DISABLED, copy=False)


def _elsewhere(factory: Callable[[], gymnasium.Env], here: int) -> Callable[[], gymnasium.Env]:
    """The factory as a worker process calls it. This process also calls the first one, for the
    spaces, and keeps its signals."""

    def build() -> gymnasium.Env:
        if os.getpid() != here:
            # the terminal sends Ctrl-C to workers too; only the trainer reacts to it
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return factory()

    return build

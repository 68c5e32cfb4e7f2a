"""Throughput of a training run by the wall clock, whatever happens between two updates."""

import time
from typing import Any

import policygrad


class Clock:
    """Told of every update, it knows how fast they came.

    Attributes:
        skip: updates at the start, which compile and are not counted.
    """

    def __init__(self, skip: int = 2) -> None:
        self.skip = skip
        self._seen: list[tuple[float, int]] = []

    def __call__(self, metrics: dict[str, Any]) -> None:
        self._seen.append((time.perf_counter(), metrics["env_steps"]))

    @property
    def steps_per_second(self) -> float:
        """Environment steps a second, collection, update and records included."""
        (start, first), (end, last) = self._seen[self.skip - 1], self._seen[-1]
        return (last - first) / (end - start)


def training_rate(env: str, *, skip: int = 2, **settings: Any) -> float:
    """Steps per second of training after compilation, with nothing written to disk."""
    clock = Clock(skip)
    policygrad.train(env, on_update=clock, **settings)
    return clock.steps_per_second

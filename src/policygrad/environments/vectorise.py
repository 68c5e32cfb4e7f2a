"""Copies of an environment as one vector environment, in this process or in workers."""

from collections.abc import Callable
from typing import Any

from policygrad.environments.copies import Copies, OwnVector


def vectorise(
    make: Callable[[], Any],
    num_envs: int,
    *,
    processes: bool = False,
    step_timeout: float | None = None,
) -> OwnVector:
    """B copies stepped one after the other, or in spawned worker processes.

    Args:
        make: makes one environment.
        num_envs: B.
        processes: step each one in a process of its own.
        step_timeout: seconds that a step or a reset may take; None for no limit.
    """
    if processes:
        from policygrad.environments.workers import Workers

        return Workers(make, num_envs, step_timeout)
    return Copies(make, num_envs, step_timeout)

"""Whether a batch holds only finite numbers, and which number does not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from policygrad.core.errors import EnvironmentFailure, NonFiniteError
from policygrad.core.trajectories import Trajectories, lost_cuts
from policygrad.spaces import ACTION_MASK


def is_sound(trajectories: Trajectories) -> Bool[Array, ""]:
    """`[]`: no NaN, no infinity, no mask that permits no action, and no successor that was lost.
    Pure; what it finds wanting, `check_finite` names."""
    found = [jnp.any(bad) for _, _, bad, _ in _unsound(trajectories)]
    found.append(jnp.any(lost_cuts(trajectories)))
    return ~jnp.any(jnp.stack(found))


def check_finite(trajectories: Trajectories, update: int, env_steps: int) -> None:
    """Refuse a batch with NaN or infinity, with a mask that permits no action, or without the
    successors of some truncated steps.

    Raises:
        NonFiniteError: it names the source, the environment and the step.
        EnvironmentFailure: an environment truncated episodes before its declared time limit.
    """
    lost = np.flatnonzero(lost_cuts(trajectories))
    if len(lost):
        times = np.asarray(trajectories.times)
        ended = np.asarray(trajectories.truncated & ~trajectories.terminated)[:, lost[0]]
        raise EnvironmentFailure(
            f"environment {lost[0]} truncated {ended.sum()} episodes in {len(times)} steps, the "
            f"shortest after {times[ended, lost[0]].min() + 1}: more often than its declared "
            "time_limit allows, which is the number of steps before which it never truncates; "
            "declare the smallest such number, or None where there is none"
        )
    for what, array, bad, times in _unsound(trajectories):
        bad = np.asarray(bad)
        if not bad.any():
            continue
        row, lane = np.argwhere(bad)[0]
        if array is not None:
            value = np.asarray(array)[row, lane]
            value = value if value.ndim == 0 else value[~np.isfinite(value)][0]
            what = f"{value} in the {what}"
        column = "episode" if trajectories.whole_episodes else "environment"
        steps = int(np.sum(trajectories.valid))
        raise NonFiniteError(
            f"{what} of {column} {lane} at step {int(times[row, lane])} of its episode, in update "
            f"{update + 1} (environment steps {env_steps} to {env_steps + steps})"
        )


def _unsound(trajectories: Trajectories) -> list[tuple[str, Any, Array, Any]]:
    """Names, arrays `[T, B, ...]` or `[K, B, ...]`, which of their entries are unsound, and the
    times of those."""
    valid, times, cut_times = trajectories.valid, trajectories.times, trajectories.cut_times
    bootstrapped = jnp.ones(cut_times.shape, bool)
    if trajectories.whole_episodes:
        ends = jnp.asarray(trajectories.truncated & ~trajectories.terminated)
        bootstrapped = jnp.broadcast_to(jnp.any(ends, axis=0), cut_times.shape)
    measured = [("reward", trajectories.rewards, valid, times)]
    for observations, mask, when in (
        (trajectories.observations, valid, times),
        (trajectories.cut_observations, bootstrapped, cut_times),
    ):
        measured += [
            ("observation", leaf, mask, when)
            for leaf in jax.tree.leaves(observations)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
        ]

    def entries(array: Any) -> Array:
        return jnp.asarray(array).reshape(*array.shape[:2], -1)

    found: list[tuple[str, Any, Array, Any]] = [
        (name, array, jnp.any(~jnp.isfinite(entries(array)), axis=2) & mask, when)
        for name, array, mask, when in measured
    ]
    if isinstance(trajectories.observations, dict) and ACTION_MASK in trajectories.observations:
        mask = trajectories.observations[ACTION_MASK]
        nothing = ~jnp.any(entries(mask) > 0, axis=2) & valid
        what = "the action mask permits no action in the observation"
        found.append((what, None, nothing, times))
    return found

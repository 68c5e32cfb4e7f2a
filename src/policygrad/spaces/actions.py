"""Actions across the environment's boundary: scaled, clipped, in the environment's own types."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Float

from policygrad.core.errors import UnsupportedSpaceError
from policygrad.spaces.records import record_dtype


def to_environment(space: spaces.Space, actions: Any, xp: Any = np) -> Any:
    """Sampled actions `[..., *shape]` -> what the environment's `step` takes.

    Discrete ones are shifted to the space's start. Box ones are read as fractions of the half
    range around its middle, −1…1 where both bounds are finite, and clipped to the bounds: here and
    nowhere else, so that log-probabilities stay those of the action that was sampled.

    Args:
        space: the action space.
        actions: as `Distribution.sample` gave them.
        xp: `numpy`, or `jax.numpy` inside compiled code.
    """
    dtype = space.dtype if xp is np else record_dtype(space.dtype)
    match space:
        case spaces.Discrete():
            return actions + np.asarray(space.start, dtype)
        case spaces.MultiDiscrete():
            start = np.broadcast_to(space.start, space.nvec.shape)
            batch = actions.shape[: actions.ndim - 1]
            return (actions.reshape(*batch, *space.nvec.shape) + start).astype(dtype)
        case spaces.MultiBinary():
            batch = actions.shape[: actions.ndim - 1]
            return actions.reshape(*batch, *space.shape).astype(dtype)
        case spaces.Box():
            middle, half = box_scale(space)
            if xp is not np:  # in 32 bits, where the nearest number may lie outside the bounds
                middle, half = middle.astype(dtype), half.astype(dtype)
            return xp.clip(middle + half * actions, space.low, space.high).astype(dtype)
    raise UnsupportedSpaceError(f"action space {space} is not supported")


def box_scale(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half range of a Box; 0 and 1 where a bound is infinite, or as good as."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    bounded = (np.abs(low) < 1e30) & (np.abs(high) < 1e30)
    low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
    return (low + high) / 2, (high - low) / 2


def action_bounds(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Where actions are clipped, in the policy's units: −1 and 1 where both bounds are finite."""
    middle, half = box_scale(space)
    free = half == 0  # both bounds are one number, whatever the action
    low, high = ((bound - middle) / np.where(free, 1, half) for bound in (space.low, space.high))
    return (
        np.where(free, -np.inf, low).astype(np.float32),
        np.where(free, np.inf, high).astype(np.float32),
    )


def clipped_fraction(space: spaces.Space, actions: Any, valid: Any) -> Float[Array, ""]:
    """`[]`: the share of action components `[T, B, ...]` that the environment's bounds cut off."""
    if not isinstance(space, spaces.Box):
        return jnp.zeros(())
    middle, half = (x.astype(np.float32) for x in box_scale(space))
    raw = middle + half * actions
    outside = ((raw < space.low) | (raw > space.high)).reshape(*valid.shape, -1)
    rows = jnp.mean(outside, axis=2, dtype=jnp.float32)
    return jnp.sum(jnp.where(valid, rows, 0.0)) / jnp.maximum(jnp.sum(valid), 1)

"""The Boxes of an action space, and how much of the actions their bounds cut off."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from policygrad.spaces.box import Box
from policygrad.spaces.nested import Nested
from policygrad.spaces.space import Space


def boxes(space: Space, actions: PyTree) -> list[tuple[Box, Any]]:
    """Every Box of an action space, with its part of actions `[..., *shape]`."""
    if isinstance(space, Box):
        return [(space, actions)]
    if isinstance(space, Nested):
        return [found for key, part in space.entries for found in boxes(part, actions[key])]
    return []


def clipped_fraction(space: Space, actions: PyTree, valid: Any) -> Float[Array, ""]:
    """`[]`: the share of the Boxes' components in actions `[T, B, ...]` that bounds cut off."""
    cut = [_outside(box, part).reshape(*valid.shape, -1) for box, part in boxes(space, actions)]
    if not cut:
        return jnp.zeros(())
    outside = cut[0] if len(cut) == 1 else jnp.concatenate(cut, axis=2)
    rows = jnp.mean(outside, axis=2, dtype=jnp.float32)
    return jnp.sum(jnp.where(valid, rows, 0.0)) / jnp.maximum(jnp.sum(valid), 1)


def _outside(box: Box, actions: Any) -> Any:
    middle, half = (x.astype(np.float32) for x in box.scale)
    low, high = box.limits
    raw = middle + half * actions
    return (raw < low) | (raw > high)

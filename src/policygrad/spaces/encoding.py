"""Raw observations of a space as the numbers that a network reads; action masks."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Bool, Float, PyTree

from policygrad.core.errors import UnsupportedSpaceError
from policygrad.spaces.records import (
    space_from_json,
)

ACTION_MASK = "action_mask"


@dataclass(frozen=True)
class ObservationEncoder:
    """A raw observation of a space -> one float vector.

    Box and MultiBinary are flattened, Discrete and MultiDiscrete one-hot, Dict and Tuple
    concatenated. The entry `action_mask` of a Dict is left out: it speaks of actions.

    Attributes:
        space: the observation space, as JSON.
    """

    space: str

    def __call__(self, observation: PyTree) -> Float[Array, " f"]:
        return jnp.concatenate(_encode(space_from_json(self.space), observation))

    @cached_property
    def normalised(self) -> tuple[bool, ...]:
        """`[f]`: which entries are measurements, to be normalised; one-hot entries are not."""
        return tuple(_measured(space_from_json(self.space)))


def _encode(space: spaces.Space, x: Any) -> list[Float[Array, " f"]]:
    match space:
        case spaces.Discrete():
            return [jax.nn.one_hot(jnp.asarray(x) - int(space.start), int(space.n))]
        case spaces.MultiDiscrete():
            index = jnp.ravel(jnp.asarray(x) - np.broadcast_to(space.start, space.nvec.shape))
            return [jax.nn.one_hot(i, int(n)) for i, n in zip(index, space.nvec.flat, strict=True)]
        case spaces.Dict():
            return [f for k, p in space.items() if k != ACTION_MASK for f in _encode(p, x[k])]
        case spaces.Tuple():
            return [f for p, v in zip(space, x, strict=True) for f in _encode(p, v)]
    return [jnp.ravel(jnp.asarray(x)).astype(jnp.float32)]


def _measured(space: spaces.Space) -> list[bool]:
    match space:
        case spaces.Box():
            return [True] * math.prod(space.shape)
        case spaces.MultiBinary():
            return [False] * math.prod(space.shape)
        case spaces.Discrete():
            return [False] * int(space.n)
        case spaces.MultiDiscrete():
            return [False] * int(space.nvec.sum())
        case spaces.Dict():
            return [f for k, p in space.items() if k != ACTION_MASK for f in _measured(p)]
        case spaces.Tuple():
            return [f for p in space for f in _measured(p)]
    raise UnsupportedSpaceError(f"observation space {space} is not supported")


def action_mask(observation: PyTree) -> Bool[Array, " n"] | None:
    """The flat action mask that a Dict observation carries under `action_mask`, if it does."""
    if isinstance(observation, dict) and ACTION_MASK in observation:
        return jnp.ravel(jnp.asarray(observation[ACTION_MASK])) > 0
    return None

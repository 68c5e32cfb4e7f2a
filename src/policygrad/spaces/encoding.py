"""What a network reads of an observation."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from policygrad.core.errors import UnsupportedSpaceError
from policygrad.spaces.choices import Discrete, MultiDiscrete
from policygrad.spaces.nested import Nested
from policygrad.spaces.space import Space, path_of

MOST_ENTRIES = 100_000  # of a one-hot vector


@dataclass(frozen=True)
class ObservationEncoder:
    """A raw observation of a space -> the arrays that a network reads, in their own shapes.

    Attributes:
        space: whose observations it reads.

    Raises:
        UnsupportedSpaceError: a choice among so many that its one-hot vector is too long.
    """

    space: Space

    def __post_init__(self) -> None:
        _require_short(self.space, ())

    def __call__(self, observation: PyTree) -> PyTree:
        return self.space.features(observation)

    @property
    def normalised(self) -> tuple[bool, ...]:
        """A flag for each array: whether it holds measurements, to be normalised."""
        return self.space.measured


def _require_short(space: Space, keys: tuple[Any, ...]) -> None:
    if isinstance(space, Nested):
        for key, part in space.read:
            _require_short(part, (*keys, key))
    elif isinstance(space, Discrete | MultiDiscrete) and space.parameters > MOST_ENTRIES:
        raise UnsupportedSpaceError(
            f"{path_of(keys)} of {space.to_gymnasium()} would be a one-hot vector of "
            f"{space.parameters:,} entries, and at most {MOST_ENTRIES:,} are supported; observe it "
            "as a Box of numbers, or pass a policy and an estimator of your own"
        )


def flat(features: PyTree) -> Float[Array, " f"]:
    """Features of whatever shapes as one vector, leaf after leaf; empty where there are none."""
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(features)]
    if not leaves:
        return jnp.zeros(0, jnp.float32)
    return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves)

"""What a network reads of a raw observation, and the mask of actions beside it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from policygrad.spaces.nested import ACTION_MASK
from policygrad.spaces.space import Space


@dataclass(frozen=True)
class ObservationEncoder:
    """A raw observation of a space -> the arrays that a network reads, in their own shapes.

    Attributes:
        space: whose observations it reads.
    """

    space: Space

    def __call__(self, observation: PyTree) -> PyTree:
        return self.space.features(observation)

    @property
    def normalised(self) -> tuple[bool, ...]:
        """A flag for each array: whether it holds measurements, to be normalised."""
        return self.space.measured


def flat(features: PyTree) -> Float[Array, " f"]:
    """Features of whatever shapes as one vector, leaf after leaf; empty where there are none."""
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(features)]
    if not leaves:
        return jnp.zeros(0, jnp.float32)
    return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves)


def action_mask(observation: PyTree) -> Bool[Array, " n"] | None:
    """The flat action mask that a Dict observation carries under `action_mask`, if it does."""
    if isinstance(observation, dict) and ACTION_MASK in observation:
        return jnp.ravel(jnp.asarray(observation[ACTION_MASK])) > 0
    return None

"""What a network reads of an observation."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

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
        return jnp.zeros(0)
    return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves)

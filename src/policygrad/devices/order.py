"""Which rows of a batch are taken, in which order, where their number is known to no program."""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Int

from policygrad.core.trajectories import Trajectories


@dataclass(frozen=True)
class RowOrder:
    """Which of N rows are taken, in which order.

    Attributes:
        count: `[]`, n: how many.
        at: positions `[m]`, each from 0 to n − 1 -> the rows there, `[m]`, each from 0 to N − 1.
            What it gives for other positions is not read.
    """

    count: Int[Array, ""]
    at: Callable[[Int[Array, " m"]], Int[Array, " m"]]


def step_order(trajectories: Trajectories) -> RowOrder | None:
    """The steps among the rows `[T·B]` of a record that is `mostly_padding`, episode after episode.

    None for any other record, all of whose rows are taken.
    """
    if not trajectories.mostly_padding:
        return None
    lengths = jnp.sum(jnp.asarray(trajectories.valid), axis=0, dtype=jnp.int32)
    ends = jnp.cumsum(lengths)
    begins = jnp.concatenate([jnp.zeros(1, jnp.int32), ends])

    def at(positions: Int[Array, " m"]) -> Int[Array, " m"]:
        column = jnp.sum(ends <= positions[:, None], axis=1, dtype=jnp.int32)
        return (positions - begins[column]) * len(lengths) + column

    return RowOrder(ends[-1], at)

"""What both rollouts share, so that their records are the same: keys, and room for successors."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

Lane = int | np.integer | Int[Array, ""]


def lane_keys(
    key: PRNGKeyArray, step: Int[Array, ""] | int, lanes: int, first_lane: Lane = 0
) -> PRNGKeyArray:
    """`[B]`, a key for every lane at one row of a batch, from the batch's key.

    A lane's key depends only on its number, not on the number of lanes or on what steps the others.

    Args:
        key: of the batch.
        step: the row.
        lanes: B; static.
        first_lane: the number of the first of them.
    """
    return keys_by_lane(jax.random.fold_in(key, step), lanes, first_lane)


def keys_by_lane(key: PRNGKeyArray, lanes: int, first_lane: Lane = 0) -> PRNGKeyArray:
    """`[B]`, a key for every lane from one key, by its number. The key is consumed."""
    numbers = first_lane + jnp.arange(lanes)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)


def cut_slots(steps: int, time_limit: int | None) -> int:
    """The largest number of successors that a lane can have to record in a segment.

    One for every truncation and one for the last row: with a time limit of L at most ⌈T/L⌉ + 1,
    without one up to T.
    """
    return steps if time_limit is None else min(-(-steps // time_limit) + 1, steps)

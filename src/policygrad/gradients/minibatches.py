"""Minibatches of a batch's rows, shuffled in every pass."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from policygrad.devices.order import RowOrder
from policygrad.maths.permutation import permutation

# of the data `[N, ...]` -> rows, and the order of those that count among them; None for all
Minibatch = tuple[PyTree, RowOrder | None]


class Minibatches(NamedTuple):
    """The minibatches of some passes over N rows.

    Attributes:
        which: for `jax.lax.scan`, a pytree with an entry for each minibatch.
        take: (an entry, pytree of `[N, ...]`) -> the minibatch.
        size: rows of a chunk, for sums over a minibatch.
    """

    which: Any
    take: Callable[[Any, PyTree], Minibatch]
    size: int


def minibatches(
    key: PRNGKeyArray, rows: int, epochs: int, parts: int, size: int, order: RowOrder | None = None
) -> Minibatches:
    """The minibatches of some passes. The key is consumed.

    Each pass is shuffled, and cut into minibatches of equal size; the few rows left over are left
    out of that pass.

    Args:
        key: of the orders.
        rows: N.
        epochs: passes.
        parts: minibatches of a pass, if there are so many rows. Where an order has fewer, some
            minibatches hold none.
        size: rows of a chunk.
        order: of the rows that are passed over; None for all.
    """
    parts = min(parts, rows)
    if order is None:
        return Minibatches(shuffled_minibatches(key, rows, epochs, parts), _gathered, size)
    if parts == 1:  # every step sees all rows, whatever their order
        return Minibatches(jnp.arange(epochs), lambda _, data: (data, order), size)
    n = order.count
    length = jnp.maximum(n // parts, 1)

    def take(number: Int[Array, ""], data: PyTree) -> Minibatch:
        shuffled = permutation(jax.random.fold_in(key, number // parts), n)
        first = number % parts * length

        def at(positions: Int[Array, " m"]) -> Int[Array, " m"]:
            return order.at(shuffled(first + positions))

        return data, RowOrder(jnp.clip(n - first, 0, length), at)

    # smaller chunks, because the last one of every minibatch is filled up
    return Minibatches(jnp.arange(epochs * parts), take, max(1, size // 4))


def _gathered(rows: Int[Array, " m"], data: PyTree) -> Minibatch:
    if len(rows) == len(jax.tree.leaves(data)[0]):
        return data, None
    return jax.tree.map(lambda x: x[rows], data), None


def shuffled_minibatches(
    key: PRNGKeyArray, rows: int, epochs: int, minibatches: int
) -> Int[Array, "steps m"]:
    """Row indices of `epochs` passes over `rows` rows; each pass is shuffled. Consumes the key.

    Each pass is cut into at most `minibatches` parts of equal size; the few rows left over are
    left out of that pass.
    """
    parts = min(minibatches, rows)
    size = rows // parts
    if parts == 1:  # every step sees all rows, whatever their order
        return jnp.broadcast_to(jnp.arange(rows), (epochs, rows))
    # one sort of random bits; jax.random.permutation sorts twice and compiles twice as long
    orders = jnp.argsort(jax.random.bits(key, (epochs, rows), jnp.uint32), axis=1)
    return orders[:, : parts * size].reshape(epochs * parts, size)

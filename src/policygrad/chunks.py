"""The rows of a batch a few hundred at a time, so that all between them stays in the near cache.

A sum of gradients over 32,768 rows of a 64×64 network takes half as long in chunks as at once on
one core (docs/performance.md). Where processors share a batch, each takes the chunks of its own.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from policygrad.processors import everyones, own, parts, total

CHUNK = 256


def flat_rows(tree: PyTree) -> PyTree:
    """Leaves `[T, B, ...]` as `[T·B, ...]`."""
    return jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, *jnp.shape(x)[2:]), tree)


def sum_in_chunks(f: Callable[[PyTree], PyTree], rows: PyTree, size: int = CHUNK) -> PyTree:
    """f(rows), where f is a sum over rows, taken chunk by chunk.

    Args:
        f: pytree of `[n, ...]` -> pytree of sums over n; called with n of `size` or less, or with
            all rows where they are fewer than two chunks. Derivatives are taken inside of it:
            where rows are shared, reverse differentiation from outside would count them twice.
        rows: pytree of `[N, ...]`.
        size: rows of a chunk.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    if _are_shared(count):
        return total(_sum_in_chunks(f, own(rows), size))
    return _sum_in_chunks(f, rows, size)


def _sum_in_chunks(f: Callable[[PyTree], PyTree], rows: PyTree, size: int) -> PyTree:
    count = jax.tree.leaves(rows)[0].shape[0]
    if count < 2 * size:
        return f(rows)
    whole = count // size * size
    chunks = jax.tree.map(lambda x: x[:whole].reshape(-1, size, *x.shape[1:]), rows)

    def add(total: PyTree, chunk: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, f(chunk)), None

    shapes = jax.eval_shape(f, jax.tree.map(lambda x: x[0], chunks))
    total = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = jax.lax.scan(add, total, chunks)
    if whole == count:
        return total
    return jax.tree.map(jnp.add, total, f(jax.tree.map(lambda x: x[whole:], rows)))


def map_in_chunks(f: Callable[[Any], PyTree], rows: PyTree) -> PyTree:
    """`vmap(f)` over rows `[T, B, ...]`, chunk by chunk."""
    steps, lanes = jax.tree.leaves(rows)[0].shape[:2]
    if steps * lanes < 2 * CHUNK:
        return jax.vmap(jax.vmap(f))(rows)
    flat = flat_rows(rows)
    if _are_shared(steps * lanes):
        mapped = jax.lax.map(f, own(flat), batch_size=CHUNK)
        mapped = everyones(mapped)
    else:
        mapped = jax.lax.map(f, flat, batch_size=CHUNK)
    return jax.tree.map(lambda x: x.reshape(steps, lanes, *x.shape[1:]), mapped)


def _are_shared(rows: int) -> bool:
    """Whether so many rows are: as many on each processor, and a chunk at least."""
    return parts() > 1 and rows % parts() == 0 and rows >= parts() * CHUNK

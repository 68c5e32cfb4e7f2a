"""Chunks of a few hundred rows of a batch, so that intermediate results stay in the near cache.

On one core, a sum of gradients over 32,768 rows of a 64×64 network takes half as long in chunks as
at once (docs/performance.md). If a batch is cut into parts, each part is cut into chunks. A GPU
needs many rows at once; its chunks are large, and only limit memory. Chunks of pictures hold fewer
rows, so that memory does not grow with their resolution.

Of rows that are mostly padding, those that count are taken in a `RowOrder`. How many there are is
traced: one program computes any number of them, in as many chunks as they fill.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from policygrad.devices.order import RowOrder
from policygrad.devices.parts import sum_and_map_parts
from policygrad.devices.sharing import current

NUMBERS = {"cpu": 2**21, "gpu": 2**28}  # of a chunk at most, as floats: 8 MiB and 1 GiB


def chunk_rows(numbers: int = 1) -> int:
    """Rows of a chunk on the machine that computes.

    Args:
        numbers: how many numbers a row holds.
    """
    rows = 256 if _backend() == "cpu" else 16_384
    fit = max(1, NUMBERS[_backend()] // max(1, numbers))
    return min(rows, 2 ** (fit.bit_length() - 1))


def _backend() -> str:
    return "cpu" if jax.default_backend() == "cpu" else "gpu"


def numbers_of_a_row(rows: PyTree, axes: int = 1) -> int:
    """How many numbers each row of a pytree of `[N, ...]` holds; of `[T, B, ...]` with two axes."""
    return sum(math.prod(jnp.shape(x)[axes:]) for x in jax.tree.leaves(rows))


def flat_rows(tree: PyTree) -> PyTree:
    """Leaves `[T, B, ...]` as `[T·B, ...]`."""
    return jax.tree.map(lambda x: _joined(jnp.asarray(x)), tree)


def sum_in_chunks(
    f: Callable[[PyTree], PyTree],
    rows: PyTree,
    size: int | None = None,
    order: RowOrder | None = None,
) -> PyTree:
    """f(rows), where f is a sum over rows, taken chunk by chunk.

    Args:
        f: pytree of `[n, ...]` -> pytree of sums over n. It is called with at most `size` rows, or
            with all rows if they are fewer than two chunks. Take derivatives inside of f: if rows
            are shared, reverse differentiation from outside would count them twice, and through an
            order there is none.
        rows: pytree of `[N, ...]`.
        size: rows of a chunk; None for as many as `chunk_rows` says.
        order: of the rows that count; None for all. The last chunk is filled up with rows of zeros,
            which must add nothing to the sum.
    """
    return sum_and_map_in_chunks(lambda rows: (f(rows), ()), rows, size, order)[0]


def sum_and_map_in_chunks(
    f: Callable[[PyTree], tuple[PyTree, PyTree]],
    rows: PyTree,
    size: int | None = None,
    order: RowOrder | None = None,
) -> tuple[PyTree, PyTree]:
    """f(rows), where f returns a sum over rows, and results with one entry for each row.

    Args:
        f: pytree of `[n, ...]` -> sums over n, and pytree of `[n, ...]`; as in `sum_in_chunks`.
        rows, size, order: as there. Entries of rows that are not in the order are zero.
    """
    size = size or chunk_rows(numbers_of_a_row(rows))
    if order is not None:
        return _sum_and_map_in_order(f, rows, size, order)
    in_chunks = partial(_sum_and_map, f, size=size)
    if _are_shared(jax.tree.leaves(rows)[0].shape[0]):
        return sum_and_map_parts(in_chunks, rows)
    return in_chunks(rows)


def _sum_and_map(f: Callable, rows: PyTree, size: int) -> tuple[PyTree, PyTree]:
    count = jax.tree.leaves(rows)[0].shape[0]
    if count < 2 * size:
        return f(rows)
    whole = count // size * size
    chunks = jax.tree.map(lambda x: x[:whole].reshape(whole // size, size, *x.shape[1:]), rows)

    def add(sums: PyTree, chunk: PyTree) -> tuple[PyTree, PyTree]:
        added, mapped = f(chunk)
        return jax.tree.map(jnp.add, sums, added), mapped

    shapes, _ = jax.eval_shape(f, jax.tree.map(lambda x: x[0], chunks))
    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    sums, mapped = jax.lax.scan(add, start, chunks)
    mapped = jax.tree.map(_joined, mapped)
    if whole == count:
        return sums, mapped
    added, last = f(jax.tree.map(lambda x: x[whole:], rows))
    return (
        jax.tree.map(jnp.add, sums, added),
        jax.tree.map(lambda *both: jnp.concatenate(both), mapped, last),
    )


def _sum_and_map_in_order(
    f: Callable, rows: PyTree, size: int, order: RowOrder
) -> tuple[PyTree, PyTree]:
    """As many chunks as the rows of the order fill."""
    count = jax.tree.leaves(rows)[0].shape[0]

    def chunk(number: Any) -> tuple[Array, PyTree]:
        positions = number * size + jnp.arange(size)
        beyond = count  # the last row: read as zeros, written nowhere
        at: Any = jnp.where(positions < order.count, order.at(positions), beyond)
        return at, jax.tree.map(lambda x: x.at[at].get(mode="fill", fill_value=0), rows)

    def add(number: Any, found: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        at, some = chunk(number)
        added, mapped = f(some)
        return (
            jax.tree.map(jnp.add, found[0], added),
            jax.tree.map(lambda filled, x: filled.at[at].set(x, mode="drop"), found[1], mapped),
        )

    sums, mapped = jax.eval_shape(lambda: f(chunk(0)[1]))
    start = (
        jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), sums),
        jax.tree.map(lambda x: jnp.zeros((count, *x.shape[1:]), x.dtype), mapped),
    )
    return jax.lax.fori_loop(0, -(-order.count // size), add, start)


def total(x: Array, order: RowOrder | None = None) -> Array:
    """The sum of `[N]` over the rows that count."""
    return jnp.sum(x) if order is None else sum_in_chunks(jnp.sum, x, order=order)


def map_in_chunks(
    f: Callable[[Any], PyTree], rows: PyTree, order: RowOrder | None = None
) -> PyTree:
    """`vmap(f)` over rows `[T, B, ...]`, chunk by chunk; zero for rows that an order leaves out."""
    steps, lanes = jax.tree.leaves(rows)[0].shape[:2]
    _, mapped = sum_and_map_in_chunks(
        lambda rows: ((), jax.vmap(f)(rows)), flat_rows(rows), order=order
    )
    return jax.tree.map(lambda x: x.reshape(steps, lanes, *x.shape[1:]), mapped)


def map_rows(f: Callable[[Any], PyTree], rows: PyTree) -> PyTree:
    """`vmap(f)` over rows `[N, ...]`, in bounded memory.

    Rows that are too many for a chunk are taken chunk by chunk. Their derivatives compute f anew,
    in place of keeping what it computed for every row.
    """
    count, numbers = jax.tree.leaves(rows)[0].shape[0], numbers_of_a_row(rows)
    if count * numbers <= NUMBERS[_backend()]:
        return jax.vmap(f)(rows)
    return jax.lax.map(jax.checkpoint(f), rows, batch_size=chunk_rows(numbers))


def _are_shared(rows: int) -> bool:
    """Whether parts share so many rows: equally many each, and at least one chunk."""
    parts = current().parts
    return parts > 1 and rows % parts == 0 and rows >= parts * chunk_rows()


def _joined(x: Array) -> Array:
    """`[m, n, ...]` as `[m·n, ...]`; the length is given, since −1 is ambiguous for an empty
    array."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])

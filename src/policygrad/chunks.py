"""The rows of a batch: a few hundred at a time, and shared between processors.

A chunk's activations stay in the near cache. Inside a `shard_map` over `AXIS` each CPU device takes
the chunks of its own rows, and everything else is computed on all of them alike
(docs/performance.md).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

CHUNK = 256
AXIS = "processors"
LEAST_ROWS = 2048  # a processor: with fewer, meetings cost what sharing brings


def flat_rows(tree: PyTree) -> PyTree:
    """Leaves `[T, B, ...]` as `[T·B, ...]`."""
    return jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, *jnp.shape(x)[2:]), tree)


def sum_in_chunks(f: Callable[[PyTree], PyTree], rows: PyTree) -> PyTree:
    """f(rows), where f is a sum over rows, taken chunk by chunk.

    Args:
        f: pytree of `[n, ...]` -> pytree of sums over n; called with n of 256 or less, or with all
            rows where they are fewer than two chunks. Derivatives are taken inside of it: where
            rows are shared, reverse differentiation from outside would count them twice.
        rows: pytree of `[N, ...]`.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    if are_shared(count):
        return _sum_over_processors(_sum_in_chunks(f, own(rows)))
    return _sum_in_chunks(f, rows)


def _sum_in_chunks(f: Callable[[PyTree], PyTree], rows: PyTree) -> PyTree:
    count = jax.tree.leaves(rows)[0].shape[0]
    if count < 2 * CHUNK:
        return f(rows)
    whole = count // CHUNK * CHUNK
    chunks = jax.tree.map(lambda x: x[:whole].reshape(-1, CHUNK, *x.shape[1:]), rows)

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
    if are_shared(steps * lanes):
        mapped = jax.lax.map(f, own(flat), batch_size=CHUNK)
        mapped = jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, tiled=True), mapped)
    else:
        mapped = jax.lax.map(f, flat, batch_size=CHUNK)
    return jax.tree.map(lambda x: x.reshape(steps, lanes, *x.shape[1:]), mapped)


# ----- processors


def processors(lanes: int, rows: int) -> Mesh | None:
    """The CPU devices that share batches of so many lanes and rows; None where one has all.

    As many as JAX shows, have equally many lanes each, and `LEAST_ROWS` rows or more.
    """
    devices = jax.local_devices()
    if devices[0].platform != "cpu":
        return None
    most = min(len(devices), rows // LEAST_ROWS)
    count = max((n for n in range(2, most + 1) if lanes % n == 0), default=1)
    return None if count == 1 else Mesh(np.array(devices[:count]), (AXIS,))


def parts() -> int:
    """Between how many processors rows are shared, in what is being traced; 1 where they are not."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.shape[AXIS] if AXIS in mesh.manual_axes else 1


def are_shared(rows: int) -> bool:
    """Whether so many rows are: as many on each, and a chunk at least."""
    return parts() > 1 and rows % parts() == 0 and rows >= parts() * CHUNK


def own(tree: PyTree, axis: int = 0) -> PyTree:
    """This processor's share of leaves that hold all rows, or all lanes, along an axis."""
    if parts() == 1:
        return tree

    def cut(x: Array) -> Array:
        size = x.shape[axis] // parts()
        return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(AXIS) * size, size, axis)

    return jax.tree.map(cut, tree)


def _sum_over_processors(tree: PyTree) -> PyTree:
    """The sum of every leaf; as one array, since each array costs a meeting of the processors."""
    leaves, structure = jax.tree.flatten(tree)
    flat = jax.lax.psum(jnp.concatenate([jnp.ravel(x) for x in leaves]), AXIS)
    split = jnp.split(flat, np.cumsum([x.size for x in leaves])[:-1])
    summed = [s.reshape(x.shape).astype(x.dtype) for s, x in zip(split, leaves, strict=True)]
    return jax.tree.unflatten(structure, summed)


def all_lanes(tree: PyTree) -> PyTree:
    """Leaves `[T, b, ...]` of the processors' own lanes as `[T, B, ...]` of all; as one array."""
    if parts() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)

    def bits(x: Array) -> Array:
        lane_first = jnp.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
        if x.dtype == bool:
            return lane_first.astype(jnp.uint32)
        return jax.lax.bitcast_convert_type(lane_first, jnp.uint32)

    def unpacked(bits: Array, like: Array) -> Array:
        x = bits.reshape(-1, like.shape[0], *like.shape[2:])
        x = x.astype(bool) if like.dtype == bool else jax.lax.bitcast_convert_type(x, like.dtype)
        return jnp.moveaxis(x, 0, 1)

    packed = jnp.concatenate([bits(x) for x in leaves], axis=1)
    packed = jax.lax.all_gather(packed, AXIS, tiled=True)
    split = jnp.split(packed, np.cumsum([x.size // x.shape[1] for x in leaves])[:-1], axis=1)
    return jax.tree.unflatten(
        structure, [unpacked(s, x) for s, x in zip(split, leaves, strict=True)]
    )


def whole(tree: PyTree) -> PyTree:
    """Arrays that several processors hold, as if one had made them."""

    def one(x: Any) -> Any:
        shared = isinstance(x, jax.Array) and len(x.sharding.device_set) > 1
        return jnp.asarray(np.asarray(x)) if shared else x

    return jax.tree.map(one, tree)

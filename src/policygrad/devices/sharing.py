"""One batch shared between CPU devices.

Inside a `shard_map` over `AXIS` each device steps lanes of its own and takes rows of its own
through the networks; everything else is computed on all of them alike, from equal numbers to equal
numbers. They meet for the record of a segment, for values, and for sums over rows. Outside of it
every function here leaves its argument as it is.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

AXIS = "processors"
LEAST_ROWS = 2048  # a processor: with fewer, meetings cost what sharing brings


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
    """How many processors share the rows, in what is being traced; 1 where nothing is shared."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.shape[AXIS] if AXIS in mesh.manual_axes else 1


def own(tree: PyTree, axis: int = 0) -> PyTree:
    """This processor's share of leaves that hold all rows, or all lanes, along an axis."""
    if parts() == 1:
        return tree

    def cut(x: Array) -> Array:
        size = x.shape[axis] // parts()
        return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(AXIS) * size, size, axis)

    return jax.tree.map(cut, tree)


def everyones(tree: PyTree) -> PyTree:
    """Leaves `[n, ...]` of own rows as `[N, ...]` of all, in order."""
    if parts() == 1:
        return tree
    return jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, tiled=True), tree)


def total(tree: PyTree) -> PyTree:
    """The sum over processors of every leaf."""
    if parts() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    summed = _together(lambda x: jax.lax.psum(x, AXIS), [x.reshape(1, -1) for x in leaves])
    return jax.tree.unflatten(
        structure, [s.reshape(x.shape) for s, x in zip(summed, leaves, strict=True)]
    )


def all_lanes(tree: PyTree) -> PyTree:
    """Leaves `[T, b, ...]` of own lanes as `[T, B, ...]` of all."""
    if parts() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    own = [jnp.moveaxis(x, 1, 0).reshape(x.shape[1], -1) for x in leaves]
    gathered = [
        jnp.moveaxis(g.reshape(-1, len(x), *x.shape[2:]), 0, 1)
        for g, x in zip(_together(everyones, own), leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, gathered)


def _together(meet: Callable[[Array], Array], matrices: list[Array]) -> list[Array]:
    """`meet` of matrices of equally many rows: those of one type as one, since each array that
    is met for costs the same time as many."""
    found: dict[int, Array] = {}
    for dtype in dict.fromkeys(m.dtype for m in matrices):
        places = [i for i, m in enumerate(matrices) if m.dtype == dtype]
        edges = np.cumsum([matrices[i].shape[1] for i in places])[:-1]
        met = meet(jnp.concatenate([matrices[i] for i in places], axis=1))
        found |= dict(zip(places, jnp.split(met, edges, axis=1), strict=True))
    return [found[i] for i in range(len(matrices))]


def whole(tree: PyTree) -> PyTree:
    """Arrays that several processors hold, as if one had made them."""

    def one(x: Any) -> Any:
        shared = isinstance(x, jax.Array) and len(x.sharding.device_set) > 1
        return jnp.asarray(np.asarray(x)) if shared else x

    return jax.tree.map(one, tree)

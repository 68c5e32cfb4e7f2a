"""Computing the parts of a batch, and putting their results together.

The bits of a result must not depend on the number of devices. So each part is compiled by itself
(`_by_itself`). The results of all parts are put into arrays of the same shapes and order, whatever
the number of devices. Sums are added in the order of the parts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from policygrad.devices.sharing import AXIS, UNSHARED, WHOLE, Part, current, sharing_is


def roll_parts(
    function: Callable[[Part, PyTree], tuple[PyTree, PyTree]], lanes: PyTree
) -> tuple[PyTree, PyTree]:
    """Roll out the lanes of every part.

    Args:
        function: (part, its lanes `[b, ...]`) -> the lanes afterwards, and their record
            `[T, b, ...]`.
        lanes: those of this device, `[B / devices, ...]`.

    Returns:
        The lanes of this device afterwards, and the record of the lanes of all devices,
        `[T, B, ...]`.
    """
    sharing = current()
    if sharing.parts == 1:
        return function(WHOLE, lanes)

    def mine(number: Any) -> PyTree:
        return Part(number, sharing.parts_of_a_device).of(lanes)

    def one(part: Part, number: Any) -> tuple[PyTree, PyTree]:
        following, record = function(part, mine(number))
        return following, jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), record)

    following, record = _each_part(one, mine, lanes)
    return following, jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), record)


def sum_and_map_parts(
    function: Callable[[PyTree], tuple[PyTree, PyTree]], rows: PyTree
) -> tuple[PyTree, PyTree]:
    """f(rows), where f sums rows `[n, ...]` and maps them to `[n, ...]`, computed part by part."""

    def one(part: Part, _: Any) -> tuple[PyTree, PyTree]:
        sums, mapped = function(part.of(rows))
        return (), (jax.tree.map(lambda x: x[None], sums), mapped)

    sums, mapped = _each_part(one)[1]
    return jax.tree.map(_sum_in_order, sums), mapped


def _sum_in_order(x: Array) -> Array:
    """The sum over the first axis, from first to last."""
    total = x[0]
    for i in range(1, len(x)):
        total = total + x[i]
    return total


def _each_part(
    function: Callable[[Part, Any], tuple[PyTree, PyTree]],
    otherwise: Callable[[Any], PyTree] = lambda number: (),
    kept: PyTree = (),
) -> tuple[PyTree, PyTree]:
    """Compute a function of every part. Inside of the function nothing is shared.

    Args:
        function: (part, its number among the parts of this device) -> a result that stays on this
            device, and one that all devices get; both pytrees of `[n, ...]`.
        otherwise: number -> any arrays of the types and shapes of the result that stays.
        kept: any arrays of the types and shapes of the results that stay, of all parts of this
            device together.

    Returns:
        The results that stay, of the parts of this device, and those that all devices get, of the
        parts of all devices: pytrees of `[N, ...]`.
    """
    sharing = current()
    k = sharing.parts_of_a_device
    first = jax.lax.axis_index(AXIS) * k if sharing.devices > 1 else 0

    def compute(index: Any, number: Any) -> tuple[PyTree, _Packed]:
        with sharing_is(UNSHARED):
            stays, met = function(Part(index, sharing.parts), number)
        return stays, _Packed.of(met)

    def one(number: Any) -> tuple[PyTree, _Packed]:
        return _by_itself(compute, otherwise, jnp.asarray(first + number, jnp.int32), number)

    if k == 1:
        stays, met = one(0)
    else:
        _, shapes = jax.eval_shape(one, 0)
        empty = jax.tree.map(lambda x: jnp.zeros((k * len(x), *x.shape[1:]), x.dtype), shapes)

        def put(number: Any, filled: PyTree) -> PyTree:
            return jax.tree.map(
                lambda x, part: jax.lax.dynamic_update_slice_in_dim(x, part, number * len(part), 0),
                filled,
                one(number),
            )

        stays, met = jax.lax.fori_loop(0, k, put, (kept, empty))
    if sharing.devices > 1:
        met = jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, tiled=True), met)
    return stays, met.unpacked()


def _by_itself(
    compute: Callable, otherwise: Callable, index: Int[Array, ""], number: Any
) -> tuple[PyTree, "_Packed"]:
    """compute(index, number), compiled so that XLA fuses none of it with the code around it.

    In fused code a product and a sum may become one operation, which rounds once instead of twice.
    The code around a part differs with the number of devices, and the last bits of its result would
    differ too. XLA fuses nothing across the border of a conditional branch. Here the branch is
    always taken, because no cosine is above 2, but XLA does not know that.
    """
    jaxpr, shapes = jax.make_jaxpr(compute, return_shape=True)(index, number)
    structure = jax.tree.structure(shapes)

    def branch(index: Any, number: Any) -> PyTree:
        leaves = jax.extend.core.jaxpr_as_fun(jaxpr)(index, number)
        return jax.tree.unflatten(structure, leaves)

    def never(_: Any, number: Any) -> PyTree:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[1])
        return otherwise(number), zeros

    always = ~(jnp.cos(index.astype(jnp.float32)) > 2)
    return jax.lax.cond(always, branch, never, index, number)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["matrices"],
    meta_fields=["structure", "places", "shapes"],
)
@dataclass(frozen=True)
class _Packed:
    """A pytree of arrays `[n, ...]`, with those of equal type and n side by side in one matrix.

    Each array that devices exchange makes them wait for each other, whatever its size.

    Attributes:
        matrices: `[n, columns]` each.
        structure: of the pytree.
        places: for each matrix, the numbers of the leaves that it holds.
        shapes: for each leaf, its shape without the first axis.
    """

    matrices: tuple[Array, ...]
    structure: Any
    places: tuple[tuple[int, ...], ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tree: PyTree) -> "_Packed":
        """A pytree, packed."""
        leaves, structure = jax.tree.flatten(tree)
        alike: dict[Any, list[int]] = {}
        for i, x in enumerate(leaves):
            alike.setdefault((len(x), x.dtype), []).append(i)
        places = tuple(tuple(some) for some in alike.values())
        flat = [x.reshape(len(x), _size(x.shape[1:])) for x in leaves]
        matrices = tuple(jnp.concatenate([flat[i] for i in some], axis=1) for some in places)
        return cls(matrices, structure, places, tuple(x.shape[1:] for x in leaves))

    def unpacked(self) -> PyTree:
        """The pytree."""
        found: dict[int, Array] = {}
        for matrix, some in zip(self.matrices, self.places, strict=True):
            edges = np.cumsum([_size(self.shapes[i]) for i in some])[:-1]
            for i, columns in zip(some, jnp.split(matrix, edges, axis=1), strict=True):
                found[i] = columns.reshape(len(matrix), *self.shapes[i])
        return jax.tree.unflatten(self.structure, [found[i] for i in range(len(found))])


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))

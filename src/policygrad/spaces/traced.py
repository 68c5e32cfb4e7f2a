"""Observations inside compiled programs, where types are known as a program is traced, and values
only as it runs.

`read_traced` checks structures, shapes and kinds of numbers. `outside` finds the values that
`reading` would refuse: choices out of range, and numbers that an array of integers cannot hold.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree, Shaped

from policygrad.core.modules import is_array, narrowed
from policygrad.spaces.reading import Leaf, Node, NotOfSpace, Parts, reader_of, short
from policygrad.spaces.space import Space

Limits = tuple[Any, Any]  # the lowest and the highest value


class Outside(NamedTuple):
    """Which numbers of an array of observations its space does not hold.

    Attributes:
        leaf: describes the array.
        values: `[..., n]`, as they are recorded.
        wrong: `[..., n]`.
    """

    leaf: Leaf
    values: Shaped[Array, "... n"]
    wrong: Bool[Array, "... n"]

    @property
    def any(self) -> Bool[Array, "..."]:
        """Where an observation holds such a number."""
        return jnp.any(self.wrong, axis=-1)

    @property
    def first(self) -> Shaped[Array, "..."]:
        """The first such number of each observation; meaningless where there is none."""
        place = jnp.argmax(self.wrong, axis=-1)[..., None]
        return jnp.take_along_axis(self.values, place, axis=-1)[..., 0]


def read_traced(node: Node, value: Any) -> PyTree:
    """One observation as a record keeps it; numbers that may not fit in the space's type keep
    their own, in at most 32 bits.

    Args:
        node: the `reader_of` the space.
        value: of whatever structure, which may hold tracers.

    Raises:
        NotOfSpace: another structure or shape, or what are no real numbers.
    """
    return node.map(_read, value)


def outside(space: Space, observations: PyTree, *, batch: int) -> list[Outside | None]:
    """The checks of the arrays of observations, in the order of `leaves_of`; None for an array that
    needs none.

    Args:
        space: of one observation.
        observations: `[..., *shape]` each, from a record.
        batch: the number of axes in front.
    """
    found: list[Outside | None] = []
    reader_of(space).map(
        lambda leaf, x: found.append(_outside(leaf, jnp.asarray(x), batch)), observations
    )
    return found


def leaves_of(space: Space) -> list[Leaf]:
    """What describes the arrays of an observation, in order."""

    def of(node: Node) -> list[Leaf]:
        if isinstance(node, Parts):
            return [leaf for part in node.parts.values() for leaf in of(part)]
        return [node]

    return of(reader_of(space))


def stray(leaf: Leaf, value: Any) -> str:
    """The words for a number that an observation may not hold, as it was recorded."""
    number = np.asarray(value).item() + (0 if leaf.left_out is None else np.min(leaf.left_out))
    if leaf.bounds is None:
        return f"{number} in the {leaf.name}, which does not fit in {leaf.dtype}"
    low, high = leaf.bounds
    return f"{number} in the {leaf.name}, which is outside of {np.min(low)} to {np.max(high)}"


def _read(leaf: Leaf, value: Any) -> Array:
    array = _numbers(leaf, value)
    if array.shape != leaf.shape:
        raise NotOfSpace(f"{leaf.name} of shape {array.shape}, expected {leaf.shape}")
    if leaf.left_out is not None:
        if array.dtype != np.int64:
            raise NotOfSpace(
                f"{leaf.name} of type {array.dtype}, which cannot hold the numbers of "
                f"{leaf.space.to_gymnasium()}; give the space a smaller start"
            )
        return _within_32_bits(array - leaf.left_out)
    if leaf.dtype.kind == "f" and not jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(leaf.dtype)
    if np.can_cast(array.dtype, leaf.dtype):
        return array.astype(leaf.dtype)
    return _within_32_bits(array) if array.dtype == np.int64 else narrowed(array)


def _numbers(leaf: Leaf, value: Any) -> Array:
    if not (is_array(value) or isinstance(value, (bool, int, float, list, tuple))):
        raise NotOfSpace(f"{leaf.name} {short(value)}, expected {leaf.space.to_gymnasium()}")
    try:
        array = jnp.asarray(value)
    except Exception as error:
        raise NotOfSpace(
            f"{leaf.name} that is no array ({error}), expected {leaf.space.to_gymnasium()}"
        ) from None
    if not is_real(array):
        raise NotOfSpace(
            f"{leaf.name} of type {array.dtype}, which holds no real numbers, expected numbers of "
            f"type {leaf.dtype}"
        )
    return array


def is_real(array: Any) -> bool:
    """Whether an array holds flags, whole numbers or floats."""
    kinds = jnp.bool_, jnp.integer, jnp.floating
    return any(jnp.issubdtype(array.dtype, kind) for kind in kinds)


def _within_32_bits(array: Array) -> Array:
    """Whole numbers of 64 bits in 32; too large ones stay large."""
    limits = np.iinfo(np.int32)
    return jnp.clip(array, limits.min, limits.max).astype(jnp.int32)


def _outside(leaf: Leaf, array: Array, batch: int) -> Outside | None:
    limits = _limits(leaf, array.dtype)
    if limits is None:
        return None
    low, high = limits
    wrong = ~((array >= low) & (array <= high))
    if jnp.issubdtype(array.dtype, jnp.floating):
        wrong |= array != jnp.floor(array)
    entries = (*array.shape[:batch], -1)
    return Outside(leaf, array.reshape(entries), wrong.reshape(entries))


def _limits(leaf: Leaf, dtype: Any) -> Limits | None:
    """Between which numbers of this type a record's must lie, in this type; None for all."""
    if leaf.bounds is not None:
        offset = 0 if leaf.left_out is None else leaf.left_out
        low, high = (np.asarray(bound) - offset for bound in leaf.bounds)
    elif leaf.dtype.kind == "b" and dtype != np.bool_:
        low, high = np.asarray(0), np.asarray(1)
    elif leaf.dtype.kind in "iu" and not np.can_cast(dtype, leaf.dtype):
        of_type = np.iinfo(leaf.dtype)
        low, high = np.asarray(of_type.min), np.asarray(of_type.max)
    else:
        return None
    if dtype == np.bool_:
        return low > 0, high > 0
    if not jnp.issubdtype(dtype, jnp.floating):
        own = jnp.iinfo(dtype)
        low, high = np.clip(low, own.min, own.max), np.clip(high, own.min, own.max)
    return low.astype(dtype), high.astype(dtype)

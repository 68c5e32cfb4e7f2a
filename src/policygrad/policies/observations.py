"""What a user hands to an agent: one observation of its space, or several."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree

from policygrad.core.errors import UserError
from policygrad.spaces.nested import Tuple
from policygrad.spaces.reading import Leaf, Node, NotOfSpace

LARGEST = np.finfo(np.float32).max
HINT = (
    "; it is a pair with a dict, as `reset` returns it: pass the observation alone "
    "(observation, info = env.reset())"
)


class NonFiniteObservation(UserError):
    """An observation with a NaN, an infinity, or a number too large for 32 bits.

    Attributes:
        several: whether it was one of several observations.
    """

    def __init__(self, message: str, *, several: bool) -> None:
        super().__init__(message)
        self.several = several


class Seen(NamedTuple):
    """An observation, or several.

    Attributes:
        observation: pytree of `[*shape]`, or of `[B, *shape]`, in the types of a record.
        batch: B; None for one observation.
    """

    observation: PyTree
    batch: int | None


def seen(reader: Node, value: Any) -> Seen:
    """One observation, or several, with one more axis in front of every array.

    Args:
        reader: of the observation space.
        value: as the user handed it over.

    Raises:
        UserError: another structure or shape, or values that are no numbers of the space.
        NonFiniteObservation: a number is NaN, infinite or too large; it names the component.
    """
    batches: set[tuple[int, ...]] = set()

    def read(leaf: Leaf, given: Any) -> np.ndarray:
        array = leaf.numbers(given)
        batch = _batch(leaf, array.shape)
        batches.add(batch)
        if array.dtype.kind == "f" and not _finite(array).all():
            raise _not_finite(leaf, array, several=bool(batch))
        return leaf.record(leaf.read(array, batch))

    try:
        observation = reader.map(read, value)
    except NotOfSpace as error:
        raise UserError(f"got {error}{HINT if _is_pair(value, reader) else ''}") from None
    if len(batches) > 1:
        raise UserError(
            f"the arrays of the observation hold {_several(batches)}; expected one observation, "
            "or the same number of observations in every array"
        )
    batch = batches.pop()
    return Seen(observation, batch[0] if batch else None)


def _batch(leaf: Leaf, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in front of that of one observation: none, or B."""
    if shape == leaf.shape:
        return ()
    if shape[1:] == leaf.shape and shape:
        return shape[:1]
    several = ", ".join(["B", *map(str, leaf.shape)])
    raise UserError(
        f"{leaf.name} has the shape {list(shape)}, expected {list(leaf.shape)}, or [{several}] "
        "for B observations"
    )


def _finite(array: np.ndarray) -> np.ndarray:
    return np.abs(array) <= LARGEST  # False for NaN


def _not_finite(leaf: Leaf, array: np.ndarray, *, several: bool) -> NonFiniteObservation:
    wrong = tuple(np.argwhere(~_finite(array))[0].tolist())
    place = "".join(f"[{i}]" for i in wrong)
    hold = "" if several else ', or pass on_nan="hold" to repeat the last action'
    return NonFiniteObservation(
        f"{array[wrong]} in {leaf.name}{place}: no action follows from it; correct the "
        f"observation{hold}",
        several=several,
    )


def _is_pair(value: Any, reader: Node) -> bool:
    """Whether it looks like what `reset` returns, in a space of other observations."""
    pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Mapping)
    return pair and not (isinstance(reader.space, Tuple) and len(reader.space.spaces) == 2)


def _several(batches: set[tuple[int, ...]]) -> str:
    told = sorted(f"{n[0]} observations" if n else "one observation" for n in batches)
    return " and ".join(told)

"""Reading observations: checked against their space, and converted to the types of a record.

Whatever is handed over is read here, by an environment as well as by the user of an agent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import PyTree

from policygrad.core.numbers import plain_number
from policygrad.spaces.choices import Discrete, MultiBinary, MultiDiscrete
from policygrad.spaces.nested import Dict, Nested
from policygrad.spaces.space import Space, path_of


class NotOfSpace(Exception):
    """What was handed over is not what the space says; the message says what, and what it is."""


@dataclass(frozen=True)
class Leaf:
    """An array of an observation.

    Attributes:
        name: of the array, such as `observation['camera']`.
        space: of the array.
        shape: of one observation.
        dtype: that of a record; 64 bits where `left_out` is not None.
        bounds: the lowest and the highest value of a choice; None if values are not checked.
        left_out: the start of choices that need 64 bits, which a record leaves out; else None.
    """

    name: str
    space: Space
    shape: tuple[int, ...]
    dtype: np.dtype
    bounds: tuple[Any, Any] | None
    left_out: Any

    def map(self, each: Callable[..., Any], *values: Any) -> Any:
        """`each` of this leaf and its values."""
        return each(self, *values)

    def numbers(self, value: Any) -> np.ndarray:
        """An array of numbers, of whatever type and shape.

        Raises:
            NotOfSpace: it is no array of numbers.
        """
        if type(value) is np.ndarray and value.dtype.kind in "fiub":
            return value
        if value is None or isinstance(value, (str, bytes, Mapping)):
            raise NotOfSpace(f"{self.name} {short(value)}, expected {self.space.to_gymnasium()}")
        try:
            array = np.asarray(value)
        except Exception as error:
            raise NotOfSpace(
                f"{self.name} that is no array ({error}): {value!r}, expected "
                f"{self.space.to_gymnasium()}"
            ) from None
        if array.dtype.kind == "O":  # whole numbers of more than 64 bits, for instance
            plain = [plain_number(x) for x in array.flat]
            if None not in plain:
                return np.array(plain, float).reshape(array.shape)
        if array.dtype.kind not in "fiub":
            raise NotOfSpace(
                f"{self.name} of type {array.dtype}, which holds no numbers, expected numbers of "
                f"type {self.dtype}: {array}"
            )
        return array

    def read(self, value: Any, lanes: tuple[int, ...] = (), *, large: bool = True) -> np.ndarray:
        """`[*lanes, *shape]` in `dtype`, checked.

        It is not a copy if the type is right already.

        Args:
            value: as it was handed over.
            lanes: the shape in front of that of one observation.
            large: whether a number may be too large for `dtype`; it becomes infinite.

        Raises:
            NotOfSpace: another shape, or values that are no numbers of the space.
        """
        usual = type(value) is np.ndarray and value.dtype is self.dtype  # every step of every lane
        array = value if usual else self.numbers(value)
        if array.shape != (lanes + self.shape if lanes else self.shape):
            raise NotOfSpace(
                f"{self.name} of shape {array.shape}, expected {(*lanes, *self.shape)}"
            )
        if not usual:
            array = self._converted(array, large=large)
        if self.bounds is not None:
            low, high = self.bounds
            outside = (array < low) | (array > high)
            if outside.any() if self.shape or lanes else outside:
                raise NotOfSpace(
                    f"{array[outside].flat[0]} in the {self.name}, which is outside of "
                    f"{np.min(low)} to {np.max(high)}"
                )
        return array

    def record(self, rows: np.ndarray) -> np.ndarray:
        """`[..., *shape]` that were read -> what a record keeps, in at most 32 bits."""
        if self.left_out is None:
            return rows
        return np.asarray(rows - self.left_out, self.space.example().dtype)

    def _converted(self, array: np.ndarray, *, large: bool) -> np.ndarray:
        """Numbers of another type, if they fit."""
        if self.dtype.kind == "f":
            with np.errstate(over="ignore"):  # an infinite observation is refused where it is used
                found = array.astype(self.dtype)
            if not large and array.dtype.itemsize > self.dtype.itemsize:
                wrong = np.isinf(found) & np.isfinite(array)
                if wrong.any():
                    raise NotOfSpace(
                        f"{array[wrong].flat[0]} in the {self.name}, which does not fit in "
                        f"{self.dtype}"
                    )
            return found
        if not np.can_cast(array.dtype, self.dtype):
            limits = (0, 1) if self.dtype.kind == "b" else _limits(self.dtype)
            wrong = ~((array >= limits[0]) & (array <= limits[1]))
            if array.dtype.kind == "f":
                wrong |= array != np.floor(array)
            if np.any(wrong):
                raise NotOfSpace(
                    f"{array[wrong].flat[0]} in the {self.name}, which does not fit in {self.dtype}"
                )
        return array.astype(self.dtype)


@dataclass(frozen=True)
class Parts:
    """A Dict or a Tuple of an observation.

    Attributes:
        name: such as `observation['robot']`.
        space: of all parts.
        parts: by their names, or by their numbers.
    """

    name: str
    space: Nested
    parts: dict[Any, "Node"]

    def map(self, each: Callable[..., Any], *values: PyTree) -> PyTree:
        """`each` of every leaf and what stands there in the values.

        Raises:
            NotOfSpace: a value of another structure.
        """
        for value in values:
            self._check(value)
        return self.space.like(
            part.map(each, *(value[key] for value in values)) for key, part in self.parts.items()
        )

    def read(self, value: Any, lanes: tuple[int, ...] = (), *, large: bool = True) -> PyTree:
        """As `Leaf.read`, leaf by leaf."""
        return self.map(lambda leaf, own: leaf.read(own, lanes, large=large), value)

    def _check(self, value: Any) -> None:
        if isinstance(self.space, Dict):
            if isinstance(value, Mapping) and value.keys() == self.parts.keys():
                return
            expected = f"a dict with {list(self.parts)}"
        else:
            if isinstance(value, (tuple, list)) and len(value) == len(self.parts):
                return
            expected = f"a tuple of {len(self.parts)} parts"
        got = f"that is a dict with {list(value)}" if isinstance(value, Mapping) else short(value)
        raise NotOfSpace(f"{self.name} {got}, expected {expected}")


Node = Leaf | Parts


def reader_of(space: Space, keys: tuple[Any, ...] = ()) -> Node:
    """What reads the observations of a space.

    Args:
        space: of the observations.
        keys: where it stands in the observation.
    """
    name, left_out = path_of(keys), None
    match space:
        case Nested():
            return Parts(name, space, {k: reader_of(v, (*keys, k)) for k, v in space.entries})
        case Discrete(n=n, start=low, left_out=left_out):
            bounds = low, low + n - 1
        case MultiDiscrete(sizes=sizes, starts=low, left_out=left_out):
            bounds = low, low + sizes - 1
        case MultiBinary():
            bounds = 0, 1
        case _:
            bounds = None
    example = np.asarray(space.example())
    if left_out is None or not np.any(left_out):
        return Leaf(name, space, example.shape, example.dtype, bounds, None)
    return Leaf(name, space, example.shape, np.dtype(np.int64), bounds, left_out)


def _limits(dtype: np.dtype) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def short(value: Any) -> str:
    """A value that is no array, in few words."""
    text = repr(value)
    return f"of type {type(value).__name__}: {text if len(text) < 80 else text[:77] + '...'}"

"""Reading what environments hand over: each value is checked once, in the types of a record."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from numbers import Real
from typing import Any

import gymnasium
import numpy as np

from policygrad.spaces import observation_space_of


class NotOfSpace(Exception):
    """What was handed over is not what the space says; the message says what, and what it is."""


@dataclass(frozen=True)
class Leaf:
    """An array of an observation.

    Attributes:
        name: of the array, such as `observation['camera']`.
        shape: of one observation.
        dtype: in which it is kept, of at most 32 bits unless its choices begin beyond them.
        bounds: the lowest and the highest value of a choice; None if values are not checked.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    bounds: tuple[Any, Any] | None

    def zeros(self, lanes: int) -> np.ndarray:
        """`[B, *shape]`"""
        return np.zeros((lanes, *self.shape), self.dtype)

    def read(self, value: Any, lanes: tuple[int, ...] = ()) -> np.ndarray:
        """`[*lanes, *shape]`, checked; not always a copy, nor always of the record's type yet."""
        array = value if type(value) is np.ndarray else self._array(value)
        if array.shape != (lanes + self.shape if lanes else self.shape):
            raise NotOfSpace(
                f"{self.name} of shape {array.shape}, expected {(*lanes, *self.shape)}"
            )
        if array.dtype is not self.dtype and not needs_no_check(array.dtype, self.dtype):
            array = self._converted(array)
        if self.bounds is not None:
            low, high = self.bounds
            outside = (array < low) | (array > high)
            if outside.any() if self.shape or lanes else outside:
                wrong = array[outside].flat[0]
                raise NotOfSpace(f"{wrong} in the {self.name}, which is outside of {self._range}")
        return array

    def copy(self, value: Any, lanes: int) -> np.ndarray:
        """`[B, *shape]` of B lanes, checked and copied; infinite where 32 bits do not suffice."""
        array = self.read(value, (lanes,))
        if array.dtype is self.dtype:
            return array.copy()
        with np.errstate(over="ignore"):  # an infinite observation is refused where it is used
            return array.astype(self.dtype)

    def place(self, value: np.ndarray, rows: np.ndarray, lane: int) -> None:
        """Write one observation, as `read` returned it, into the row of a lane."""
        if value.dtype is self.dtype:
            rows[lane] = value
            return
        with np.errstate(over="ignore"):  # as in `copy`
            rows[lane] = value

    @property
    def _range(self) -> str:
        low, high = np.asarray(self.bounds)
        return f"{low.min()} to {high.max()}"

    def _array(self, value: Any) -> np.ndarray:
        if value is None or isinstance(value, (str, bytes, Mapping)):
            raise NotOfSpace(f"{self.name} {_short(value)}, expected numbers of shape {self.shape}")
        try:
            return np.asarray(value)
        except Exception as error:
            raise NotOfSpace(f"{self.name} that is no array ({error}): {value!r}") from None

    def _converted(self, array: np.ndarray) -> np.ndarray:
        """An array whose type does not simply fit the record's, if its values do."""
        if array.dtype.kind == "O":  # whole numbers of more than 64 bits, for instance
            numbers = [plain_number(x) for x in array.flat]
            if None not in numbers:
                array = np.array(numbers, float).reshape(array.shape)
        if array.dtype.kind not in "fiub":
            raise NotOfSpace(
                f"{self.name} of type {array.dtype}, expected numbers of type {self.dtype}: {array}"
            )
        if self.dtype.kind == "f":
            return array.astype(self.dtype)
        limits = (0, 1) if self.dtype.kind == "b" else _limits(self.dtype)
        wrong = ~((array >= limits[0]) & (array <= limits[1]))
        if array.dtype.kind == "f":
            wrong |= array != np.floor(array)
        if np.any(wrong):
            value = array[wrong].flat[0]
            raise NotOfSpace(f"{value} in the {self.name}, which does not fit in {self.dtype}")
        return array.astype(self.dtype)


@dataclass(frozen=True)
class Parts:
    """A Dict or a Tuple of an observation.

    Attributes:
        name: such as `observation['robot']`.
        parts: by their names, or by their numbers.
        named: whether it is a Dict.
    """

    name: str
    parts: dict[Any, "Node"]
    named: bool

    def zeros(self, lanes: int) -> Any:
        """`[B, ...]`"""
        return self._like({k: part.zeros(lanes) for k, part in self.parts.items()})

    def read(self, value: Any) -> Any:
        """As `Leaf.read`, part by part."""
        values = self._of(value)
        return self._like({k: part.read(values[k]) for k, part in self.parts.items()})

    def copy(self, value: Any, lanes: int) -> Any:
        """As `Leaf.copy`, part by part."""
        values = self._of(value)
        return self._like({k: part.copy(values[k], lanes) for k, part in self.parts.items()})

    def place(self, value: Any, rows: Any, lane: int) -> None:
        """As `Leaf.place`, part by part."""
        for k, part in self.parts.items():
            part.place(value[k], rows[k], lane)

    def _like(self, values: dict[Any, Any]) -> Any:
        return values if self.named else tuple(values.values())

    def _of(self, value: Any) -> Any:
        known = list(self.parts)
        if not self.named:
            if not isinstance(value, (tuple, list)) or len(value) != len(known):
                raise NotOfSpace(f"{self.name} {_short(value)}, expected a tuple of {len(known)}")
        elif not isinstance(value, Mapping):
            raise NotOfSpace(f"{self.name} {_short(value)}, expected a dict with {known}")
        elif value.keys() != self.parts.keys():
            raise NotOfSpace(f"{self.name} with {list(value)}, expected a dict with {known}")
        return value


Node = Leaf | Parts


_READERS: dict[int, tuple[gymnasium.Space, Node]] = {}  # by the id of a space that is kept


def reader(space: gymnasium.Space) -> Node:
    """What reads the observations of a space; it is made once for each object."""
    known = _READERS.get(id(space))
    if known is None:
        observation_space_of(space)  # raises if no policy supports it
        if len(_READERS) >= 64:
            _READERS.clear()
        known = _READERS[id(space)] = space, _node(space, "observation")
    return known[1]


def _node(space: Any, name: str) -> Node:
    match space:
        case gymnasium.spaces.Dict():
            parts = {k: _node(part, f"{name}[{k!r}]") for k, part in space.items()}
            return Parts(name, parts, named=True)
        case gymnasium.spaces.Tuple():
            parts = {i: _node(part, f"{name}[{i}]") for i, part in enumerate(space)}
            return Parts(name, parts, named=False)
        case gymnasium.spaces.Discrete():
            bounds = int(space.start), int(space.start + space.n - 1)
        case gymnasium.spaces.MultiDiscrete():
            bounds = space.start, space.start + space.nvec - 1
        case gymnasium.spaces.MultiBinary():
            bounds = 0, 1
        case _:
            bounds = None
    record = observation_space_of(space)
    example = np.asarray(record.example())
    # a record leaves out a start that needs 64 bits; what was handed over still has it
    has_start = np.any(getattr(record, "left_out", 0))
    return Leaf(name, example.shape, np.dtype(np.int64) if has_start else example.dtype, bounds)


@lru_cache(maxsize=256)
def needs_no_check(given: np.dtype, kept: np.dtype) -> bool:
    """Whether every number of one type can be written as the other."""
    return given.kind in "fiub" and (kept.kind == "f" or np.can_cast(given, kept))


def _limits(dtype: np.dtype) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _short(value: Any) -> str:
    text = repr(value)
    return f"of type {type(value).__name__}: {text if len(text) < 80 else text[:77] + '...'}"


# ----- single numbers


def plain_number(value: Any) -> float | None:
    """A real number however it is wrapped, also in an array of one; None if it is none."""
    if isinstance(value, (Real, Decimal, np.bool_)):
        try:
            return float(value)
        except OverflowError:  # a whole number beyond all floats
            return -math.inf if getattr(value, "numerator", 1) < 0 else math.inf
    if value is None or isinstance(value, (str, bytes)):
        return None
    try:
        array = np.asarray(value)
    except Exception:
        return None
    if array.size != 1 or array.dtype.kind not in "fiubO":
        return None
    item = array.item()
    return plain_number(item) if isinstance(item, (Real, Decimal)) else None


def reward_of(value: Any) -> float:
    """The reward of one step; NotOfSpace if it is not one real number."""
    if type(value) is np.float64:
        return value
    number = plain_number(value)
    if number is None:
        raise NotOfSpace(f"reward {_described(value)}, expected one real number")
    return number


def flag_of(name: str, value: Any) -> bool:
    """One flag of one step; NotOfSpace if it is neither true nor false."""
    if value is True or value is False:
        return value
    number = plain_number(value)
    if number not in (0, 1):
        raise NotOfSpace(f"{name} {_described(value)}, expected True or False")
    return number == 1


def _described(value: Any) -> str:
    shape = np.shape(value) if isinstance(value, (np.ndarray, list, tuple)) else ()
    return f"{value!r} of shape {shape}" if shape else f"{value!r}"

"""Reading an observation that a user hands over: checked against its space, as a record has it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree

from policygrad.core.errors import NonFiniteError, UserError
from policygrad.spaces.choices import Discrete, MultiBinary, MultiDiscrete
from policygrad.spaces.nested import Dict, Nested
from policygrad.spaces.space import Space, path_of

Keys = tuple[Any, ...]


class Seen(NamedTuple):
    """An observation, or several.

    Attributes:
        observation: pytree of `[*shape]`, or of `[B, *shape]`, in the types of a record.
        batch: B; None for one observation.
    """

    observation: PyTree
    batch: int | None


class Reader:
    """Reads observations of a space. Made once, because an agent reads one every step.

    Args:
        space: whose observations it reads.
    """

    def __init__(self, space: Space) -> None:
        self._root = _reader_of(space, ())

    def __call__(self, value: Any) -> Seen:
        """One observation of the space, or several, with one more axis in front of every array.

        Raises:
            UserError: another structure or shape, or values that are no numbers of the space.
            NonFiniteError: a number is NaN or infinite; it names the component.
        """
        sizes: set[int | None] = set()
        observation = self._root.read(value, sizes)
        if len(sizes) > 1:
            raise UserError(
                f"the arrays of the observation hold {_several(sizes)}; expected one observation, "
                "or the same number of observations in every array"
            )
        return Seen(observation, next(iter(sizes), None))


@dataclass(frozen=True)
class _Leaf:
    """Reads an array; `low` and `high` are the range of a choice, None for a Box."""

    space: Space
    keys: Keys
    shape: tuple[int, ...]
    low: Any
    high: Any

    def read(self, value: Any, sizes: set[int | None]) -> np.ndarray:
        array = value if isinstance(value, np.ndarray) else _array(value, self.space, self.keys)
        if array.dtype.kind not in "biuf":
            raise UserError(
                f"{path_of(self.keys)} holds no numbers but {array.dtype}: {_short(value)}"
            )
        if array.shape == self.shape:
            sizes.add(None)
        elif array.ndim == len(self.shape) + 1 and array.shape[1:] == self.shape:
            sizes.add(len(array))
        else:
            several = ", ".join(["B", *map(str, self.shape)])
            raise UserError(
                f"{path_of(self.keys)} has the shape {list(array.shape)}, expected "
                f"{list(self.shape)}, or [{several}] for B observations"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            wrong = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
            raise NonFiniteError(
                f"{array[wrong]} in {path_of((*self.keys, *wrong))}", "observation"
            )
        if self.low is not None:
            self._check_range(array)
            array = array if array.dtype.kind in "iu" else array.astype(np.int64)
        return self.space.record(array)

    def _check_range(self, array: np.ndarray) -> None:
        outside = (array < self.low) | (array > self.high)
        if array.dtype.kind == "f":
            outside |= array != np.floor(array)
        if np.any(outside):
            raise UserError(
                f"{path_of(self.keys)} holds {array[outside].flat[0]}, which is not in the space "
                f"{self.space.to_gymnasium()}"
            )


@dataclass(frozen=True)
class _Parts:
    """Reads a dict or a tuple, part by part."""

    space: Nested
    keys: Keys
    parts: "tuple[tuple[Any, _Leaf | _Parts], ...]"

    def read(self, value: Any, sizes: set[int | None]) -> PyTree:
        named = isinstance(self.space, Dict)
        kind = Mapping if named else (tuple, list)
        if not isinstance(value, kind) or len(value) != len(self.parts):
            raise self._another(value)
        try:
            return self.space.like(part.read(value[key], sizes) for key, part in self.parts)
        except KeyError:
            raise self._another(value) from None

    def _another(self, value: Any) -> UserError:
        keys = [key for key, _ in self.parts]
        expected = f"a dict with {keys}"
        if not isinstance(self.space, Dict):
            expected = f"a tuple of {len(keys)} parts"
        got, hint = _short(value), ""
        if isinstance(value, Mapping):
            got = f"a dict with {list(value)}"
        elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Mapping):
            hint = "; pass the observation alone (observation, info = env.reset())"
        return UserError(f"{path_of(self.keys)} is {got}, expected {expected}{hint}")


def _reader_of(space: Space, keys: Keys) -> _Leaf | _Parts:
    match space:
        case Nested():
            parts = tuple((k, _reader_of(part, (*keys, k))) for k, part in space.entries)
            return _Parts(space, keys, parts)
        case Discrete(n=n, start=start):
            return _Leaf(space, keys, (), start, start + n - 1)
        case MultiDiscrete(starts=starts, sizes=sizes):
            return _Leaf(space, keys, sizes.shape, starts, starts + sizes - 1)
        case MultiBinary(shape=shape):
            return _Leaf(space, keys, shape, 0, 1)
    return _Leaf(space, keys, np.shape(space.example()), None, None)


def _array(value: Any, space: Space, keys: Keys) -> np.ndarray:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], dict):
        raise UserError(
            f"{path_of(keys)} is a pair with a dict, as `reset` returns it: pass the observation "
            f"alone (observation, info = env.reset()); expected {space.to_gymnasium()}"
        )
    if value is None or isinstance(value, (str, bytes, Mapping)):
        raise UserError(f"{path_of(keys)} is {_short(value)}, expected {space.to_gymnasium()}")
    try:
        return np.asarray(value)
    except Exception as error:
        raise UserError(
            f"{path_of(keys)} is no array ({error}): {_short(value)}, expected "
            f"{space.to_gymnasium()}"
        ) from error


def _several(sizes: set[int | None]) -> str:
    told = sorted("one observation" if n is None else f"{n} observations" for n in sizes)
    return " and ".join(told)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."

"""Boxes: numbers between bounds."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from policygrad.spaces.pictures import (
    LEAST_SIDE,
    channels_of,
    height_and_width,
    shape_of_three_axes,
    with_three_axes,
)
from policygrad.spaces.space import ActionSpace, Space, fits_32_bits, record_dtype

# one number where all are equal, else nested tuples; Python's int where the space holds integers
Bounds = float | tuple[Any, ...]

LARGEST_BOUND = 1e30  # a larger number means that there is no bound


@dataclass(frozen=True)
class Box(ActionSpace):
    """Numbers between bounds.

    Actions are read as fractions of the half range around its middle, −1…1 where both bounds are
    finite, and clipped to the bounds on their way to the environment: there and nowhere else, so
    that log-probabilities stay those of the action that was sampled.

    Attributes:
        shape, dtype: of the arrays.
        low, high: one number, or nested tuples of the shape; they may be infinite.
    """

    shape: tuple[int, ...]
    dtype: str
    low: Bounds
    high: Bounds

    @classmethod
    def of(cls, space: gymnasium.spaces.Box) -> "Box":
        """From Gymnasium's."""
        dtype = np.dtype(str(space.dtype))
        low, high = (_compact(bounds, dtype) for bounds in (space.low, space.high))
        return cls(tuple(space.shape), str(dtype), low, high)

    @classmethod
    def from_description(cls, data: dict[str, Any]) -> "Box":
        """From plain data."""
        dtype = np.dtype(data["dtype"])
        low, high = (_numbers(data[name], dtype) for name in ("low", "high"))
        return cls(tuple(data["shape"]), str(dtype), low, high)

    def description(self) -> dict[str, Any]:
        bounds = {"low": _plain(self.low), "high": _plain(self.high)}
        return {"kind": "Box", "shape": self.shape, "dtype": self.dtype, **bounds}

    def to_gymnasium(self) -> gymnasium.spaces.Box:
        low, high = (x.copy() for x in self.limits)
        return gymnasium.spaces.Box(low, high, self.shape, np.dtype(self.dtype).type)  # pyright: ignore[reportArgumentType]

    def example(self) -> np.ndarray:
        return np.zeros(self.shape, self.recorded_dtype)

    @cached_property
    def recorded_dtype(self) -> np.dtype:
        """The type of a record: whole numbers that may need more than 32 bits become floats."""
        dtype = np.dtype(self.dtype)
        if dtype.kind not in "iu" or dtype.itemsize < 8:
            return record_dtype(dtype)
        low, high = self.limits
        if dtype.kind == "u" and np.max(high, initial=0) < 2**32:
            return np.dtype(np.uint32)
        return np.dtype(np.int32 if fits_32_bits(low, high) else np.float32)

    @cached_property
    def picture(self) -> tuple[int, int, int] | None:
        """The shape of the picture as which it is read; None if it is read as plain numbers.

        A picture holds bytes, or numbers from 0 to one finite bound, in three axes. Its height and
        its width are at least 8 pixels. Bytes are a picture even where the shape does not tell
        which axis holds the channels, and where an axis in front counts several pictures; bytes
        from 0 to 255 also where there is no axis for channels. Other numbers are not.
        """
        shape = shape_of_three_axes(self.shape)
        if shape is None or min(height_and_width(shape)) < LEAST_SIDE:
            return None
        least, most = self.low, self.high
        if self.dtype == "uint8":
            return shape if len(self.shape) > 2 or (least, most) == (0, 255) else None
        if len(self.shape) != 3 or channels_of(shape) is None or isinstance(most, tuple):
            return None
        return shape if least == 0 and 0 < most < LARGEST_BOUND else None

    @property
    def unit(self) -> tuple[float, float]:
        """What `features` maps to 0 and to 1: the darkest and the brightest number of a picture,
        which are those of a byte if they differ among pixels; 0 and 1 of anything else."""
        if self.picture is None:
            return 0.0, 1.0
        if isinstance(self.low, tuple) or isinstance(self.high, tuple) or self.low == self.high:
            return 0.0, 255.0
        return float(self.low), float(self.high)

    def features(self, observation: PyTree) -> Float[Array, "..."]:
        numbers = jnp.asarray(observation).reshape(self.shape).astype(jnp.float32)
        if self.picture is None:
            return numbers
        darkest, brightest = self.unit
        return with_three_axes((numbers - darkest) * (1 / (brightest - darkest)))

    @property
    def measured(self) -> tuple[bool, ...]:
        return (self.picture is None,)

    @property
    def pictures(self) -> tuple[tuple[int, ...], ...]:
        return () if self.picture is None else (self.picture,)

    def parts(self, values: PyTree) -> list[Array]:
        return [values]

    @property
    def greatest_entropy(self) -> float:
        return math.nan

    def fits(self, other: Space) -> bool:
        if not (isinstance(other, Box) and self.shape == other.shape):
            return False
        return (self.picture, self.unit) == (other.picture, other.unit)  # read in the same scale

    # ----- as an action space

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)

    @property
    def deviations(self) -> int:
        return self.parameters

    @cached_property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high, `[*shape]`, in the environment's own type."""
        return (self._array(self.low), self._array(self.high))

    def _array(self, bounds: Bounds) -> np.ndarray:
        whole = np.dtype(self.dtype).kind in "iu"  # which floats would round
        array = np.array(bounds, self.dtype if whole else None)
        return np.broadcast_to(array, self.shape).astype(self.dtype)

    @cached_property
    def bounded(self) -> Bool[np.ndarray, "*shape"]:
        """Whether both bounds are finite, and not so large that they mean no bound."""
        low, high = (x.astype(np.float64) for x in self.limits)
        return (np.abs(low) < LARGEST_BOUND) & (np.abs(high) < LARGEST_BOUND)

    @cached_property
    def scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Middle and half range, `[*shape]` in 64 bits; 0 and 1 where a bound is missing."""
        low, high = (x.astype(np.float64) for x in self.limits)
        low, high = np.where(self.bounded, low, -1.0), np.where(self.bounded, high, 1.0)
        return (low + high) / 2, (high - low) / 2

    @cached_property
    def clipping_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Where actions are clipped, in the policy's units: −1 and 1 where both bounds are finite.

        `[*shape]` each, in 32 bits; infinite where there is no bound, or where both are one number,
        so that no action changes anything.
        """
        middle, half = self.scale
        free = half == 0
        low, high = ((bound - middle) / np.where(free, 1, half) for bound in self.limits)
        return (
            np.where(free, -np.inf, low).astype(np.float32),
            np.where(free, np.inf, high).astype(np.float32),
        )

    def to_environment(self, actions: Any, xp: Any = np) -> Any:
        middle, half = self.scale
        dtype = np.dtype(self.dtype)
        if xp is not np:  # in 32 bits, where the nearest number may lie outside the bounds
            dtype = record_dtype(self.dtype)
            middle, half = middle.astype(dtype), half.astype(dtype)
        return xp.clip(middle + half * actions, *self.limits).astype(dtype)


def _compact(bounds: np.ndarray, dtype: np.dtype) -> Bounds:
    if bounds.size and np.all(bounds == bounds.flat[0]):
        return _number(bounds.flat[0].item(), dtype)
    return _numbers(bounds.tolist(), dtype)


def _numbers(bounds: Any, dtype: np.dtype) -> Bounds:
    """Nested lists of numbers (infinities may be text) as nested tuples."""
    if isinstance(bounds, list):
        return tuple(_numbers(x, dtype) for x in bounds)
    return _number(bounds, dtype)


def _number(bound: Any, dtype: np.dtype) -> float:
    """A bound as Python's number; an integer that earlier versions rounded, within its type."""
    if dtype.kind not in "iu":
        return float(bound)
    least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    number = bound if isinstance(bound, int) else float(bound)
    return int(min(max(number, least), most))


def _plain(bounds: Bounds) -> Any:
    """Numbers for JSON: infinities as text, because JSON has no infinity."""
    if isinstance(bounds, tuple):
        return [_plain(x) for x in bounds]
    return bounds if isinstance(bounds, int) or math.isfinite(bounds) else str(bounds)

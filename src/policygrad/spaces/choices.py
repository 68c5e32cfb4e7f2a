"""Choices: one of n, an array of such choices, and an array of flags."""

import math
import operator
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from policygrad.core.errors import UnsupportedSpaceError
from policygrad.spaces.space import ActionSpace, Space, fits_32_bits, record_dtype

USUAL = "int64"  # the type that Gymnasium gives a choice unless it is told another

Nested = int | tuple[Any, ...]


@dataclass(frozen=True)
class Discrete(ActionSpace):
    """One of n whole numbers, from `start` on. Policies count from 0.

    Where the numbers need more than 32 bits, a record of observations counts from 0 too.
    """

    n: int
    start: int = 0
    dtype: str = USUAL

    @classmethod
    def of(cls, space: gymnasium.spaces.Discrete) -> "Discrete":
        """From Gymnasium's."""
        return cls(int(space.n), int(space.start), str(space.dtype))

    @classmethod
    def from_description(cls, data: dict[str, Any]) -> "Discrete":
        """From plain data."""
        return cls(int(data["n"]), int(data["start"]), data.get("dtype", USUAL))

    def description(self) -> dict[str, Any]:
        return {"kind": "Discrete", "n": self.n, "start": self.start, **_unusual(self.dtype)}

    def to_gymnasium(self) -> gymnasium.spaces.Discrete:
        kwargs: dict[str, Any] = (
            {"dtype": np.dtype(self.dtype).type} if _unusual(self.dtype) else {}
        )
        return gymnasium.spaces.Discrete(self.n, start=self.start, **kwargs)

    def example(self) -> Any:
        return np.int32(self.start - self.left_out)

    @cached_property
    def left_out(self) -> int:
        """What a record subtracts from every number."""
        return 0 if fits_32_bits(self.start, self.start + self.n - 1) else self.start

    def features(self, observation: PyTree) -> Float[Array, " n"]:
        index = jnp.asarray(observation, jnp.int32) - (self.start - self.left_out)
        return jax.nn.one_hot(index, self.n, dtype=jnp.float32)

    @property
    def measured(self) -> tuple[bool, ...]:
        return (False,)

    def parts(self, values: PyTree) -> list[Array]:
        return [values]

    @property
    def greatest_entropy(self) -> float:
        return float(np.log(self.n))

    def fits(self, other: Space) -> bool:
        return isinstance(other, Discrete) and (self.n, self.start) == (other.n, other.start)

    @property
    def parameters(self) -> int:
        return self.n

    def to_environment(self, actions: Any, xp: Any = np) -> Any:
        if xp is np:
            dtype = np.dtype(self.dtype)
            return np.asarray(actions).astype(dtype) + np.asarray(self.start, dtype)
        _require_32_bits(self, self.start, self.start + self.n - 1)
        return actions + np.asarray(self.start, record_dtype(self.dtype))


@dataclass(frozen=True)
class MultiDiscrete(ActionSpace):
    """An array of choices, each one of n whole numbers from a start on.

    Attributes:
        nvec, start: nested tuples of one shape.
    """

    nvec: Nested
    start: Nested
    dtype: str = USUAL

    @classmethod
    def of(cls, space: gymnasium.spaces.MultiDiscrete) -> "MultiDiscrete":
        """From Gymnasium's."""
        start = np.broadcast_to(space.start, space.nvec.shape)
        return cls(_tuples(space.nvec.tolist()), _tuples(start.tolist()), str(space.dtype))

    @classmethod
    def from_description(cls, data: dict[str, Any]) -> "MultiDiscrete":
        """From plain data."""
        return cls(_tuples(data["nvec"]), _tuples(data["start"]), data.get("dtype", USUAL))

    def description(self) -> dict[str, Any]:
        choices = {"nvec": _lists(self.nvec), "start": _lists(self.start)}
        return {"kind": "MultiDiscrete", **choices, **_unusual(self.dtype)}

    def to_gymnasium(self) -> gymnasium.spaces.MultiDiscrete:
        nvec, start = np.array(self.nvec), np.array(self.start)
        return gymnasium.spaces.MultiDiscrete(nvec, np.dtype(self.dtype).type, start=start)

    @cached_property
    def sizes(self) -> Int[np.ndarray, "*shape"]:
        """n of every choice."""
        return np.array(self.nvec, np.int64)

    def example(self) -> np.ndarray:
        return np.zeros(self.sizes.shape, record_dtype(self.dtype))

    @cached_property
    def starts(self) -> Int[np.ndarray, "*shape"]:
        """The start of every choice, in 64 bits."""
        return np.array(self.start, np.int64).reshape(self.sizes.shape)

    @cached_property
    def left_out(self) -> Int[np.ndarray, "*shape"]:
        """What a record subtracts from every number: 0, or the starts if they need 64 bits."""
        fits = fits_32_bits(self.starts, self.starts + self.sizes - 1)
        return np.zeros_like(self.starts) if fits else self.starts

    def features(self, observation: PyTree) -> Float[Array, " sum_n"]:
        index = jnp.ravel(jnp.asarray(observation, jnp.int32) - (self.starts - self.left_out))
        if not self.sizes.size:
            return jnp.zeros(0)
        return jnp.concatenate(
            [
                jax.nn.one_hot(i, int(n), dtype=jnp.float32)
                for i, n in zip(index, self.sizes.flat, strict=True)
            ]
        )

    @property
    def measured(self) -> tuple[bool, ...]:
        return (False,)

    def parts(self, values: PyTree) -> list[Array]:
        return [values]

    @property
    def greatest_entropy(self) -> float:
        return float(np.sum(np.log(self.sizes)))

    def fits(self, other: Space) -> bool:
        if not isinstance(other, MultiDiscrete):
            return False
        return (self.nvec, self.start) == (other.nvec, other.start)

    @property
    def parameters(self) -> int:
        return int(self.sizes.sum())

    def example_action(self) -> np.ndarray:
        return self.example().reshape(-1)

    def to_environment(self, actions: Any, xp: Any = np) -> Any:
        batch = actions.shape[: actions.ndim - 1]
        shaped = actions.reshape(*batch, *self.sizes.shape)
        if xp is np:
            return (shaped.astype(np.int64) + self.starts).astype(self.dtype)
        _require_32_bits(self, self.starts, self.starts + self.sizes - 1)
        dtype = record_dtype(self.dtype)
        return (shaped + self.starts.astype(dtype)).astype(dtype)

    def permits_nothing(self, mask: Any) -> Bool[Array, "..."]:
        """`[...]`: whether a choice has no entry left in masks `[..., sum_n]`."""
        ends = np.cumsum(self.sizes)
        left = [
            (mask[..., end - n : end] > 0).any(axis=-1)
            for n, end in zip(self.sizes.flat, ends, strict=True)
        ]
        return ~reduce(operator.and_, left)


@dataclass(frozen=True)
class MultiBinary(ActionSpace):
    """An array of flags, 0 or 1.

    Attributes:
        n: how many; or the shape.
    """

    n: int | tuple[int, ...]

    @classmethod
    def of(cls, space: gymnasium.spaces.MultiBinary) -> "MultiBinary":
        """From Gymnasium's."""
        one = isinstance(space.n, (int, np.integer))
        return cls(int(space.n) if one else tuple(space.shape))  # pyright: ignore[reportArgumentType]

    @classmethod
    def from_description(cls, data: dict[str, Any]) -> "MultiBinary":
        """From plain data."""
        n = data["n"]
        return cls(tuple(n) if isinstance(n, list) else int(n))

    def description(self) -> dict[str, Any]:
        return {"kind": "MultiBinary", "n": list(self.n) if isinstance(self.n, tuple) else self.n}

    def to_gymnasium(self) -> gymnasium.spaces.MultiBinary:
        return gymnasium.spaces.MultiBinary(self.n)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array of flags."""
        return self.n if isinstance(self.n, tuple) else (self.n,)

    def example(self) -> np.ndarray:
        return np.zeros(self.shape, np.int8)

    def features(self, observation: PyTree) -> Float[Array, "*shape"]:
        return jnp.asarray(observation).reshape(self.shape).astype(jnp.float32)

    @property
    def measured(self) -> tuple[bool, ...]:
        return (False,)

    def parts(self, values: PyTree) -> list[Array]:
        return [values]

    @property
    def greatest_entropy(self) -> float:
        return float(np.log(2) * math.prod(self.shape))

    def fits(self, other: Space) -> bool:
        return isinstance(other, MultiBinary) and self.shape == other.shape

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)

    def example_action(self) -> np.ndarray:
        return self.example().reshape(-1)

    def to_environment(self, actions: Any, xp: Any = np) -> Any:
        batch = actions.shape[: actions.ndim - 1]
        return actions.reshape(*batch, *self.shape).astype(np.int8)

    def permits_nothing(self, mask: Any) -> Bool[Array, "..."]:
        """`[...]`: never, since all flags may be 0."""
        return (mask > 0).any(axis=-1) & False


def _require_32_bits(space: ActionSpace, low: Any, high: Any) -> None:
    if not fits_32_bits(low, high):
        raise UnsupportedSpaceError(
            f"action space {space.to_gymnasium()} holds numbers that do not fit in 32 bits, in "
            "which compiled environments compute; give it a smaller start, and add the rest in the "
            "environment"
        )


def _unusual(dtype: str) -> dict[str, str]:
    return {} if dtype == USUAL else {"dtype": dtype}


def _tuples(x: Any) -> Any:
    return tuple(map(_tuples, x)) if isinstance(x, list) else int(x)


def _lists(x: Any) -> Any:
    return [_lists(y) for y in x] if isinstance(x, tuple) else x

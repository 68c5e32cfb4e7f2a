"""Observation and action spaces: as JSON, as float vectors, and across the environment's boundary.

The spaces are Gymnasium's. Their JSON text is what is saved with a policy; being hashable it is
also what a compiled function may hold as a static value.
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Bool, Float, PyTree

from policygrad.errors import UnsupportedSpaceError

ACTION_MASK = "action_mask"
SUPPORTED_OBSERVATIONS = "Box, Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these"
SUPPORTED_ACTIONS = "Discrete, MultiDiscrete, MultiBinary, and Box of floating-point numbers"


def space_to_json(space: spaces.Space) -> str:
    """One space as JSON text; `space_from_json` reads it back."""
    return json.dumps(_describe(space), sort_keys=True)


@lru_cache(maxsize=256)
def space_from_json(text: str) -> spaces.Space:
    """The space that `space_to_json` wrote."""
    return _build(json.loads(text))


def _describe(space: spaces.Space) -> dict[str, Any]:
    match space:
        case spaces.Box():
            bounds = {"low": _bounds_to_json(space.low), "high": _bounds_to_json(space.high)}
            return {"kind": "Box", "shape": space.shape, "dtype": str(space.dtype), **bounds}
        case spaces.Discrete():
            return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
        case spaces.MultiDiscrete():
            start = np.broadcast_to(space.start, space.nvec.shape)
            return {
                "kind": "MultiDiscrete",
                "nvec": space.nvec.tolist(),
                "start": start.tolist(),
            }
        case spaces.MultiBinary():
            n = space.n if isinstance(space.n, (int, np.integer)) else list(space.shape)
            return {"kind": "MultiBinary", "n": n}
        case spaces.Dict():
            return {"kind": "Dict", "spaces": {k: _describe(v) for k, v in space.items()}}
        case spaces.Tuple():
            return {"kind": "Tuple", "spaces": [_describe(v) for v in space]}
    raise UnsupportedSpaceError(
        f"no policy reads or acts in {type(space).__name__}: {space}; supported are "
        f"{SUPPORTED_OBSERVATIONS}"
    )


def _build(description: dict[str, Any]) -> spaces.Space:
    match description["kind"]:
        case "Box":
            low = _bounds_from_json(description["low"])
            high = _bounds_from_json(description["high"])
            dtype, shape = np.dtype(description["dtype"]), tuple(description["shape"])
            low, high = (np.broadcast_to(x, shape).astype(dtype) for x in (low, high))
            return spaces.Box(low, high, shape, dtype.type)
        case "Discrete":
            return spaces.Discrete(description["n"], start=description["start"])
        case "MultiDiscrete":
            nvec = np.array(description["nvec"])
            return spaces.MultiDiscrete(nvec, start=np.array(description["start"]))
        case "MultiBinary":
            return spaces.MultiBinary(description["n"])
        case "Dict":
            return spaces.Dict({k: _build(v) for k, v in description["spaces"].items()})
        case "Tuple":
            return spaces.Tuple([_build(v) for v in description["spaces"]])
    raise UnsupportedSpaceError(f"unknown kind of space {description['kind']!r}")


def _bounds_to_json(bounds: np.ndarray) -> Any:
    """A number where all are equal, else nested lists; infinities as text, which JSON lacks."""
    values = bounds.astype(float)
    if values.size and np.all(values == values.flat[0]):
        values = values.flat[0]
    return jax.tree.map(lambda x: x if math.isfinite(x) else str(x), np.asarray(values).tolist())


def _bounds_from_json(bounds: Any) -> np.ndarray:
    return np.array(jax.tree.map(float, bounds))


def check_observation_space(space: spaces.Space) -> None:
    """Raise UnsupportedSpaceError unless a policy can read observations of this space."""
    match space:
        case spaces.Dict():
            for part in space.values():
                check_observation_space(part)
        case spaces.Tuple():
            for part in space:
                check_observation_space(part)
        case spaces.Box() | spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            pass
        case _:
            raise UnsupportedSpaceError(
                f"observation space {space} is not supported; supported are "
                f"{SUPPORTED_OBSERVATIONS}"
            )


def check_action_space(space: spaces.Space) -> None:
    """Raise UnsupportedSpaceError unless a policy can act in this space."""
    match space:
        case spaces.Box() if np.issubdtype(space.dtype, np.floating):
            pass
        case spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            pass
        case _:
            raise UnsupportedSpaceError(
                f"action space {space} is not supported; supported are {SUPPORTED_ACTIONS}"
            )


def same_kind(ours: spaces.Space, theirs: spaces.Space) -> bool:
    """Whether a policy for the one space fits the other: equal but for the bounds of a Box."""
    match ours, theirs:
        case spaces.Box(), spaces.Box():
            return ours.shape == theirs.shape
        case spaces.Dict(), spaces.Dict():
            keys = ours.keys() == theirs.keys()
            return keys and all(same_kind(ours[k], theirs[k]) for k in ours)
        case spaces.Tuple(), spaces.Tuple():
            return len(ours) == len(theirs) and all(map(same_kind, ours, theirs))
    return ours == theirs


@dataclass(frozen=True)
class ObservationEncoder:
    """A raw observation of a space -> one float vector.

    Box and MultiBinary are flattened, Discrete and MultiDiscrete one-hot, Dict and Tuple
    concatenated. The entry `action_mask` of a Dict is left out: it speaks of actions.

    Attributes:
        space: the observation space, as JSON.
    """

    space: str

    def __call__(self, observation: PyTree) -> Float[Array, " f"]:
        return jnp.concatenate(_encode(space_from_json(self.space), observation))

    @cached_property
    def normalised(self) -> tuple[bool, ...]:
        """`[f]`: which entries are measurements, to be normalised; one-hot entries are not."""
        return tuple(_measured(space_from_json(self.space)))


def _encode(space: spaces.Space, x: Any) -> list[Float[Array, " f"]]:
    match space:
        case spaces.Discrete():
            return [jax.nn.one_hot(jnp.asarray(x) - int(space.start), int(space.n))]
        case spaces.MultiDiscrete():
            index = jnp.ravel(jnp.asarray(x) - np.broadcast_to(space.start, space.nvec.shape))
            return [jax.nn.one_hot(i, int(n)) for i, n in zip(index, space.nvec.flat, strict=True)]
        case spaces.Dict():
            return [f for k, p in space.items() if k != ACTION_MASK for f in _encode(p, x[k])]
        case spaces.Tuple():
            return [f for p, v in zip(space, x, strict=True) for f in _encode(p, v)]
    return [jnp.ravel(jnp.asarray(x)).astype(jnp.float32)]


def _measured(space: spaces.Space) -> list[bool]:
    match space:
        case spaces.Box():
            return [True] * math.prod(space.shape)
        case spaces.MultiBinary():
            return [False] * math.prod(space.shape)
        case spaces.Discrete():
            return [False] * int(space.n)
        case spaces.MultiDiscrete():
            return [False] * int(space.nvec.sum())
        case spaces.Dict():
            return [f for k, p in space.items() if k != ACTION_MASK for f in _measured(p)]
        case spaces.Tuple():
            return [f for p in space for f in _measured(p)]
    raise UnsupportedSpaceError(f"observation space {space} is not supported")


def action_mask(observation: PyTree) -> Bool[Array, " n"] | None:
    """The flat action mask that a Dict observation carries under `action_mask`, if it does."""
    if isinstance(observation, dict) and ACTION_MASK in observation:
        return jnp.ravel(jnp.asarray(observation[ACTION_MASK])) > 0
    return None


def to_environment(space: spaces.Space, actions: Any, xp: Any = np) -> Any:
    """Sampled actions `[..., *shape]` -> what the environment's `step` takes.

    Discrete ones are shifted to the space's start. Box ones are read as fractions of the half
    range around its middle, −1…1 where both bounds are finite, and clipped to the bounds: here and
    nowhere else, so that log-probabilities stay those of the action that was sampled.

    Args:
        space: the action space.
        actions: as `Distribution.sample` gave them.
        xp: `numpy`, or `jax.numpy` inside compiled code.
    """
    dtype = space.dtype if xp is np else record_dtype(space.dtype)
    match space:
        case spaces.Discrete():
            return actions + np.asarray(space.start, dtype)
        case spaces.MultiDiscrete():
            start = np.broadcast_to(space.start, space.nvec.shape)
            batch = actions.shape[: actions.ndim - 1]
            return (actions.reshape(*batch, *space.nvec.shape) + start).astype(dtype)
        case spaces.MultiBinary():
            batch = actions.shape[: actions.ndim - 1]
            return actions.reshape(*batch, *space.shape).astype(dtype)
        case spaces.Box():
            middle, half = box_scale(space)
            if xp is not np:  # in 32 bits, where the nearest number may lie outside the bounds
                middle, half = middle.astype(dtype), half.astype(dtype)
            return xp.clip(middle + half * actions, space.low, space.high).astype(dtype)
    raise UnsupportedSpaceError(f"action space {space} is not supported")


def box_scale(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half range of a Box; 0 and 1 where a bound is infinite, or as good as."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    bounded = (np.abs(low) < 1e30) & (np.abs(high) < 1e30)
    low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
    return (low + high) / 2, (high - low) / 2


def action_bounds(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Where actions are clipped, in the policy's units: −1 and 1 where both bounds are finite."""
    middle, half = box_scale(space)
    free = half == 0  # both bounds are one number, whatever the action
    low, high = ((bound - middle) / np.where(free, 1, half) for bound in (space.low, space.high))
    return (
        np.where(free, -np.inf, low).astype(np.float32),
        np.where(free, np.inf, high).astype(np.float32),
    )


def clipped_fraction(space: spaces.Space, actions: Any, valid: Any) -> Float[Array, ""]:
    """`[]`: the share of action components `[T, B, ...]` that the environment's bounds cut off."""
    if not isinstance(space, spaces.Box):
        return jnp.zeros(())
    middle, half = (x.astype(np.float32) for x in box_scale(space))
    raw = middle + half * actions
    outside = ((raw < space.low) | (raw > space.high)).reshape(*valid.shape, -1)
    rows = jnp.mean(outside, axis=2, dtype=jnp.float32)
    return jnp.sum(jnp.where(valid, rows, 0.0)) / jnp.maximum(jnp.sum(valid), 1)


def example_observation(space: spaces.Space) -> PyTree:
    """Zeros (or the lowest values) of a space, in the types that a record holds."""
    match space:
        case spaces.Dict():
            return {k: example_observation(v) for k, v in space.items()}
        case spaces.Tuple():
            return tuple(example_observation(v) for v in space)
        case spaces.Discrete():
            return np.int32(space.start)
    assert space.dtype is not None
    assert space.shape is not None
    return np.zeros(space.shape, record_dtype(space.dtype))


@lru_cache(maxsize=64)
def record_dtype(dtype: Any) -> np.dtype:
    """The type in which a record keeps numbers of this type: at most 32 bits, as on the device."""
    narrow = {"float64": np.float32, "int64": np.int32, "uint64": np.uint32}
    return np.dtype(narrow.get(str(np.dtype(dtype)), dtype))

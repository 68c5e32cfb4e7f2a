"""Spaces as JSON, which of them are supported, and the types in which records hold their values.

The spaces are Gymnasium's. Their JSON text is what is saved with a policy; being hashable it is
also what a compiled function may hold as a static value.
"""

import json
import math
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from gymnasium import spaces
from jaxtyping import PyTree

from policygrad.core.errors import UnsupportedSpaceError

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

"""Records of spaces from Gymnasium's spaces and from JSON, and which spaces are supported."""

import json
from typing import Any

import gymnasium
import numpy as np

from policygrad.core.errors import UnsupportedSpaceError
from policygrad.spaces.box import Box
from policygrad.spaces.choices import Discrete, MultiBinary, MultiDiscrete
from policygrad.spaces.nested import Dict, Nested, Tuple
from policygrad.spaces.space import ActionSpace, Space

SUPPORTED_OBSERVATIONS = "Box, Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these"
SUPPORTED_ACTIONS = (
    "Discrete, MultiDiscrete, MultiBinary, Box of floats, and Dict or Tuple of these"
)


def space_of(space: gymnasium.Space, what: str = "space") -> Space:
    """The record of a Gymnasium space.

    Args:
        space: Gymnasium's.
        what: names it in the error.

    Raises:
        UnsupportedSpaceError: the space, or a part of it, is of another kind.
    """
    match space:
        case gymnasium.spaces.Box():
            return Box.of(space)
        case gymnasium.spaces.Discrete():
            return Discrete.of(space)
        case gymnasium.spaces.MultiDiscrete():
            return MultiDiscrete.of(space)
        case gymnasium.spaces.MultiBinary():
            return MultiBinary.of(space)
        case gymnasium.spaces.Dict():
            if other := [key for key in space if not isinstance(key, str)]:
                raise UnsupportedSpaceError(
                    f"{what} {space} has the key {other[0]!r}; keys must be text, as in files"
                )
            return Dict(tuple((k, space_of(v, what)) for k, v in sorted(space.items())))
        case gymnasium.spaces.Tuple():
            return Tuple(tuple(space_of(v, what) for v in space))
    raise UnsupportedSpaceError(
        f"{what} {space} is not supported; supported are {SUPPORTED_OBSERVATIONS}"
    )


def observation_space_of(space: gymnasium.Space) -> Space:
    """The record of a space that a policy reads; UnsupportedSpaceError where it cannot."""
    record = space_of(space, "observation space")
    if not _has_arrays(record):
        raise UnsupportedSpaceError(
            f"observation space {space} holds no array; a policy that sees nothing needs at least "
            "a constant, such as Discrete(1)"
        )
    return record


def action_space_of(space: gymnasium.Space) -> ActionSpace:
    """The record of a space that a policy acts in; UnsupportedSpaceError where it cannot."""
    try:
        record = space_of(space)
    except UnsupportedSpaceError:
        record = None
    if not (isinstance(record, ActionSpace) and _can_be_acted_in(record)):
        raise UnsupportedSpaceError(
            f"action space {space} is not supported; supported are {SUPPORTED_ACTIONS}"
        )
    if _leaves_no_choice(record):
        raise UnsupportedSpaceError(
            f"action space {space}, or a part of it, holds no number, so there is nothing to act "
            "with; leave the part out, or give Discrete(1) where nothing is to be chosen"
        )
    return record


def _has_arrays(space: Space) -> bool:
    """Whether an observation holds an array, and not only empty ones of choices."""
    if isinstance(space, Nested):
        return any(_has_arrays(part) for _, part in space.entries)
    return not isinstance(space, MultiDiscrete) or space.sizes.size > 0


def _leaves_no_choice(space: ActionSpace) -> bool:
    if isinstance(space, Nested):
        parts = [_leaves_no_choice(part) for _, part in space.acted_in]
        return not parts or any(parts)
    return space.parameters == 0


def _can_be_acted_in(space: Space) -> bool:
    if isinstance(space, Nested):
        return all(_can_be_acted_in(part) for _, part in space.entries)
    return not isinstance(space, Box) or np.issubdtype(space.dtype, np.floating)


def space_from_json(text: str) -> Space:
    """The record whose `to_json` wrote this text."""
    return _from_description(json.loads(text))


def _from_description(data: dict[str, Any]) -> Space:
    match data["kind"]:
        case "Box":
            return Box.from_description(data)
        case "Discrete":
            return Discrete.from_description(data)
        case "MultiDiscrete":
            return MultiDiscrete.from_description(data)
        case "MultiBinary":
            return MultiBinary.from_description(data)
        case "Dict":
            parts = sorted(data["spaces"].items())
            return Dict(tuple((k, _from_description(v)) for k, v in parts))
        case "Tuple":
            return Tuple(tuple(_from_description(v) for v in data["spaces"]))
    raise UnsupportedSpaceError(f"unknown kind of space {data['kind']!r}")

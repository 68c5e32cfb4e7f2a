"""Masks of actions: where an observation holds one, and whether it fits the action space.

A mask is what stands under the name `action_mask` in a Dict, at any depth of the observation.
"""

import math
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from policygrad.core.errors import UnsupportedSpaceError
from policygrad.spaces.box import Box
from policygrad.spaces.choices import Discrete, MultiBinary, MultiDiscrete
from policygrad.spaces.nested import ACTION_MASK, Dict, Nested, Tuple
from policygrad.spaces.space import ActionSpace, Space, path_of

OTHER_NAMES = (
    "action_masks", "actions_mask", "allowed_actions", "avail_action", "avail_action_mask",
    "avail_actions", "available_action_mask", "available_actions", "legal_action",
    "legal_action_mask", "legal_actions", "legal_actions_mask", "legal_mask", "legal_moves", "mask",
    "masks", "valid_action", "valid_action_mask", "valid_action_masks", "valid_actions",
    "valid_actions_mask", "valid_mask", "valid_moves",
)  # fmt: skip

Place = tuple[tuple[Any, ...], Space]


def action_mask(observation: PyTree, batch: int = 0, xp: Any = jnp) -> PyTree | None:
    """The mask of actions in an observation, if it holds one.

    Args:
        observation: pytree of `[..., *shape]`.
        batch: number of axes in front of the observation's own.
        xp: `jax.numpy`, or `numpy` for arrays of NumPy that no compiled code reads.

    Returns:
        `[..., n]`, True where the choice is permitted; for a Dict or a Tuple of masks a dict or a
        tuple of such arrays; None without a mask.
    """
    if isinstance(observation, dict) and ACTION_MASK in observation:

        def flags(x: Any) -> Bool[Array, "... n"]:
            x = xp.asarray(x)
            return x.reshape(*x.shape[:batch], -1) > 0

        return jax.tree.map(flags, observation[ACTION_MASK])
    inner: Any = ()
    if isinstance(observation, dict):
        inner = (observation[k] for k in sorted(observation))
    elif isinstance(observation, tuple):
        inner = observation
    return next((m for x in inner if (m := action_mask(x, batch, xp)) is not None), None)


def permits_nothing(
    observations: PyTree, space: ActionSpace | None = None, batch: int = 2, xp: Any = jnp
) -> Bool[Array, "..."] | None:
    """`[T, B]`: where the mask in observations `[T, B, ...]` permits no action; None without a
    mask.

    Args:
        observations: of a record.
        space: the action space; without it, or if the mask has not its form, a mask permits nothing
            if no flag at all is set.
        batch: number of axes in front, if they are not T and B.
        xp: as of `action_mask`.
    """
    mask = action_mask(observations, batch, xp)
    if mask is None:
        return None
    if space is not None and _has_form(mask, space):
        return xp.asarray(space.permits_nothing(mask))
    return ~xp.concatenate(jax.tree.leaves(mask), axis=-1).any(axis=-1)


def _has_form(mask: PyTree, space: Space) -> bool:
    """Whether masks `[..., n]` are those of this action space."""
    if isinstance(mask, (dict, tuple)):
        if not isinstance(space, Dict if isinstance(mask, dict) else Tuple) or not mask:
            return False
        both = zip(space.acted_in, space.part_masks(mask), strict=True)
        return all(_has_form(own, part) for (_, part), own in both if own is not None)
    if not isinstance(space, ActionSpace) or not _only_choices(space):
        return False
    return mask.shape[-1] == space.parameters


def _only_choices(space: Space) -> bool:
    if isinstance(space, Nested):
        return all(_only_choices(part) for _, part in space.entries)
    return not isinstance(space, Box)


def check_mask(observations: Space, actions: ActionSpace) -> None:
    """Refuse a mask that cannot be applied, and warn of one that goes by another name.

    Raises:
        UnsupportedSpaceError: several masks, or one that does not fit the action space. It names
            the mask's place in the observation, and what is expected there.
    """
    places = list(_places(observations, ()))
    masks = [(keys, space) for keys, space in places if keys and keys[-1] == ACTION_MASK]
    if len(masks) > 1:
        raise UnsupportedSpaceError(
            f"the observation holds {len(masks)} masks of actions, "
            f"{' and '.join(path_of(keys) for keys, _ in masks)}; give one, or another name to "
            "those that are ordinary features"
        )
    for keys, space in masks:
        problem = _problem(space, actions)
        if problem:
            raise UnsupportedSpaceError(
                f"the mask {path_of(keys)} does not fit the action space {actions.to_gymnasium()}: "
                f"{problem}"
            )


def warn_of_other_names(observations: Space, actions: ActionSpace) -> None:
    """Warn of a part that looks like a mask of actions by its name and its size."""
    places = list(_places(observations, ()))
    if any(ACTION_MASK in keys for keys, _ in places):
        return
    for keys, space in places:
        name = keys[-1] if keys else None
        if not isinstance(name, str) or name.lower() not in OTHER_NAMES:
            continue
        if _is_flags(space) and not _problem(space, actions):
            warnings.warn(
                f"{path_of(keys)} is read as an ordinary feature, and no action is masked by it; "
                f"name it {ACTION_MASK!r} if it says which actions are permitted",
                stacklevel=2,
            )


def _places(space: Space, keys: tuple[Any, ...]) -> Iterator[Place]:
    """Every part of an observation space with its place, down to masks and to what has no parts."""
    if isinstance(space, Nested) and not (keys and keys[-1] == ACTION_MASK):
        for key, part in space.entries:
            yield from _places(part, (*keys, key))
    else:
        yield keys, space


def _problem(mask: Space, actions: Space) -> str:
    """What is wrong with a mask's space for an action space; empty if nothing is."""
    match mask, actions:
        case Dict(), Dict():
            wanted = dict(actions.items)
            for key, part in mask.items:
                if key not in wanted:
                    return f"the action has no part {key!r}"
                if problem := _problem(part, wanted[key]):
                    return f"{problem} (part {key!r})"
            return "" if mask.items else "it is empty"
        case Tuple(), Tuple():
            masked = [part for part in actions.spaces if not isinstance(part, Box)]
            if len(mask.spaces) != len(masked):
                return f"it holds {len(mask.spaces)} masks, expected {len(masked)}, none for a Box"
            problems = map(_problem, mask.spaces, masked)
            return next((problem for problem in problems if problem), "")
        case Nested(), _:
            return f"a {type(mask).__name__} of masks needs an action space of the same kind"
    if not _only_choices(actions):
        kind = "a Box has no mask" if isinstance(actions, Box) else "its Boxes have no mask"
        return f"{kind}; give a mask for each other part, in a Dict or a Tuple like the action's"
    assert isinstance(actions, ActionSpace)
    size = _size(mask)
    if size != actions.parameters:
        return f"it holds {size} flags, expected {actions.parameters}, one for each choice"
    if isinstance(mask, Box) and np.all(np.asarray(mask.high) <= 0):
        return "it holds no number above 0, and so permits nothing; 1 permits and 0 forbids"
    return ""


def _size(space: Space) -> int:
    """How many numbers a value holds."""
    match space:
        case Box(shape=shape) | MultiBinary(shape=shape):
            return math.prod(shape)
        case MultiDiscrete(sizes=sizes):
            return sizes.size
    return 1


def _is_flags(space: Space) -> bool:
    match space:
        case Box(low=low, high=high):
            return bool(np.all(np.asarray(low) == 0) and np.all(np.asarray(high) == 1))
        case MultiDiscrete(sizes=sizes):
            return bool(np.all(sizes == 2))
        case Nested():
            return all(_is_flags(part) for _, part in space.entries)
    return isinstance(space, MultiBinary) or (isinstance(space, Discrete) and space.n == 2)

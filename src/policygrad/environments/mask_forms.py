"""The forms of masks of actions: the space that they have, and how one is read and compared."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from policygrad.core.errors import UserError
from policygrad.spaces import ACTION_MASK
from policygrad.spaces.box import Box
from policygrad.spaces.choices import Discrete, MultiBinary, MultiDiscrete
from policygrad.spaces.conversion import space_of
from policygrad.spaces.nested import Dict, Tuple
from policygrad.spaces.reading import NotOfSpace
from policygrad.spaces.space import Space

Masks = dict[str, Any]
"""Where a mask was given, in words, and the mask."""


def space_of_masks(
    action_space: gymnasium.Space, mask: Any = None, who: str = "the environment"
) -> gymnasium.Space:
    """The space of the masks of an action space.

    Args:
        action_space: of the environment.
        mask: one of them. It matters for a Dict or a Tuple of actions: it is a dict or a tuple of
            masks of the parts, as in an observation, or the flags of all parts in a row.
        who: gives the mask, for the error.

    Raises:
        UserError: masks say nothing of actions in this space, or this one does not.
    """
    record = space_of(action_space)
    found = _fitting(record, mask)
    if found is not None:
        return found
    whole = _whole(record)
    advice = "" if whole is None else (
        f"; for a {type(record).__name__} of actions put the masks into the observation, as an "
        f"entry {ACTION_MASK!r} of the space {whole}; a single environment, not a vector one, may "
        "also give them in this form in its info or by its method"
    )  # fmt: skip
    raise UserError(
        f"{who} gives a mask of actions, and its action space is {action_space}; "
        f"masks say which choices of a Discrete, MultiDiscrete or MultiBinary are permitted{advice}"
    )


def _fitting(actions: Space, mask: Any) -> gymnasium.Space | None:
    """The space of a mask in the form of this one; None if it has no meaning."""
    match actions:
        case Discrete() | MultiDiscrete() | MultiBinary():
            return gymnasium.spaces.MultiBinary(actions.parameters)
        case Dict(items=items) if isinstance(mask, Mapping):
            wanted = dict(items)
            parts = {k: _fitting(wanted[k], mask[k]) for k in mask if k in wanted}
            if not mask or len(parts) < len(mask) or None in parts.values():
                return None
            return gymnasium.spaces.Dict({k: v for k, v in parts.items() if v is not None})
        case Tuple(spaces=spaces) if isinstance(mask, (tuple, list)) and not _is_flat(mask):
            masked = [part for part in spaces if not isinstance(part, Box)]
            if len(mask) != len(masked):
                return None
            found = [_fitting(part, own) for part, own in zip(masked, mask, strict=True)]
            return (
                None
                if None in found
                else gymnasium.spaces.Tuple([part for part in found if part is not None])
            )
        case Dict() | Tuple() if not isinstance(mask, Mapping):
            whole, flags = actions.parameters, 0 if mask is None else np.size(mask)
            if actions.deviations == 0 and flags == whole:
                return gymnasium.spaces.MultiBinary(whole)
    return None


def _is_flat(mask: Any) -> bool:
    return not any(np.ndim(part) or isinstance(part, Mapping) for part in mask)


def _whole(actions: Space) -> gymnasium.Space | None:
    """The space of masks of all parts that have choices; None if none has."""
    match actions:
        case Dict(items=items):
            parts = {k: found for k, part in items if (found := _whole(part)) is not None}
            return gymnasium.spaces.Dict(parts) if parts else None
        case Tuple(spaces=spaces):
            found = [part for part in map(_whole, spaces) if part is not None]
            return gymnasium.spaces.Tuple(found) if found else None
        case Box():
            return None
    return _fitting(actions, None)


def permitting_all(space: gymnasium.Space) -> Any:
    """The mask of a space that forbids nothing."""
    match space:
        case gymnasium.spaces.Dict():
            return {key: permitting_all(part) for key, part in space.items()}
        case gymnasium.spaces.Tuple():
            return tuple(permitting_all(part) for part in space)
    return np.ones(space.shape or (), np.int8)


def agreed(given: Masks, space: gymnasium.Space | None = None) -> Any:
    """The mask that was given, read; where it was given more than once, all must be the same.

    Args:
        given: at least one mask.
        space: of masks; None if they are compared only.

    Raises:
        NotOfSpace: two that differ, or one that is not of the space.
    """
    (place, mask), *others = given.items()
    for other, second in others:
        ours, theirs = _in_a_row(mask), _in_a_row(second)
        if ours is None or theirs is None or not np.array_equal(ours, theirs):
            raise NotOfSpace(
                f"two masks of actions that differ, {mask!r} by {place} and {second!r} by {other}; "
                "give one of them, or the same one"
            )
    return None if space is None else read_mask(mask, space)


def _in_a_row(mask: Any) -> np.ndarray | None:
    """The flags of a mask of any form; None if it is not made of numbers."""
    if isinstance(mask, Mapping):
        mask = [mask[key] for key in sorted(mask)]
    if isinstance(mask, (tuple, list)) and not _is_flat(mask):
        parts = [_in_a_row(part) for part in mask]
        known = [part for part in parts if part is not None]
        return np.concatenate(known) if len(known) == len(parts) else None
    array = np.ravel(np.asarray(mask))
    return array > 0 if array.dtype.kind in "biuf" else None


def read_mask(mask: Any, space: gymnasium.Space) -> Any:
    """The flags 0 or 1 of a mask, in the form of its space. The masks of several choices may be
    given one by one.

    Raises:
        NotOfSpace: another form, another number of flags, or something else than flags.
    """
    if isinstance(space, gymnasium.spaces.Dict):
        if not isinstance(mask, Mapping) or mask.keys() != set(space.keys()):
            raise NotOfSpace(f"a mask of actions {mask!r}, expected a dict with {list(space)}")
        return {key: read_mask(mask[key], part) for key, part in space.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        if not isinstance(mask, (tuple, list)) or len(mask) != len(space):
            raise NotOfSpace(f"a mask of actions {mask!r}, expected a tuple of {len(space)} masks")
        return tuple(read_mask(own, part) for own, part in zip(mask, space, strict=True))
    return _read_flags(mask, int(np.prod(space.shape or ())))


def _read_flags(mask: Any, flags: int) -> np.ndarray:
    if isinstance(mask, (tuple, list)) and mask and np.ndim(mask[0]):
        mask = np.concatenate([np.ravel(part) for part in mask])
    array = np.asarray(mask)
    if array.size != flags:
        raise NotOfSpace(
            f"a mask of actions of shape {array.shape}, expected {flags} flags, one an action"
        )
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise NotOfSpace(f"a mask of actions that is not made of 0 and 1: {array!r}")
    return array.reshape(flags).astype(np.int8)

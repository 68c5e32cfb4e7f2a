"""Masks of actions under other usual names, which are not read: a warning names them."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from policygrad.environments.masks import NAMES, attribute, kind_of
from policygrad.spaces import ACTION_MASK, OTHER_NAMES, action_space_of

VAGUE = ("mask", "masks")  # of actions only if they have the size of a mask
IN_INFOS = frozenset(OTHER_NAMES) - set(NAMES)
BY_METHODS = sorted((IN_INFOS - set(VAGUE)) | {f"get_{name}" for name in (*NAMES, *IN_INFOS)})


def other_masks(env: Any, info: Any, action_space: gymnasium.Space) -> list[str]:
    """A sentence for each thing that looks like a mask of actions, and is not read.

    Args:
        env: after its first reset; None if only the info is looked at.
        info: of that reset.
        action_space: of the environment.
    """
    actions = action_space_of(action_space)
    flags = actions.parameters - actions.deviations
    if flags == 0:  # it is made of Boxes
        return []
    found = []
    for name, value in info.items() if isinstance(info, Mapping) else ():
        lower = str(name).lower()
        if lower in IN_INFOS and (_is_mask(value, flags) or (lower not in VAGUE and _many(value))):
            found.append(f"info[{name!r}]")
    found += [] if env is None else _by_methods(env, flags)
    return [
        f"{place} is not read, and no action is masked by it; if it says which actions are "
        f"permitted, give it under the name {ACTION_MASK!r}, with one flag for each action"
        for place in found
    ]


def _by_methods(env: Any, flags: int) -> list[str]:
    found = []
    for name in BY_METHODS:
        try:
            value = attribute(env, name)
        except Exception:  # a property of the user's own
            continue
        if callable(value):
            found += [f"{kind_of(env)}.{name}()"] if _takes_nothing(value) else []
        elif _is_mask(value, flags):
            found.append(f"{kind_of(env)}.{name}")
    return found


def _takes_nothing(method: Callable[..., Any]) -> bool:
    try:
        inspect.signature(method).bind()
    except (TypeError, ValueError):
        return False
    return not isinstance(method, type)


def _many(value: Any) -> bool:
    """Whether it holds several things; a number may count them."""
    return isinstance(value, (list, tuple, set, frozenset, dict)) or getattr(value, "ndim", 0) > 0


def _is_mask(value: Any, flags: int) -> bool:
    """Whether it is made of so many flags."""
    if not _many(value) or isinstance(value, (set, frozenset, dict)):
        return False
    try:
        array = np.asarray(value)
    except Exception:  # lists of unequal lengths
        return False
    is_number = array.dtype.kind in "biuf"
    return is_number and array.size == flags and bool(np.isin(array, (0, 1)).all())

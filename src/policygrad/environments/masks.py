"""Masks of actions that an environment gives beside its observations: in `info`, or by a method.

They are put into the observation, under `action_mask`, where policies look for them.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from policygrad.core.errors import UserError
from policygrad.spaces import ACTION_MASK
from policygrad.spaces.choices import Discrete, MultiBinary, MultiDiscrete
from policygrad.spaces.conversion import space_of
from policygrad.spaces.reading import NotOfSpace

NAMES = (ACTION_MASK, "action_masks")


def in_info(info: Any) -> Any:
    """The mask in an info; None if there is none."""
    if not isinstance(info, Mapping):
        return None
    return next((info[name] for name in NAMES if info.get(name) is not None), None)


def by_method(env: Any) -> Callable[[], Any] | None:
    """The method of an environment, or of one that it wraps, that gives the mask.

    Raises:
        UserError: the method cannot be called without arguments.
    """
    for name in NAMES:
        method = attribute(env, name)
        if not callable(method):
            continue
        try:
            inspect.signature(method).bind()
        except TypeError as error:
            raise UserError(
                f"{type(env).__name__}.{name} gives masks of actions only with arguments "
                f"({error}); give them by a method without arguments, in info[{ACTION_MASK!r}], or "
                f"rename the method if it is something else"
            ) from None
        except ValueError:  # no signature is known
            pass
        return method
    return None


def attribute(env: Any, name: str) -> Any:
    """An attribute of an environment or of one that it wraps; None if none has it."""
    if isinstance(env, gymnasium.Env):
        return env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else None
    return getattr(env, name, None)


def flags_needed(action_space: gymnasium.Space) -> int:
    """How many flags a mask of this space has.

    Raises:
        UserError: masks say nothing of actions in this space.
    """
    space = space_of(action_space)
    if not isinstance(space, (Discrete, MultiDiscrete, MultiBinary)):
        raise UserError(
            f"the environment gives a mask of actions, and its action space is {action_space}; "
            "masks say which choices of a Discrete, MultiDiscrete or MultiBinary are permitted"
        )
    return space.parameters


def with_mask_space(space: gymnasium.Space, flags: int) -> gymnasium.spaces.Dict:
    """The space of observations that hold a mask of so many flags."""
    parts = dict(space) if isinstance(space, gymnasium.spaces.Dict) else {"observation": space}
    return gymnasium.spaces.Dict({**parts, ACTION_MASK: gymnasium.spaces.MultiBinary(flags)})


def holds_mask(space: gymnasium.Space) -> bool:
    """Whether observations of a space hold a mask already."""
    return isinstance(space, gymnasium.spaces.Dict) and ACTION_MASK in space.spaces


def with_mask(observation: Any, mask: Any) -> dict[str, Any]:
    """An observation that holds the mask."""
    parts = observation if isinstance(observation, dict) else {"observation": observation}
    return {**parts, ACTION_MASK: mask}


def read_mask(mask: Any, flags: int) -> np.ndarray:
    """`[flags]`, 0 or 1. The masks of several choices may be given one by one.

    Raises:
        NotOfSpace: another number of flags, or something else than flags.
    """
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

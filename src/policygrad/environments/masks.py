"""Masks of actions that an environment gives beside its observations: in `info`, or by a method.

They are put into the observation, under `action_mask`, where policies look for them.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from policygrad.core.errors import EnvironmentFailure, UserError
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


def first_lane(info: Any) -> int:
    """The first lane that has a mask, by the flags in the info of a vector environment."""
    flags = next((info[f"_{n}"] for n in NAMES if in_info(info) is not None and f"_{n}" in info), 1)
    return int(np.argmax(flags))


def by_method(env: Any) -> Callable[[], Any] | None:
    """What gives the mask of an environment, or of one that it wraps, at any time: a method, or an
    attribute or property that holds an array.

    Raises:
        UserError: the method cannot be called without arguments.
    """
    for name in NAMES:
        try:
            value = attribute(env, name)
        except Exception:  # a property that says nothing before the first reset
            value = None
        if callable(value):
            _check_call(value, f"{type(env).__name__}.{name}")
            return value
        is_array = isinstance(value, (list, tuple)) or getattr(value, "ndim", 0)
        if is_array or (value is None and _is_property(env, name)):
            return partial(attribute, env, name)
    return None


def _check_call(method: Callable[..., Any], name: str) -> None:
    try:
        inspect.signature(method).bind()
    except TypeError as error:
        raise UserError(
            f"{name} gives masks of actions only with arguments ({error}); give them by a method "
            f"without arguments, in info[{ACTION_MASK!r}], or rename the method if it is something "
            "else"
        ) from None
    except ValueError:  # no signature is known
        pass


def attribute(env: Any, name: str) -> Any:
    """An attribute of an environment or of one that it wraps; None if none has it."""
    if isinstance(env, gymnasium.Env):
        return env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else None
    return getattr(env, name, None)


def _is_property(env: Any, name: str) -> bool:
    """Whether an environment, or one that it wraps, computes the attribute."""
    while not isinstance(inspect.getattr_static(env, name, None), property):
        if not isinstance(env, gymnasium.Wrapper):
            return False
        env = env.env
    return True


def flags_needed(action_space: gymnasium.Space, who: str = "the environment") -> int:
    """How many flags a mask of this space has.

    Args:
        action_space: of the environment.
        who: gives the mask, for the error.

    Raises:
        UserError: masks say nothing of actions in this space.
    """
    space = space_of(action_space)
    if not isinstance(space, (Discrete, MultiDiscrete, MultiBinary)):
        raise UserError(
            f"{who} gives a mask of actions, and its action space is {action_space}; "
            "masks say which choices of a Discrete, MultiDiscrete or MultiBinary are permitted"
        )
    return space.parameters


def refuse_late(info: Any, spaces: tuple[Any, Any], who: str, where: str) -> None:
    """Raise for a mask in an info, if the first reset gave none and observations hold none.

    Args:
        info: of one environment, or of several.
        spaces: of observations and actions.
        who: gave the info, such as "environment 3".
        where: it did, such as "at step 5".

    Raises:
        UserError: masks say nothing of actions in this space.
        EnvironmentFailure: it is late.
    """
    if in_info(info) is None or holds_mask(spaces[0]):
        return
    flags_needed(spaces[1], f"{who} ({where})")
    raise EnvironmentFailure(
        f"{who} returned an info with {ACTION_MASK!r}, which the info of its first reset did not "
        f"have; give it with every observation ({where})"
    )


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

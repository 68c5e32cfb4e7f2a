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
from policygrad.environments.mask_forms import Masks, space_of_masks
from policygrad.spaces import ACTION_MASK

NAMES = (ACTION_MASK, "action_masks")


def in_info(info: Any) -> Any:
    """The mask in an info; None if there is none."""
    return next(iter(of_info(info).values()), None)


def of_info(info: Any) -> Masks:
    """All masks in an info."""
    if not isinstance(info, Mapping):
        return {}
    return {f"info[{name!r}]": info[name] for name in NAMES if info.get(name) is not None}


def first_lane(info: Any) -> int:
    """The first lane that has a mask, by the flags in the info of a vector environment."""
    flags = next((info[f"_{n}"] for n in NAMES if in_info(info) is not None and f"_{n}" in info), 1)
    return int(np.argmax(flags))


def methods(env: Any) -> dict[str, Callable[[], Any]]:
    """What gives the masks of an environment, or of one that it wraps, at any time: methods, and
    attributes or properties that hold an array; by what errors call them.

    Raises:
        UserError: no other is there than a method that cannot be called without arguments.
    """
    found: dict[str, Callable[[], Any]] = {}
    problem = None
    for name in NAMES:
        told = f"{kind_of(env)}.{name}"
        try:
            value = attribute(env, name)
        except Exception:  # a property that says nothing before the first reset
            value = None
        if callable(value):
            try:
                _check_call(value, told)
                found[f"{told}()"] = value
            except UserError as error:
                problem = error
            continue
        is_array = isinstance(value, (list, tuple, dict)) or getattr(value, "ndim", 0)
        if is_array or (value is None and _is_property(env, name)):
            found[told] = partial(attribute, env, name)
    if problem is not None and not found:
        raise problem
    return found


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


def kind_of(env: Any) -> str:
    """The name of the class of an environment, without its wrappers."""
    return type(env.unwrapped if isinstance(env, gymnasium.Env) else env).__name__


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
    space_of_masks(spaces[1], in_info(info), f"{who} ({where})")
    raise EnvironmentFailure(
        f"{who} returned an info with {ACTION_MASK!r}, which the info of its first reset did not "
        f"have; give it with every observation ({where})"
    )


def with_mask_space(space: gymnasium.Space, masks: gymnasium.Space) -> gymnasium.spaces.Dict:
    """The space of observations that hold a mask of this space."""
    parts = dict(space) if isinstance(space, gymnasium.spaces.Dict) else {"observation": space}
    return gymnasium.spaces.Dict({**parts, ACTION_MASK: masks})


def holds_mask(space: gymnasium.Space) -> bool:
    """Whether observations of a space hold a mask already."""
    return isinstance(space, gymnasium.spaces.Dict) and ACTION_MASK in space.spaces


def with_mask(observation: Any, mask: Any) -> dict[str, Any]:
    """An observation that holds the mask."""
    parts = observation if isinstance(observation, dict) else {"observation": observation}
    return {**parts, ACTION_MASK: mask}

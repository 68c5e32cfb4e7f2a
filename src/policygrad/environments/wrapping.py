"""One Gymnasium environment with arguments and wrappers, as a function that makes it."""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from policygrad.core.errors import UserError
from policygrad.environments.arguments import Making
from policygrad.environments.catalogue import split_engine
from policygrad.environments.gymnasium_ids import Registered, find_spec
from policygrad.environments.instances import refuse_changed

Wrapper = Callable[[gymnasium.Env], gymnasium.Env]


def wrapped(env: Any, kwargs: dict[str, Any], wrappers: Sequence[Wrapper]) -> Callable[[], Any]:
    """A function that makes a Gymnasium environment and wraps it.

    Args:
        env: an id of Gymnasium, an `EnvSpec`, an environment that was made from one, or a function.
        kwargs: passed to the environment.
        wrappers: called one after the other, environment -> environment.

    Raises:
        UserError: an environment of another kind, or a wrapper that cannot be called.
    """
    for wrapper in wrappers:
        if not callable(wrapper):
            raise UserError(
                f"wrappers are functions or classes, environment -> environment, got {wrapper!r}"
            )
    return partial(_make, _maker(env, kwargs), tuple(wrappers))


def _make(make: Callable[[], Any], wrappers: tuple[Wrapper, ...]) -> Any:
    return functools.reduce(_put_around, wrappers, make())


def _put_around(env: Any, wrapper: Wrapper) -> Any:
    try:
        return wrapper(env)
    except gymnasium.error.DependencyNotInstalled:
        raise
    except Exception as error:
        name = getattr(wrapper, "__name__", repr(wrapper))
        raise UserError(
            f"the wrapper {name} cannot be put around {env}: {type(error).__name__}: {error}"
        ) from error


def _maker(env: Any, kwargs: dict[str, Any]) -> Callable[[], Any]:
    engine, name = split_engine(env) if isinstance(env, str) else (None, env)
    if engine not in (None, "gymnasium"):
        raise UserError(
            f"wrappers and videos are for Gymnasium's environments, got {env!r}; name Gymnasium's "
            f"own, such as gymnasium/{name}, if it has the same spaces"
        )
    if isinstance(env, gymnasium.Env) and env.spec is not None:
        refuse_changed(env, env.spec)
        name = env.spec
    if isinstance(name, (str, EnvSpec)):
        return Registered(find_spec(name) if isinstance(name, str) else name, kwargs)
    if callable(env) and not isinstance(env, (gymnasium.Env, VectorEnv)):
        return Making(env, kwargs)
    raise UserError(
        f"wrappers and videos are for one environment at a time: pass an id of Gymnasium or a "
        f"function that makes a Gymnasium environment, got {env!r}"
    )

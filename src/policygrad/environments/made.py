"""What a function made: one environment, whose spaces are declared."""

import traceback
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.vector import VectorEnv

from policygrad.core.errors import EnvironmentFailure, PolicygradError, UserError
from policygrad.environments.arguments import name_of
from policygrad.environments.protocol import looks_pure

SpacePair = tuple[gymnasium.Space, gymnasium.Space]


def called_to_make(make: Callable[[], Any], what: str) -> Any:
    """What a function makes; EnvironmentFailure if it raises."""
    try:
        return make()
    except PolicygradError:
        raise
    except (Exception, SystemExit) as error:
        raise EnvironmentFailure(
            f"{what} raised {type(error).__name__}: {error} when it was made\n"
            f"{''.join(traceback.format_exception(error))}"
        ) from error


def refuse_what_is_no_environment(env: Any, make: Any) -> None:
    """Raise UserError unless a function made one environment.

    Args:
        env: what it made.
        make: the function, named in errors.
    """
    name = name_of(make)
    if isinstance(env, VectorEnv):
        raise UserError(
            f"{name} made a vector environment of {env.num_envs}, {type(env).__name__}, where one "
            "environment is expected; pass the vector environment itself, or a function that makes "
            "one environment"
        )
    refuse_vec_env(env, f"{name} made {type(env).__name__}, which")
    if isinstance(env, type):
        raise UserError(
            f"{name} made the class {env.__name__}, not an environment; call it: {env.__name__}()"
        )
    if looks_pure(env) and not isinstance(env, gymnasium.Env):
        raise UserError(
            f"{name} made {type(env).__name__}, a JAX-native environment; pass the object itself, "
            "not what makes it"
        )
    missing = [m for m in ("reset", "step") if not callable(getattr(env, m, None))]
    if missing:
        lacks = "does it lack a return?" if env is None else f"it has no {missing[0]}"
        raise UserError(f"{name} made {env!r}, which is not an environment; {lacks}")


def refuse_vec_env(env: Any, what: str | None = None) -> None:
    """Raise UserError for a vector environment of Stable-Baselines3.

    Args:
        env: what a user passed, or what a function made.
        what: names it in the error; None for its class.
    """
    if not isinstance(env, type) and all(
        hasattr(env, name) for name in ("step_async", "step_wait", "num_envs")
    ):
        raise UserError(
            f"{what or type(env).__name__} looks like a vector environment of Stable-Baselines3, "
            "which does not tell termination from truncation; pass a function that makes one "
            "Gymnasium environment, or a vector environment of gymnasium.vector"
        )


def declared_spaces(env: Any) -> SpacePair:
    """The observation and the action space; UserError unless both are Gymnasium's."""
    found = []
    for name in ("observation_space", "action_space"):
        space, kind = getattr(env, name, None), type(env).__name__
        if isinstance(env, gymnasium.Env):
            kind = type(env.unwrapped).__name__
        if space is None:
            raise UserError(
                f"{kind} has no {name}; set it in the class or in __init__, before the first reset"
            )
        if not isinstance(space, gymnasium.Space):
            raise UserError(
                f"the {name} of {kind} is {space!r} ({type(space).__module__}), not one of "
                "gymnasium.spaces"
            )
        found.append(space)
    return found[0], found[1]

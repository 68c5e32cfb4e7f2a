"""Find and make environments by id: Gymnasium's, and those that a user's module registers."""

import importlib
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from policygrad.core.errors import UserError
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.names import nearest
from policygrad.environments.vectorise import vectorise

# Gymnasium's vector classes -> this library's version, whose copies can be reset one by one
OWN_COPIES = {
    "gymnasium.envs.classic_control.cartpole:CartPoleVectorEnv": (
        "policygrad.environments.cartpole:CartPoleCopies"
    )
}
EXTRAS = {"mujoco": "mujoco", "gymnax": "gymnax", "Box2D": "gymnasium[box2d]"}


def make_gymnasium(
    name: str | EnvSpec,
    num_envs: int,
    *,
    processes: bool = False,
    kwargs: dict[str, Any] | None = None,
    first_lane: int = 0,
) -> GymnasiumLanes:
    """B copies of a registered environment.

    Args:
        name: an id; `module:Name-v0` if importing a module registers it; or an `EnvSpec`.
        num_envs, processes, kwargs, first_lane: as `environments.make` takes them.

    Raises:
        UserError: an id that is not known, a package that is missing, or arguments that it does not
            take.
    """
    spec, kwargs = name if isinstance(name, EnvSpec) else find_spec(name), kwargs or {}
    limit = kwargs.get("max_episode_steps", spec.max_episode_steps)
    limit = None if limit == -1 else limit  # −1 means no limit in Gymnasium
    try:
        if spec.vector_entry_point is not None and not spec.additional_wrappers and not processes:
            entry = OWN_COPIES.get(str(spec.vector_entry_point), spec.vector_entry_point)
            ours = replace(spec, vector_entry_point=entry)
            vector = gymnasium.make_vec(ours, num_envs, **kwargs)
        else:
            one = partial(gymnasium.make, spec, disable_env_checker=True, **kwargs)
            vector = vectorise(one, num_envs, processes=processes)
        return GymnasiumLanes(vector, limit, first_lane=first_lane)
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        raise UserError(missing_dependency(spec, error)) from error
    except TypeError as error:
        if not kwargs:
            raise
        raise UserError(f"{spec.id} does not take these arguments: {kwargs} ({error})") from error


def find_spec(name: str) -> EnvSpec:
    """What is registered under an id; UserError, with the nearest names, if nothing is."""
    module, _, name_in_module = name.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except (ImportError, TypeError, ValueError) as error:
            raise UserError(
                f"cannot import {module!r} for environment {name!r} ({error}); is it installed, or "
                "is its folder on PYTHONPATH?"
            ) from error
    try:
        return gymnasium.spec(name_in_module)
    except gymnasium.error.Error:
        known = list(gymnasium.registry)
        raise UserError(
            f"unknown environment {name}{nearest(name_in_module, known)}; an environment of your "
            "own is named module:Name-v0, if importing the module registers it"
        ) from None


def missing_dependency(spec: EnvSpec, error: Exception) -> str:
    """What to install for an environment whose import failed."""
    entry = str(spec.entry_point)
    wanted = next((extra for name, extra in EXTRAS.items() if name.lower() in entry.lower()), None)
    if wanted == "mujoco" or "mujoco" in str(error).lower():
        return f"{spec.id} needs MuJoCo; pip install 'policygrad[mujoco]'"
    if wanted is not None:
        return f"{spec.id} needs a package that is missing ({error}); pip install '{wanted}'"
    return f"{spec.id} needs a package that is missing: {error}"

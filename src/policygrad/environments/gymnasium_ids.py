"""Find and make environments by id: Gymnasium's, and those that a user's module registers."""

import importlib
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from policygrad.core.errors import UserError
from policygrad.environments.arguments import are_not_taken, not_taken, takes
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.made import called_to_make
from policygrad.environments.names import nearest
from policygrad.environments.vector_masks import with_masks
from policygrad.environments.vectorise import vectorise

# Gymnasium's vector classes -> this library's version, whose copies can be reset one by one
OWN_COPIES = {
    "gymnasium.envs.classic_control.cartpole:CartPoleVectorEnv": (
        "policygrad.environments.cartpole:CartPoleCopies"
    )
}
# namespaces of well-known packages -> what to install, and what to import
PACKAGES = {
    "ALE": ("ale-py", "ale_py"),
    "dm_control": ("shimmy[dm-control]", "shimmy"),
    "minigrid": ("minigrid", "minigrid"),
    "miniworld": ("miniworld", "miniworld"),
    "highway": ("highway-env", "highway_env"),
}
EXTRAS = {"mujoco": "mujoco", "gymnax": "gymnax", "Box2D": "gymnasium[box2d]"}


def make_gymnasium(
    name: str | EnvSpec,
    num_envs: int,
    *,
    processes: bool = False,
    kwargs: dict[str, Any] | None = None,
    first_lane: int = 0,
    step_timeout: float | None = None,
) -> GymnasiumLanes:
    """B copies of a registered environment.

    Args:
        name: an id; `module:Name-v0` if importing a module registers it; or an `EnvSpec`.
        num_envs, processes, kwargs, first_lane, step_timeout: as `environments.make` takes them.

    Raises:
        UserError: an id that is not known, a package that is missing, or arguments that it does not
            take.
    """
    spec, kwargs = name if isinstance(name, EnvSpec) else find_spec(name), dict(kwargs or {})
    if kwargs.get("max_episode_steps", 0) is None:  # the registered limit, for Gymnasium
        del kwargs["max_episode_steps"]
    limit = kwargs.get("max_episode_steps", spec.max_episode_steps)
    unlimited = limit == -1  # in Gymnasium, but vector classes would count steps up to it
    limit = None if unlimited else limit
    at_once = spec.vector_entry_point is not None and not spec.additional_wrappers
    if at_once and not processes and not unlimited:
        entry = OWN_COPIES.get(str(spec.vector_entry_point), spec.vector_entry_point)
        ours = replace(spec, vector_entry_point=entry)
        vector = called_to_make(Registered(ours, kwargs, num_envs), f"{spec.id}")
        if entry is spec.vector_entry_point:
            vector = with_masks(vector, step_timeout)
        return GymnasiumLanes(vector, limit, first_lane=first_lane, step_timeout=step_timeout)
    vector = vectorise(
        Registered(spec, kwargs), num_envs, processes=processes, step_timeout=step_timeout
    )
    return GymnasiumLanes(vector, limit, first_lane=first_lane)


@dataclass(frozen=True)
class Registered:
    """Makes what is registered, with errors for what a user can mend.

    Attributes:
        spec: what is registered.
        kwargs: its arguments.
        copies: how many to make by its vector entry point; None for one environment.
    """

    spec: EnvSpec
    kwargs: dict[str, Any]
    copies: int | None = None

    @property
    def __name__(self) -> str:  # for errors, as of a function
        return self.spec.id

    def __call__(self) -> Any:
        try:
            if self.copies is not None:
                return gymnasium.make_vec(self.spec, self.copies, **self.kwargs)
            return gymnasium.make(self.spec, disable_env_checker=True, **self.kwargs)
        except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
            raise UserError(missing_dependency(self.spec, error)) from error
        except TypeError as error:
            maker = self._maker()
            if maker is None or not are_not_taken(maker, self._given(), error):
                raise
            why = f"{error}; it takes {', '.join(takes(maker)) or 'none'}"
            raise UserError(not_taken(self.spec.id, self.kwargs, why)) from error
        except gymnasium.error.Error as error:
            raise UserError(f"{self.spec.id} cannot be made: {error}") from error

    def _maker(self) -> Any:
        """The class or function that is registered; None if it cannot be imported."""
        entry = self.spec.entry_point if self.copies is None else self.spec.vector_entry_point
        try:
            return load_env_creator(entry) if isinstance(entry, str) else entry
        except Exception:
            return None

    def _given(self) -> dict[str, Any]:
        """What it is called with: without the arguments that Gymnasium itself takes."""
        given = {**self.spec.kwargs, **self.kwargs}
        if self.copies is not None:
            return {"num_envs": self.copies, **given}
        return {k: v for k, v in given.items() if k not in takes(gymnasium.make)}


def find_spec(name: str) -> EnvSpec:
    """What is registered under an id; UserError, with the nearest names, if nothing is."""
    module, _, name_in_module = name.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except (ImportError, TypeError, ValueError) as error:
            raise UserError(
                f"cannot import {module!r} for environment {name!r} ({error}); is it installed, or "
                "is its folder the current one, or on PYTHONPATH?"
            ) from error
    try:
        return gymnasium.spec(name_in_module)
    except gymnasium.error.Error:
        raise UserError(f"unknown environment {name}{_advice(name_in_module)}") from None


def _advice(name: str) -> str:
    """What to do about a name that is not registered."""
    namespace, slash, _ = name.partition("/")
    if slash and namespace in PACKAGES:
        package, module = PACKAGES[namespace]
        return (
            f": it comes with the package {package}; pip install {package}, and name it "
            f"{module}:{name}"
        )
    spaces = {known.namespace for known in gymnasium.registry.values()}
    if slash and namespace not in spaces:
        return (
            f": {namespace!r} is neither an engine (gymnasium, envpool, gymnax) nor a namespace "
            "that is registered; what a module registers is named module:Name-v0, and a JAX-native "
            "environment is passed as an object (see docs/environments.md)"
        )
    return (
        f"{nearest(name, list(gymnasium.registry))}; an environment of your own is named "
        "module:Name-v0, if importing the module registers it"
    )


def missing_dependency(spec: EnvSpec, error: Exception) -> str:
    """What to install for an environment whose import failed."""
    entry = str(spec.entry_point)
    wanted = next((extra for name, extra in EXTRAS.items() if name.lower() in entry.lower()), None)
    if wanted == "mujoco" or "mujoco" in str(error).lower():
        return f"{spec.id} needs MuJoCo; pip install 'policygrad[mujoco]'"
    if wanted is not None:
        return f"{spec.id} needs a package that is missing ({error}); pip install '{wanted}'"
    return f"{spec.id} needs a package that is missing: {error}"

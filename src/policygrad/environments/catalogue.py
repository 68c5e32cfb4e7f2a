"""Environments: from what a user names or passes to lanes or a compiled environment."""

import difflib
import importlib
import importlib.util
import json
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from policygrad.core.errors import UserError
from policygrad.environments.gymnax import GymnaxEnvironment
from policygrad.environments.lanes import Lanes
from policygrad.environments.protocol import CompiledEnvironment
from policygrad.environments.vectorise import vectorise

Environment = Lanes | CompiledEnvironment

ENGINES = ("gymnasium", "envpool", "gymnax")
# Gymnasium's vector classes of which we have one whose copies are reset by themselves
OWN_COPIES = {
    "gymnasium.envs.classic_control.cartpole:CartPoleVectorEnv": (
        "policygrad.environments.cartpole:CartPoleCopies"
    )
}
EXTRAS = {"mujoco": "mujoco", "gymnax": "gymnax", "Box2D": "gymnasium[box2d]"}


def make(
    env: Any, num_envs: int, *, processes: bool = False, kwargs: dict[str, Any] | None = None
) -> Environment:
    """Lanes, or a compiled environment, from what a user named or passed.

    Args:
        env: a Gymnasium id (`CartPole-v1`, `module:Env-v0`), an id of another engine
            (`envpool/Hopper-v5`, `gymnax/CartPole-v1`), an `EnvSpec`, a function that makes a
            Gymnasium environment, a Gymnasium vector environment, an object with gymnax's
            functional interface (alone or with its parameters as a pair), or a
            `CompiledEnvironment`.
        num_envs: how many copies to step together.
        processes: run Gymnasium copies in spawned worker processes.
        kwargs: passed to the environment where it is made here from an id.

    Raises:
        UserError: an id that is not known (with the nearest names), an extra that is missing (with
            the command that brings it), or something that is no environment.
    """
    kwargs = kwargs or {}
    if isinstance(env, str):
        engine, name = split_engine(env)
        if engine == "gymnax":
            return _make_gymnax(name, kwargs)
        if engine == "envpool":
            return _make_envpool(name, num_envs, kwargs)
        return _make_gymnasium(_find_spec(name), num_envs, processes, kwargs)
    if isinstance(env, EnvSpec):
        return _make_gymnasium(env, num_envs, processes, kwargs)
    if isinstance(env, VectorEnv):
        return Lanes(env, owned=False)
    if isinstance(env, gymnasium.Env):
        if env.spec is None:
            raise UserError(
                f"{env} is one environment, and {num_envs} copies are wanted; pass a function that "
                "makes one, or register it and pass its id"
            )
        return _make_gymnasium(env.spec, num_envs, processes, kwargs)
    if isinstance(env, tuple) and len(env) == 2:
        return GymnaxEnvironment(*env)
    if hasattr(env, "default_params") and hasattr(env, "step"):
        return GymnaxEnvironment(env)
    if isinstance(env, CompiledEnvironment):
        return env
    if callable(env):
        return Lanes(vectorise(env, num_envs, processes=processes))
    raise UserError(
        f"{env!r} is no environment; pass an id, a function that makes a Gymnasium environment, or "
        "an object with reset and step (see docs/environments.md)"
    )


def split_engine(env: str) -> tuple[str | None, str]:
    """`envpool/Hopper-v5` -> envpool, Hopper-v5; an id that names no engine -> None, itself."""
    engine, _, name = env.partition("/")
    return (engine, name) if name and engine in ENGINES else (None, env)


def choose_engine(env: Any, *, processes: bool = False, kwargs: dict | None = None) -> Any:
    """The id with the engine that a fresh run takes, where the user named none.

    EnvPool for the ids that it has, where it is installed; not where Gymnasium steps all copies of
    the environment in one vectorised call itself (CartPole), which is as fast, starts sooner and
    resumes exactly. Worker processes and arguments are Gymnasium's.
    """
    if not isinstance(env, str) or split_engine(env)[0] or ":" in env or processes or kwargs:
        return env
    spec = gymnasium.registry.get(env)
    if spec is not None and spec.vector_entry_point is not None:
        return env
    if importlib.util.find_spec("envpool") is None:
        return env
    return f"envpool/{env}" if env in _envpool_ids() else env


def _envpool_ids() -> list[str]:
    import envpool  # pyright: ignore[reportMissingImports]

    return envpool.list_all_envs()


def _make_envpool(name: str, num_envs: int, kwargs: dict[str, Any]) -> Lanes:
    require_extra("envpool", f"envpool/{name}")
    from policygrad.environments.envpool import Pool

    known = _envpool_ids()
    if name not in known:
        raise UserError(f"unknown environment envpool/{name}{nearest(name, known, 'envpool/')}")
    pool = Pool(name, num_envs, kwargs)
    return Lanes(pool, pool.time_limit, replays=False)


def _make_gymnax(name: str, kwargs: dict[str, Any]) -> GymnaxEnvironment:
    """One object an id, so that what was compiled for it serves every run in the process."""
    gymnax = require_extra("gymnax", f"gymnax/{name}")
    known = list(gymnax.registered_envs)
    if name not in known:
        raise UserError(f"unknown environment gymnax/{name}{nearest(name, known, 'gymnax/')}")
    key = (name, json.dumps(kwargs, sort_keys=True, default=repr))
    if key not in _GYMNAX:
        _GYMNAX[key] = GymnaxEnvironment(*gymnax.make(name, **kwargs))
    return _GYMNAX[key]


_GYMNAX: dict[tuple[str, str], GymnaxEnvironment] = {}


def _find_spec(name: str) -> EnvSpec:
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
            "own is named module:Name-v0, where importing the module registers it"
        ) from None


def _make_gymnasium(spec: EnvSpec, num_envs: int, processes: bool, kwargs: dict[str, Any]) -> Lanes:
    limit = kwargs.get("max_episode_steps", spec.max_episode_steps)
    limit = None if limit == -1 else limit  # Gymnasium's way to say: no limit
    try:
        if spec.vector_entry_point is not None and not spec.additional_wrappers and not processes:
            entry = OWN_COPIES.get(str(spec.vector_entry_point), spec.vector_entry_point)
            ours = replace(spec, vector_entry_point=entry)
            return Lanes(gymnasium.make_vec(ours, num_envs, **kwargs), limit)

        one = partial(gymnasium.make, spec, disable_env_checker=True, **kwargs)
        return Lanes(vectorise(one, num_envs, processes=processes), limit)
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        raise UserError(missing_dependency(spec, error)) from error
    except TypeError as error:
        if not kwargs:
            raise
        raise UserError(f"{spec.id} does not take these arguments: {kwargs} ({error})") from error


def missing_dependency(spec: EnvSpec, error: Exception) -> str:
    """What to install for an environment whose import failed."""
    entry = str(spec.entry_point)
    wanted = next((extra for name, extra in EXTRAS.items() if name.lower() in entry.lower()), None)
    if wanted == "mujoco" or "mujoco" in str(error).lower():
        return f"{spec.id} needs MuJoCo; pip install 'policygrad[mujoco]'"
    if wanted is not None:
        return f"{spec.id} needs a package that is missing ({error}); pip install '{wanted}'"
    return f"{spec.id} needs a package that is missing: {error}"


def require_extra(package: str, what: str, extra: str | None = None) -> Any:
    """Import an optional package, or say which command brings it."""
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"{what} needs {package}, which is not installed; "
            f"pip install 'policygrad[{extra or package}]'"
        )
    return importlib.import_module(package)


def nearest(name: str, known: list[str], prefix: str = "") -> str:
    """', did you mean …' with the closest names, whatever their case; '' where none is close."""
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.5)
    if not close:
        return ""
    return ", did you mean " + " or ".join(prefix + by_lower[c] for c in close) + "?"


def describe(env: Any) -> str | None:
    """The id under which `make` makes this environment again; None for an object of the user's.

    An environment made with arguments or wrappers of its own is such an object.
    """
    if isinstance(env, str):
        return env
    spec = env if isinstance(env, EnvSpec) else getattr(env, "spec", None)
    if isinstance(spec, EnvSpec) and not isinstance(env, VectorEnv):
        registered = gymnasium.registry.get(spec.id)
        if registered is not None and _essence(spec) == _essence(registered):
            return spec.id
    return None


def _essence(spec: EnvSpec) -> tuple[Any, ...]:
    kwargs = {k: v for k, v in spec.kwargs.items() if k != "render_mode"}
    return spec.entry_point, kwargs, spec.max_episode_steps, spec.additional_wrappers

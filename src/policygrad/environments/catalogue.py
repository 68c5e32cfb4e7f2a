"""Environments: from what a user names or passes to lanes or a compiled environment."""

import importlib.util
from collections.abc import Mapping
from functools import singledispatch
from typing import Any, NamedTuple

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from policygrad.core.errors import UserError
from policygrad.environments import atari, envpool
from policygrad.environments.arguments import Making, check_arguments, checked_kwargs
from policygrad.environments.envpool import make_envpool
from policygrad.environments.gymnasium_ids import make_gymnasium
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.gymnax import GymnaxLike, adapted, make_gymnax
from policygrad.environments.instances import refuse_changed
from policygrad.environments.lanes import LaneMethods, Lanes
from policygrad.environments.made import refuse_vec_env
from policygrad.environments.names import nearest, require_extra
from policygrad.environments.protocol import CompiledEnvironment, lacking, looks_pure
from policygrad.environments.sharing import refuse_shared
from policygrad.environments.vector_masks import with_masks
from policygrad.environments.vectorise import vectorise

__all__ = [
    "choose_engine",
    "describe",
    "is_stepped_by_gymnasium",
    "is_that_of",
    "make",
    "nearest",
    "qualified_name",
    "require_extra",
    "split_engine",
]

Environment = Lanes | CompiledEnvironment

BEFORE = ", and give them when you make the object"
PARAMETERS = ", and give them as its parameters: the pair (env, params)"

# the part of an id before the slash -> what makes an environment from the part after it
MAKERS: dict[str, Any] = {
    "gymnasium": make_gymnasium,
    "envpool": make_envpool,
    "gymnax": make_gymnax,
    atari.NAMESPACE: atari.make_ale,
}


class _How(NamedTuple):
    """The arguments of `make` other than the environment."""

    num_envs: int
    processes: bool
    kwargs: dict[str, Any]
    first_lane: int
    step_timeout: float | None

    def refuse(self, what: str, *names: str, instead: str = "") -> None:
        """Raise UserError if an argument was given that means nothing for this kind."""
        given = {"kwargs": "env_kwargs", "processes": "processes", "step_timeout": "step_timeout"}
        for name in names or given:
            value = getattr(self, name)
            if value not in ({}, False, None):
                raise UserError(
                    f"{given[name]}={value!r} is not read by {what}; leave it out"
                    f"{instead if name == 'kwargs' else ''}"
                )


def make(
    env: Any,
    num_envs: int,
    *,
    processes: bool = False,
    kwargs: dict[str, Any] | None = None,
    first_lane: int = 0,
    step_timeout: float | None = None,
) -> Environment:
    """Lanes, or a compiled environment, from what a user named or passed.

    Args:
        env: a Gymnasium id (`CartPole-v1`, `module:Env-v0`), an id of another engine
            (`envpool/Hopper-v5`, `gymnax/CartPole-v1`), an `EnvSpec`, a function that makes a
            Gymnasium environment, a Gymnasium vector environment, an object with gymnax's
            functional interface (alone or with its parameters as a pair), a
            `CompiledEnvironment`, or `Lanes`.
        num_envs: how many copies to step together.
        processes: run Gymnasium copies in spawned worker processes.
        kwargs: arguments of the environment, or of the function that makes it.
        first_lane: the number of the first copy. The seeds follow from the numbers: copies 4 to 7
            of eight are the same wherever the others are.
        step_timeout: seconds that a step or a reset may take; None for no limit.

    Raises:
        UserError: an id that is not known (with the nearest names), an extra that is missing (with
            the command that installs it), something that is not an environment, or arguments that
            it does not take.
        EnvironmentFailure: the environment could not be made.
    """
    how = _How(num_envs, processes, checked_kwargs(kwargs), first_lane, step_timeout)
    return _made(env, how)


@singledispatch
def _made(env: Any, how: _How) -> Environment:
    """Kinds that are known by their methods, not by their type; no object is of two kinds."""
    kind = type(env).__name__
    if isinstance(env, GymnaxLike):
        how.refuse(f"the JAX-native object {kind}", instead=PARAMETERS)
        return adapted(env)
    if isinstance(env, CompiledEnvironment):
        how.refuse(f"the JAX-native object {kind}", instead=BEFORE)
        return env
    if isinstance(env, LaneMethods):
        how.refuse(f"{kind}, which steps its lanes itself", instead=BEFORE)
        lanes: Any = env
        return lanes
    refuse_vec_env(env)
    if looks_pure(env):
        raise UserError(
            f"the JAX-native environment {kind} has no {' and no '.join(lacking(env))}; set it in "
            "the class (time_limit = None if there is none)"
        )
    if callable(env) and not isinstance(env, Mapping):
        return _from_function(env, how)
    raise UserError(
        f"{env!r} is not an environment; pass an id, a function that makes a Gymnasium "
        "environment, or an object with reset and step (see docs/environments.md)"
    )


@_made.register(str)
def _from_name(env: str, how: _How) -> Environment:
    engine, name = split_engine(env)
    return MAKERS[engine or "gymnasium"](name, **how._asdict())


@_made.register(EnvSpec)
def _from_spec(env: EnvSpec, how: _How) -> Environment:
    return make_gymnasium(env, **how._asdict())


@_made.register(VectorEnv)
def _from_vector(env: VectorEnv, how: _How) -> Environment:
    how.refuse(f"the vector environment {type(env).__name__}", "kwargs", "processes")
    copies = getattr(env.unwrapped, "envs", None)
    if isinstance(copies, (list, tuple)):
        refuse_shared(copies)
    vector = with_masks(env, how.step_timeout)
    return GymnasiumLanes(
        vector, owned=False, first_lane=how.first_lane, step_timeout=how.step_timeout
    )


@_made.register(gymnasium.Env)
def _from_one(env: gymnasium.Env, how: _How) -> Environment:
    spec = spec_of(env)
    if spec is None:
        needed = f"but {how.num_envs} copies are needed"
        if how.num_envs == 1:
            needed = "and others of its kind are needed besides: to evaluate, and to resume a run"
        raise UserError(
            f"{env!r} is one environment, {needed}; pass a function that makes one, "
            "train(lambda: …), or register it and pass its id"
        )
    refuse_changed(env, spec)
    return make_gymnasium(spec, **how._asdict())


@_made.register(type)
def _from_function(env: Any, how: _How) -> Environment:
    if isinstance(env, type) and looks_pure(env) and not issubclass(env, gymnasium.Env):
        arguments = ", ".join(f"{name}={value!r}" for name, value in how.kwargs.items())
        raise UserError(
            f"{env.__name__} is a class of a JAX-native environment; pass "
            f"{env.__name__}({arguments})"
        )
    check_arguments(env, how.kwargs)
    vector = vectorise(
        Making(env, how.kwargs),
        how.num_envs,
        processes=how.processes,
        step_timeout=how.step_timeout,
    )
    return GymnasiumLanes(vector, first_lane=how.first_lane)


@_made.register(tuple)
def _with_parameters(env: tuple[Any, ...], how: _How) -> Environment:
    if len(env) != 2 or not isinstance(env[0], GymnaxLike):
        raise UserError(
            f"{env!r} is not an environment; a pair is read as an object with gymnax's functional "
            "interface and its parameters"
        )
    how.refuse(f"the JAX-native object {type(env[0]).__name__}", instead=PARAMETERS)
    return adapted(*env)


def split_engine(env: str) -> tuple[str | None, str]:
    """`envpool/Hopper-v5` -> envpool, Hopper-v5; an id that names no engine -> None, itself."""
    engine, _, name = env.partition("/")
    return (engine, name) if name and engine in MAKERS else (None, env)


def is_stepped_by_gymnasium(env: Any) -> bool:
    """Whether `make` would give copies of a Gymnasium environment: only their steps have a limit,
    and only they are stepped in worker processes."""
    if isinstance(env, str):
        return split_engine(env)[0] in (None, "gymnasium")
    if isinstance(env, (EnvSpec, VectorEnv, gymnasium.Env, type)):
        return True
    return callable(env) and not isinstance(env, (GymnaxLike, CompiledEnvironment, LaneMethods))


def choose_engine(
    env: Any, *, processes: bool = False, kwargs: dict | None = None, groups: bool = False
) -> Any:
    """The id with the engine that a new run takes, if the user named none.

    EnvPool, if it is installed and has the id; ale-py, if it has it and Gymnasium has not.
    Gymnasium if it steps all copies in one vectorised call (CartPole): that is as fast, starts
    sooner and resumes exactly. Worker processes, arguments and groups of episodes are for Gymnasium
    where it has the id.
    """
    if not isinstance(env, str) or split_engine(env)[0] or ":" in env:
        return env
    spec = gymnasium.registry.get(env)
    if spec is not None and (spec.vector_entry_point is not None or processes or kwargs or groups):
        return env
    if importlib.util.find_spec("envpool") is not None and env in envpool.ids():
        return f"envpool/{env}"
    if spec is None and importlib.util.find_spec("ale_py") is not None and env in atari.games():
        return f"{atari.NAMESPACE}/{env}"
    return env


def describe(env: Any) -> str | None:
    """The id from which `make` makes this environment again; None if there is no such id.

    There is none for an environment with arguments or wrappers that its registration does not have.
    """
    if isinstance(env, str):
        return env
    spec = env if isinstance(env, EnvSpec) else spec_of(env)
    if isinstance(spec, EnvSpec) and not isinstance(env, VectorEnv):
        registered = gymnasium.registry.get(spec.id)
        if registered is not None and _essence(spec) == _essence(registered):
            return spec.id
    return None


def spec_of(env: Any) -> EnvSpec | None:
    """What makes an environment again, with its wrappers; None if nothing does."""
    try:
        spec = getattr(env, "spec", None)
    except Exception:  # a wrapper of the user's own may not tell
        return None
    if not isinstance(spec, EnvSpec) or any(w.kwargs is None for w in spec.additional_wrappers):
        return None
    return spec


def qualified_name(env: Any) -> str | None:
    """`module:name` of a class or a function; None for anything else, and for one without a name.

    A name in `__main__` is that of a script, and another script may have another one of it.
    """
    module, name = getattr(env, "__module__", None), getattr(env, "__qualname__", "<>")
    return None if module is None or "<" in name else f"{module}:{name}"


def is_that_of(env: Any, env_id: Any, name: str | None) -> bool:
    """Whether an environment that is passed is the one of a run, so that its arguments hold for it.

    An object that is made already, or a specification, has arguments of its own.

    Args:
        env: as it is passed.
        env_id: the run's id, if it has one.
        name: the `qualified_name` of the run's class or function, if it was given one.
    """
    if isinstance(env, str):
        return isinstance(env_id, str) and choose_engine(env) == choose_engine(env_id)
    return name is not None and qualified_name(env) == name


def _essence(spec: EnvSpec) -> tuple[Any, ...]:
    kwargs = {k: v for k, v in spec.kwargs.items() if k != "render_mode"}
    return spec.entry_point, kwargs, spec.max_episode_steps, spec.additional_wrappers

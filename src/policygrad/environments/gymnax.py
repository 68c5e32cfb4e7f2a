"""Environments with gymnax's functional interface, as `CompiledEnvironment`s."""

import contextlib
import dataclasses
import inspect
import json
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import PRNGKeyArray, PyTree

from policygrad.core.errors import UnsupportedSpaceError, UserError
from policygrad.core.modules import narrowed
from policygrad.environments import masks
from policygrad.environments.arguments import not_taken, takes
from policygrad.environments.names import nearest, refuse_what_steps_itself, require_extra
from policygrad.environments.protocol import ById, Step
from policygrad.environments.traced_infos import traced_numbers
from policygrad.spaces import action_space_of, observation_space_of

# what gymnax, or a wrapper of it that keeps statistics, puts into every info
NOT_THE_TASKS = frozenset(
    ("discount", "terminated", "truncated", "returned_episode", "returned_episode_returns",
     "returned_episode_lengths", "returned_episode_valid")
)  # fmt: skip


@runtime_checkable
class GymnaxLike(Protocol):
    """An object with gymnax's functional interface."""

    default_params: Any

    def step(self, key: Any, state: Any, action: Any, params: Any) -> Any:
        """-> (observation, state, reward, terminated, truncated, info)"""
        ...


def make_gymnax(
    name: str,
    num_envs: int = 1,
    *,
    processes: bool = False,
    kwargs: dict[str, Any] | None = None,
    first_lane: int = 0,
    step_timeout: float | None = None,
) -> "GymnaxEnvironment":
    """The environment of a gymnax id: one object for each id and arguments, so that runs in a
    process share compiled programs.

    Args:
        name: without the engine before it.
        num_envs, first_lane: not used; one pure function serves all copies.
        processes, step_timeout: refused; compiled code makes the steps.
        kwargs: fields of its parameters to replace, or arguments of its constructor.

    Raises:
        UserError: gymnax is not installed, has no such id, or does not take these arguments.
    """
    refuse_what_steps_itself(f"gymnax/{name}", processes, step_timeout)
    gymnax = require_extra("gymnax", f"gymnax/{name}")
    known = list(gymnax.registered_envs)
    if name not in known:
        raise UserError(f"unknown environment gymnax/{name}{nearest(name, known, 'gymnax/')}")
    try:
        text = json.dumps(kwargs or {}, sort_keys=True)
    except TypeError:  # for example an array: a new object every time
        return _of_id(name, kwargs or {})
    return _made(name, text)


@lru_cache
def _made(name: str, kwargs: str) -> "GymnaxEnvironment":
    return _of_id(name, json.loads(kwargs))


def _of_id(name: str, kwargs: dict[str, Any]) -> "GymnaxEnvironment":
    """A gymnax environment; arguments are fields of its parameters, or of its constructor."""
    import gymnax

    fields = _fields(gymnax.make(name)[1])
    others = {k: v for k, v in kwargs.items() if k not in fields}
    try:
        environment, params = gymnax.make(name, **others)
    except TypeError as error:
        known = sorted({*fields, *takes(type(gymnax.make(name)[0]))})
        near = nearest(next(iter(others)), known) if others else ""
        raise UserError(
            not_taken(f"gymnax/{name}", others, f"it takes {', '.join(known)}{near}")
        ) from error
    replaced = {k: _like(k, kwargs[k], fields[k]) for k in kwargs if k in fields}
    if replaced:
        params = dataclasses.replace(params, **replaced)
    return GymnaxEnvironment(environment, params, narrow=True)


def _fields(params: Any) -> dict[str, Any]:
    """The fields of an environment's parameters and their values."""
    if not dataclasses.is_dataclass(params):
        return {}
    return {f.name: getattr(params, f.name) for f in dataclasses.fields(params)}


def _like(name: str, value: Any, default: Any) -> Any:
    """A parameter in the type of its default; UserError if it cannot be."""
    if isinstance(default, (bool, str)) or default is None:
        fits = default is None or isinstance(value, type(default))
    else:
        array = np.asarray(value)
        fits = array.dtype.kind in "iuf" and (
            np.asarray(default).dtype.kind == "f"
            or bool(np.all(np.isfinite(array) & (array == np.floor(array))))
        )
        if fits and isinstance(default, (int, float)) and array.ndim == 0:
            value = type(default)(value)
    if not fits:
        raise UserError(f"the parameter {name} must be like {default!r}, got {value!r}")
    return value


def adapted(environment: GymnaxLike, params: Any = None) -> "GymnaxEnvironment":
    """The adapter of a user's object; always the same one, so that nothing compiles twice."""
    return _adapted(ById(environment), ById(params))


@lru_cache
def _adapted(environment: ById, params: ById) -> "GymnaxEnvironment":
    return GymnaxEnvironment(environment.value, params.value)


class GymnaxEnvironment:
    """Adapts an object with gymnax's functional interface (gymnax ≥ 1.0).

    If the object has `step_env`, `reset_env` and `is_truncated`, these are used; else its `reset`
    and its `step`, which returns six values and resets itself, and whose
    `info["final_observation"]` is the true successor. The numbers in the info of a step are its
    own, also where it resets itself.

    Args:
        environment: the object.
        params: its parameters; None for its defaults.
        narrow: whether it computes in 32 bits whatever `jax_enable_x64` is, as gymnax's own
            environments are written to: some of them cannot be traced in 64.
    """

    def __init__(self, environment: Any, params: Any = None, *, narrow: bool = False) -> None:
        self.environment = self.adapts = environment
        self._narrow = narrow
        self.params = environment.default_params if params is None else params
        self.observation_space = to_gymnasium(
            _call_with_params(environment.observation_space, self.params)
        )
        self.action_space = to_gymnasium(_call_with_params(environment.action_space, self.params))
        observation_space_of(self.observation_space)  # raises if no policy supports it
        action_space_of(self.action_space)
        self._raw = all(
            callable(getattr(environment, name, None))
            for name in ("step_env", "reset_env", "is_truncated")
        )
        limit = getattr(self.params, "max_steps_in_episode", None)
        self.time_limit = int(limit) if self._raw and limit and self._stock_limit() else None
        self._check_step()

    def _stock_limit(self) -> bool:
        """Whether truncation is gymnax's own rule, which is only the time limit."""
        module = inspect.getmodule(type(self.environment).is_truncated)
        return module is not None and module.__name__ == "gymnax.environments.environment"

    def _check_step(self) -> None:
        seen: list[tuple[int, bool]] = []

        def probe(key: PRNGKeyArray) -> None:  # which returns nothing: an info may hold text
            state, _ = self.reset(key)
            action = narrowed(jax.tree.map(jnp.asarray, self.action_space.sample()))
            step = self.environment.step_env if self._raw else self.environment.step
            returned = step(key, state, action, self.params)
            seen.append((len(returned), masks.in_info(returned[-1]) is not None))

        with self._precision():
            jax.eval_shape(probe, jax.random.key(0))
        values, gives_mask = seen[0]
        expected = 5 if self._raw else 6
        if values != expected:
            raise UserError(
                f"{type(self.environment).__name__}.{'step_env' if self._raw else 'step'} returns "
                f"{values} values, expected {expected}: termination and truncation must be two "
                "values, as in gymnax ≥ 1.0"
            )
        if gives_mask and not masks.holds_mask(self.observation_space):
            raise UserError(
                f"{type(self.environment).__name__} gives a mask of actions in the info of a step, "
                "where none is read; give it in the observation, under 'action_mask'"
            )

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return jax.enable_x64(False) if self._narrow else contextlib.nullcontext()

    def reset(self, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        reset = self.environment.reset_env if self._raw else self.environment.reset
        with self._precision():
            observation, state = reset(key, self.params)
            state = jax.tree.map(jnp.asarray, state)  # a plain number has no type yet
        return state, observation

    def step(self, key: PRNGKeyArray, state: PyTree, action: PyTree) -> Step:
        with self._precision():
            if self._raw:
                observation, state, reward, terminated, info = self.environment.step_env(
                    key, state, action, self.params
                )
                truncated = self.environment.is_truncated(state, self.params)
            else:
                _, state, reward, terminated, truncated, info = self.environment.step(
                    key, state, action, self.params
                )
                observation = info["final_observation"]
        row = state, observation, reward, terminated, truncated
        numbers = traced_numbers({k: x for k, x in (info or {}).items() if k not in NOT_THE_TASKS})
        return (*row, numbers) if numbers else row


def _call_with_params(method: Any, params: Any) -> Any:
    return method(params) if callable(method) else method


def to_gymnasium(space: Any) -> spaces.Space:
    """A gymnax space, known by the name of its class, as a Gymnasium space."""
    if isinstance(space, spaces.Space):
        return space
    kind = type(space).__name__
    if kind == "Discrete":
        return spaces.Discrete(int(space.n))
    if kind == "Box":
        dtype = np.dtype(space.dtype)
        low = np.broadcast_to(np.asarray(space.low), space.shape).astype(dtype)
        high = np.broadcast_to(np.asarray(space.high), space.shape).astype(dtype)
        return spaces.Box(low, high, space.shape, dtype.type)
    if kind == "Dict":
        return spaces.Dict({k: to_gymnasium(v) for k, v in space.spaces.items()})
    if kind == "Tuple":
        return spaces.Tuple([to_gymnasium(v) for v in space.spaces])
    raise UnsupportedSpaceError(f"no policy supports the space {kind}: {space}")

"""A JAX-native environment: pure functions of a state, rolled out inside one compiled scan."""

import inspect
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from gymnasium import spaces
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

T = TypeVar("T")
Reward = Float[Array, ""]
Flag = Bool[Array, ""]
Step = (
    tuple[PyTree, PyTree, Reward, Flag, Flag]
    | tuple[PyTree, PyTree, Reward, Flag, Flag, Mapping[Any, Any]]
)


@runtime_checkable
class CompiledEnvironment(Protocol):
    """A pure environment.

    Attributes:
        observation_space, action_space: Gymnasium spaces.
        time_limit: steps after which the library truncates an episode, and before which none may
            be truncated; None if truncation may happen at any step, or never.
    """

    observation_space: spaces.Space
    action_space: spaces.Space
    time_limit: int | None

    def reset(self, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        """-> (state, observation). The key is consumed."""
        ...

    def step(self, key: PRNGKeyArray, state: PyTree, action: PyTree) -> Step:
        """-> (state, observation, reward, terminated, truncated), and behind them the info, a dict,
        if there is one. The key is consumed.

        No automatic reset: the observation is the true successor.
        """
        ...


def looks_pure(env: Any) -> bool:
    """Whether an object or a class has the methods of a JAX-native environment: `reset(key)` and
    `step(key, state, action)`, or those of gymnax, by the arguments that they need."""
    return _needs(env, "reset") in (1, 2) and _needs(env, "step") in (3, 4)


def lacking(env: Any) -> list[str]:
    """The attributes that an object which `looks_pure` has not, of those that it must have."""
    declared = ("observation_space", "action_space", "time_limit")
    names = ("default_params",) if _needs(env, "step") == 4 else declared
    return [name for name in names if not hasattr(env, name)]


def _needs(env: Any, name: str) -> int | None:
    """How many positional arguments a method needs besides `self`; None if that is not known."""
    try:
        method = inspect.getattr_static(env, name)
        parameters = list(inspect.signature(getattr(env, name)).parameters.values())
    except (AttributeError, TypeError, ValueError):
        return None
    if isinstance(env, type) and not isinstance(method, (staticmethod, classmethod)):
        parameters = parameters[1:]
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return sum(p.kind in kinds and p.default is p.empty for p in parameters)


class ById(Generic[T]):
    """A value as a static argument; two are equal if they hold the same object.

    An environment may hold arrays, which have no hash, and may compare equal to another one.
    """

    def __init__(self, value: T) -> None:
        self.value = value

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, ById) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)

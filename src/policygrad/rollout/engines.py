"""Engines open an id, or an object, as a source of steps."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import PRNGKeyArray

from policygrad.core.errors import UserError
from policygrad.core.usual import longest_episode
from policygrad.environments.arguments import checked_kwargs
from policygrad.environments.catalogue import (
    MAKERS,
    Environment,
    is_stepped_by_gymnasium,
    make,
)
from policygrad.environments.deadline import can_interrupt
from policygrad.environments.envpool import Pool
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.protocol import CompiledEnvironment
from policygrad.rollout.collectors import Collector
from policygrad.rollout.compiled import CompiledSource
from policygrad.rollout.envpool import PoolSource
from policygrad.rollout.host_source import HostSource
from policygrad.rollout.source import Source, episodes_of


class Engine(Protocol):
    """Opens ids as sources. `train(\"id\", engine=...)` takes any object that does."""

    def open(
        self,
        env_id: str,
        num_envs: int,
        *,
        processes: bool = False,
        kwargs: dict[str, Any] | None = None,
    ) -> Source:
        """The environment of an id.

        Args:
            env_id: as the user named it.
            num_envs: lanes to step together.
            processes: step them in worker processes, if the engine has any.
            kwargs: the user's arguments of the environment.

        Raises:
            UserError: an id, or arguments, that the engine does not know.
        """
        ...


@dataclass(frozen=True)
class NamedEngine:
    """An engine of the library: opens what `environments.make` makes of `name/id`."""

    name: str

    def open(
        self,
        env_id: str,
        num_envs: int,
        *,
        processes: bool = False,
        kwargs: dict[str, Any] | None = None,
    ) -> Source:
        """The environment of an id, as `Engine.open`."""
        made = make(f"{self.name}/{env_id}", num_envs, processes=processes, kwargs=kwargs)
        return source_of(made, num_envs)


ENGINES: dict[str, Engine] = {name: NamedEngine(name) for name in MAKERS}


READ_OF_A_SOURCE = ("observation_space", "action_space", "num_envs", "time_limit", "segments")


def open_source(
    env: Any,
    num_envs: int,
    *,
    engine: Engine | None = None,
    processes: bool = False,
    kwargs: dict[str, Any] | None = None,
    first_lane: int = 0,
    step_timeout: float | None = None,
) -> Source:
    """The source of batches from what a user named or passed.

    Args:
        env: as `environments.make` takes it, or a `Source`.
        num_envs: lanes to step together; an environment with its own number keeps it.
        engine: opens `env`, which must then be an id; None for the engine that the id names.
        processes, kwargs, first_lane, step_timeout: as for `environments.make`.

    Raises:
        UserError: an id that is not known, or something that is not an environment.
    """
    kwargs = checked_kwargs(kwargs)
    asked = {"env_kwargs": kwargs, "processes": processes, "step_timeout": step_timeout}
    given = {name: value for name, value in asked.items() if value not in ({}, False, None)}
    if engine is not None:
        return _opened(engine, env, num_envs, given)
    if isinstance(env, Source):
        if given:
            name, value = next(iter(given.items()))
            raise UserError(
                f"{name}={value!r} is not read by {type(env).__name__}, a source that is open "
                "already; leave it out, and give it where you make the source"
            )
        return env
    made = make(
        env, num_envs, processes=processes, kwargs=kwargs, first_lane=first_lane,
        step_timeout=step_timeout,
    )  # fmt: skip
    return source_of(made, num_envs, first_lane)


def limit_kept(
    step_timeout: float | None, env: Any, *, engine: Engine | None, processes: bool
) -> float | None:
    """A run's limit of a step where a limit can be kept, which nobody asked for; elsewhere None.

    Args:
        step_timeout: of the run, in seconds.
        env, engine, processes: what `open_source` will be given.
    """
    if engine is not None or not is_stepped_by_gymnasium(env):
        return None
    return step_timeout if processes or can_interrupt() else None


def _opened(engine: Engine, env: Any, num_envs: int, given: dict[str, Any]) -> Source:
    """What an engine of the user's own opens.

    Args:
        engine: the engine.
        env: the id.
        num_envs: lanes to step together.
        given: the other arguments of `open_source` that were given, by name.
    """
    name = type(engine).__name__
    if not isinstance(env, str):
        raise UserError(f"an engine opens an environment by its id, got {env!r}")
    if isinstance(engine, type) or not callable(getattr(engine, "open", None)):
        raise UserError(f"engine={engine!r} must be an object with open(id, num_envs, …)")
    if "step_timeout" in given:
        raise UserError(
            f"step_timeout={given['step_timeout']!r} is not read by {name}, which steps its "
            "environments itself; leave it out"
        )
    arguments = {
        "processes": given.get("processes", False),
        "kwargs": given.get("env_kwargs", {}),
    }
    try:
        inspect.signature(engine.open).bind(env, num_envs, **arguments)
    except TypeError as error:
        raise UserError(
            f"{name}.open must take (env_id, num_envs, *, processes=False, kwargs=None): {error}"
        ) from None
    source = engine.open(env, num_envs, **arguments)
    missing = [name for name in READ_OF_A_SOURCE if not hasattr(source, name)]
    if missing:
        raise UserError(
            f"{name}.open must return a Source, got {type(source).__name__} without "
            f"{', '.join(missing)}; for lanes in NumPy, return policygrad.rollout.HostSource(lanes)"
        )
    return source


def source_of(environment: Environment, num_envs: int, first_lane: int = 0) -> Source:
    """The source of an environment: the one place that tells the kinds of environments apart.

    Segments of an EnvPool are compiled where the pool can be, else stepped from the host;
    `PoolSource` says which.
    """
    if isinstance(environment, GymnasiumLanes) and isinstance(environment.vector, Pool):
        return PoolSource(environment, first_lane)
    if isinstance(environment, CompiledEnvironment):
        return CompiledSource(environment, num_envs, first_lane)
    return HostSource(environment, first_lane)


def make_collector(
    environment: Environment,
    policy: Callable,
    key: PRNGKeyArray,
    *,
    num_envs: int,
    steps: int | None = None,
    episodes: int | None = None,
    max_episode_steps: int | None = None,
    group_size: int = 1,
    with_greedy: bool = False,
) -> Collector:
    """The collector for an environment and a kind of batch.

    Args:
        environment: lanes (host) or a compiled environment.
        policy: for its structure; a policy of the same structure is passed to `collect`.
        key: seeds the environments; consumed.
        num_envs: B.
        steps: rows of a segment; or
        episodes: whole episodes a batch. Exactly one of the two.
        max_episode_steps: cap on a whole episode's length.
        group_size: how many episodes in a row start from the same reset.
        with_greedy: whether a greedy episode is played from each start too.
    """
    if (steps is None) == (episodes is None):
        raise ValueError(f"give steps or episodes, one of the two; got {steps=}, {episodes=}")
    source = source_of(environment, num_envs)
    if steps is not None:
        if group_size != 1 or with_greedy:
            raise ValueError(
                f"segments do not start in groups, got {group_size=}, {with_greedy=}; give episodes"
            )
        return source.segments(policy, key, steps)
    assert episodes is not None
    limit = longest_episode(max_episode_steps, source.time_limit)
    return episodes_of(
        source, policy, key, episodes, limit, group_size=group_size, with_greedy=with_greedy
    )

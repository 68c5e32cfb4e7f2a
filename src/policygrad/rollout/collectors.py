"""Collectors: the ways to fill a batch behind one interface, with what resuming them takes.

Host or compiled, segments or whole episodes. A collector holds the environments; everything else
is passed in. `snapshot` and `restore` bring the environments back to where they were.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import equinox as eqx
import jax
import numpy as np
from gymnasium import spaces
from jaxtyping import PRNGKeyArray

from policygrad.core.errors import PolicygradError
from policygrad.core.modules import PolicyShape
from policygrad.core.trajectories import Trajectories
from policygrad.environments.envpool import Pool
from policygrad.environments.lanes import Lanes, owned
from policygrad.environments.protocol import CompiledEnvironment
from policygrad.environments.replay import ReplayLog, episode_seed, restore
from policygrad.rollout import envpool as pooled
from policygrad.rollout import episodes as episodes_
from policygrad.rollout import host, segments
from policygrad.spaces import action_space_of


class Collector(Protocol):
    """Fills batches.

    Attributes:
        observation_space, action_space: of one environment.
        whole_episodes: whether batches hold whole episodes.
    """

    observation_space: spaces.Space
    action_space: spaces.Space
    whole_episodes: bool

    def collect(self, policy: Callable, key: PRNGKeyArray) -> Trajectories:
        """One batch. The key is consumed."""
        ...

    def snapshot(self) -> Any:
        """A pytree of arrays from which `restore` brings the environments back."""
        ...

    def restore(self, snapshot: Any) -> bool:
        """Bring the environments back; False where they did not come back exactly."""
        ...

    def close(self) -> None:
        """Release the environments."""
        ...


def make_collector(
    environment: Lanes | CompiledEnvironment,
    policy: Callable,
    key: PRNGKeyArray,
    *,
    num_envs: int,
    steps: int | None = None,
    episodes: int | None = None,
    max_episode_steps: int | None = None,
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
    """
    if (steps is None) == (episodes is None):
        raise ValueError(f"give steps or episodes, one of the two; got {steps=}, {episodes=}")
    if episodes is not None:
        limit = max_episode_steps or environment.time_limit or 10_000
        if isinstance(environment, Lanes):
            return HostEpisodes(environment, policy, episodes, limit)
        return CompiledEpisodes(environment, episodes, limit)
    assert steps is not None
    if isinstance(environment, Lanes):
        if isinstance(environment.vector, Pool) and environment.vector.compiles:
            return PoolSegments(environment, steps, _integer(key))
        return HostSegments(environment, policy, steps, _integer(key))
    return CompiledSegments(environment, key, num_envs, steps)


def _integer(key: PRNGKeyArray) -> int:
    """A non-negative seed for a host environment, from a key."""
    return int(np.asarray(jax.random.key_data(key)).view(np.uint32)[-1] >> 1)


class HostSegments:
    """Segments of Gymnasium lanes."""

    whole_episodes = False

    def __init__(self, lanes: Lanes, policy: Callable, steps: int, seed: int) -> None:
        self.observation_space, self.action_space = lanes.observation_space, lanes.action_space
        self._lanes, self._steps, self._seed = lanes, steps, seed
        self._actor = host.Actor(policy)
        lanes.start(seed)

    def collect(self, policy: Callable, key: PRNGKeyArray) -> Trajectories:
        record = host.collect_segment(self._lanes, self._actor.sampler(policy, key), self._steps)
        self._lanes.log.trim()
        return record

    def snapshot(self) -> Any:
        log = self._lanes.log
        actions = np.stack(log.actions) if log.actions else np.zeros((0,))
        return {
            "seed": np.array(log.seed, np.uint32),
            "first": np.array(log.first, np.int64),
            "episodes": log.episodes,
            "begun": log.begun,
            "actions": actions,
            "observations": owned(self._lanes.observations),
            "times": self._lanes.times,
        }

    def restore(self, snapshot: Any) -> bool:
        lanes, first = self._lanes, int(snapshot["first"])
        log = ReplayLog(
            int(snapshot["seed"]),
            lanes.seeds_each_lane,
            lanes.num_envs,
            first,
            list(snapshot["actions"]),
            lanes.log.keeps,
        )
        log.episodes, log.begun = snapshot["episodes"].copy(), snapshot["begun"].copy()
        if log.complete:
            restore(lanes, log)
            same = jax.tree.map(np.array_equal, owned(lanes.observations), snapshot["observations"])
            if all(jax.tree.leaves(same)) and np.array_equal(lanes.times, snapshot["times"]):
                return True
        lanes.start(episode_seed(self._seed, 1, first + len(snapshot["actions"])))
        return False

    def close(self) -> None:
        self._lanes.close()


class PoolSegments:
    """Segments of an EnvPool, its steps inside one compiled program."""

    whole_episodes = False

    def __init__(self, lanes: Lanes, steps: int, seed: int) -> None:
        self.observation_space, self.action_space = lanes.observation_space, lanes.action_space
        self._lanes, self._steps, self._seed, self._segments = lanes, steps, seed, 0
        self._start(seed)

    def _start(self, seed: int) -> None:
        self._lanes.start(seed)
        pool: Any = self._lanes.vector
        self._state, step = pooled.start(pool, owned(self._lanes.observations))

        def collect(shape: PolicyShape, arrays: tuple, state: Any, key: PRNGKeyArray) -> Any:
            return pooled.collect_segment(
                step,
                action_space_of(self.action_space),
                shape.policy(arrays),
                state,
                key,
                steps=self._steps,
                time_limit=self._lanes.time_limit,
            )

        # compiled for this pool, which it holds by its address, and forgotten with it
        self._collect = jax.jit(collect, static_argnums=0)

    def collect(self, policy: Callable, key: PRNGKeyArray) -> Trajectories:
        shape = PolicyShape.of(policy)
        self._state, record = jax.block_until_ready(
            self._collect(shape, shape.arrays(policy), self._state, key)
        )
        self._segments += 1
        return record

    def snapshot(self) -> Any:
        return {"segments": np.array(self._segments, np.int64)}

    def restore(self, snapshot: Any) -> bool:
        self._segments = int(snapshot["segments"])
        self._start(episode_seed(self._seed, 1, self._segments))
        return False

    def close(self) -> None:
        self._lanes.close()


class HostEpisodes:
    """Whole episodes of Gymnasium lanes, started afresh for every batch.

    Attributes:
        episodes: of the next batch; may be set.
    """

    whole_episodes = True

    def __init__(self, lanes: Lanes, policy: Callable, episodes: int, max_steps: int) -> None:
        self.observation_space, self.action_space = lanes.observation_space, lanes.action_space
        self._lanes, self.episodes, self._max_steps = lanes, episodes, max_steps
        self._actor = host.Actor(policy)

    def collect(self, policy: Callable, key: PRNGKeyArray) -> Trajectories:
        act_key, environment_key = jax.random.split(key)
        record, unfinished = host.collect_episodes(
            self._lanes,
            self._actor.sampler(policy, act_key),
            _integer(environment_key),
            episodes=self.episodes,
            max_steps=self._max_steps,
        )
        require_finished(unfinished, self._max_steps)
        return record

    def snapshot(self) -> Any:
        return {}

    def restore(self, snapshot: Any) -> bool:
        return True

    def close(self) -> None:
        self._lanes.close()


class Same:
    """An environment as a static argument: equal where it is the same object, whatever it holds."""

    def __init__(self, environment: CompiledEnvironment) -> None:
        self.environment = environment

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.environment is other.environment

    def __hash__(self) -> int:
        return id(self.environment)


# On the module's level, so that a second run of the same shape in a process compiles nothing.


@partial(jax.jit, static_argnums=(0, 2))
def _start_lanes(same: Same, key: PRNGKeyArray, num_envs: int) -> segments.LaneState:
    return segments.start_lanes(same.environment, key, num_envs)


@eqx.filter_jit
def _collect_segment(same: Same, policy: Any, lanes: Any, key: Any, steps: int) -> Any:
    return segments.collect_segment(same.environment, policy, lanes, key, steps=steps)


@eqx.filter_jit
def collect_compiled_episodes(
    same: Same, policy: Any, key: Any, episodes: int, max_steps: int
) -> episodes_.EpisodeBatch:
    """N whole episodes of a compiled environment; what ran before with these shapes is reused."""
    return episodes_.collect_episodes(
        same.environment, policy, key, episodes=episodes, max_steps=max_steps
    )


class CompiledSegments:
    """Segments of a compiled environment.

    Attributes:
        environment, steps: what is rolled out, and how far.
        lanes: as the last segment left them; whoever rolls them out elsewhere puts them back.
    """

    whole_episodes = False

    def __init__(
        self, environment: CompiledEnvironment, key: PRNGKeyArray, num_envs: int, steps: int
    ) -> None:
        self.observation_space = environment.observation_space
        self.action_space = environment.action_space
        self.environment, self.steps = Same(environment), steps
        self.lanes = _start_lanes(self.environment, key, num_envs)

    def collect(self, policy: Callable, key: PRNGKeyArray) -> Trajectories:
        self.lanes, record = _collect_segment(self.environment, policy, self.lanes, key, self.steps)
        return record

    def snapshot(self) -> Any:
        return self.lanes

    def restore(self, snapshot: Any) -> bool:
        self.lanes = snapshot
        return True

    def close(self) -> None:
        pass


class CompiledEpisodes:
    """Whole episodes of a compiled environment, started afresh for every batch.

    Attributes:
        episodes: of the next batch; may be set.
    """

    whole_episodes = True

    def __init__(self, environment: CompiledEnvironment, episodes: int, max_steps: int) -> None:
        self.observation_space = environment.observation_space
        self.action_space = environment.action_space
        self._same = Same(environment)
        self.episodes, self._max_steps = episodes, max_steps

    def collect(self, policy: Callable, key: PRNGKeyArray) -> Trajectories:
        batch = collect_compiled_episodes(self._same, policy, key, self.episodes, self._max_steps)
        require_finished(np.asarray(batch.unfinished), self._max_steps)
        return episodes_.trim(batch.trajectories)

    def snapshot(self) -> Any:
        return {}

    def restore(self, snapshot: Any) -> bool:
        return True

    def close(self) -> None:
        pass


def require_finished(unfinished: np.ndarray, max_steps: int) -> None:
    """Refuse a batch of episodes of which some did not end: leaving them out would bias it."""
    if unfinished.any():
        raise PolicygradError(
            f"{int(unfinished.sum())} of {len(unfinished)} episodes did not end within "
            f"{max_steps} steps; raise max_episode_steps, wrap the environment in a TimeLimit, or "
            "collect segments with batch_steps"
        )

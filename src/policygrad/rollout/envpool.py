"""EnvPool as a source: segments inside one scan, which steps the pool by calls into its C++.

Python is called once a segment. Called once a step, it would take a fifth of the simulator's time.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from policygrad.core.modules import PolicyShape
from policygrad.core.padding import without_padding
from policygrad.core.trajectories import Trajectories
from policygrad.devices.compiled_code import compiled
from policygrad.environments.envpool import Pool
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.lanes import owned
from policygrad.environments.replay import episode_seed
from policygrad.policies.meeting import Policy, initial_carry
from policygrad.rollout.collectors import Collector, require_no_episodes, seed_of
from policygrad.rollout.host_source import HostSource
from policygrad.rollout.segments import StepRow, roll
from policygrad.spaces import ActionSpace, action_space_of


class PoolState(NamedTuple):
    """B lanes of a pool between two segments.

    Attributes:
        handle: of the pool.
        observations: pytree of `[B, ...]`, what the policy sees next.
        times: `[B]`, the steps that the running episodes already had.
        ended: `[B]`, the lane's next step resets it, and is not a transition.
        carry: pytree of `[B, ...]`, of a policy with memory.
    """

    handle: Array
    observations: PyTree
    times: Int[Array, " B"]
    ended: Bool[Array, " B"]
    carry: PyTree = ()


def start(pool: Pool, observations: PyTree, carry: PyTree = ()) -> tuple[PoolState, Callable]:
    """The state of a pool that was reset, and the function that steps it (see `Pool.program`)."""
    handle, step = pool.program()
    lanes = pool.num_envs
    observations = jax.tree.map(jnp.asarray, observations)
    times, ended = jnp.zeros(lanes, jnp.int32), jnp.zeros(lanes, bool)
    state = PoolState(handle, observations, times, ended, carry)
    return state, step


def collect_segment(
    step_pool: Callable,
    action_space: ActionSpace,
    policy: Policy,
    state: PoolState,
    key: PRNGKeyArray,
    *,
    steps: int,
    time_limit: int | None,
    first_lane: int = 0,
) -> tuple[PoolState, Trajectories]:
    """T steps of B lanes, which go on from the segment before; as `host.collect_segment`.

    Args:
        step_pool: (handle, actions) -> the handle, and what the pool's `step` returns.
        action_space: of one lane.
        policy: with or without memory.
        state: B lanes.
        key: consumed.
        steps: T; static.
        time_limit: of the lanes' episodes; static.
        first_lane: the number of the first of the lanes.

    Returns:
        The lanes after the segment, and the record.
    """

    def step(_: Array, state: PoolState, actions: PyTree) -> tuple[PoolState, StepRow]:
        handle, (successors, rewards, terminated, truncated, infos) = step_pool(
            state.handle, action_space.to_environment(actions, jnp)
        )
        valid = ~state.ended
        terminated, truncated = terminated & valid, truncated & valid
        times: Any = jnp.where(valid, state.times + 1, 0)
        rewards: Any = jnp.where(valid, rewards, 0.0)
        following = PoolState(handle, successors, times, terminated | truncated, state.carry)
        return following, StepRow(successors, rewards, terminated, truncated, valid, infos)

    state, record = roll(
        policy, state, key, step, steps=steps, time_limit=time_limit, first_lane=first_lane
    )
    read = record.observations, record.actions, record.log_probs
    observations, actions, log_probs = without_padding(record.valid, read)
    return state, replace(record, observations=observations, actions=actions, log_probs=log_probs)


class PoolSource:
    """An EnvPool as a source: segments in compiled programs, whole episodes on the host.

    Args:
        lanes: of a `Pool`.
        first_lane: the number of the first of them.

    Attributes:
        info_names: of the numbers in `Trajectories.infos` of segments.
    """

    def __init__(self, lanes: GymnasiumLanes, first_lane: int = 0) -> None:
        pool: Any = lanes.vector
        self.info_names: tuple[str, ...] = pool.info_names
        self._host = HostSource(lanes, first_lane)
        self.observation_space, self.action_space = lanes.observation_space, lanes.action_space
        self.time_limit, self.num_envs = lanes.time_limit, lanes.num_envs
        self.lanes, self._first_lane, self.pure = lanes, first_lane, None
        self.episodes, self.play, self.close = (
            self._host.episodes,
            self._host.play,
            self._host.close,
        )

    def segments(self, policy: Policy, key: PRNGKeyArray, steps: int) -> Collector:
        """Segments of T steps of the lanes, which are started here. The key is consumed."""
        pool: Any = self.lanes.vector
        if not pool.compiles:
            return self._host.segments(policy, key, steps)
        return PoolSegments(self.lanes, policy, steps, seed_of(key), self._first_lane)


class PoolSegments(Collector):
    """Segments of an EnvPool, its steps inside one compiled program."""

    whole_episodes = False

    def __init__(
        self, lanes: GymnasiumLanes, policy: Policy, steps: int, seed: int, first_lane: int = 0
    ) -> None:
        self._environments, self._steps, self._first_lane = lanes, steps, first_lane
        self._seed, self._segments = seed, 0
        self._carry = initial_carry(policy, lanes.num_envs)
        self._start(seed)

    def _start(self, seed: int) -> None:
        lanes = self._environments
        lanes.start(seed)
        pool: Any = lanes.vector
        observations = owned(lanes.observations, lanes.observation_space, lanes.num_envs)
        self._state, step = start(pool, observations, self._carry)

        actions = action_space_of(lanes.action_space)

        def collect(shape: PolicyShape, arrays: tuple, state: Any, key: PRNGKeyArray) -> Any:
            return collect_segment(
                step,
                actions,
                shape.policy(arrays),
                state,
                key,
                steps=self._steps,
                time_limit=lanes.time_limit,
                first_lane=self._first_lane,
            )

        # compiled for this pool, whose address it contains, and freed with it
        self._collect = compiled(collect, static_argnums=0)

    def collect(
        self, policy: Policy, key: PRNGKeyArray, episodes: int | None = None
    ) -> Trajectories:
        require_no_episodes(episodes)
        shape = PolicyShape.of(policy)
        self._state, record = jax.block_until_ready(
            self._collect(shape, shape.arrays(policy), self._state, key)
        )
        self._segments += 1
        return record

    def shapes(self, policy: Policy) -> Trajectories:
        shape = PolicyShape.of(policy)
        arguments = shape.arrays(policy), self._state, jax.random.key(0)
        return jax.eval_shape(partial(self._collect, shape), *arguments)[1]

    def snapshot(self) -> Any:
        return {"segments": np.array(self._segments, np.int64)}

    def restore(self, snapshot: Any) -> bool:
        self._segments = int(snapshot["segments"])
        self._start(episode_seed(self._seed, 1, self._segments))
        return False

    def close(self) -> None:
        self._environments.close()

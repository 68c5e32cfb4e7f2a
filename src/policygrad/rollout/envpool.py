"""The rollout of an EnvPool inside one scan, which steps the pool by calls into its C++.

Python sees a segment at a time: per step it would take a fifth of the time that the simulator does.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from policygrad.core.trajectories import Trajectories
from policygrad.environments.envpool import Pool
from policygrad.rollout.segments import StepRow, roll
from policygrad.spaces import ActionSpace


class PoolState(NamedTuple):
    """B lanes of a pool between two segments.

    Attributes:
        handle: of the pool.
        observations: pytree of `[B, ...]`, what the policy sees next.
        times: `[B]`, the steps that the running episodes already had.
        ended: `[B]`, the lane's next step resets it, and is no transition.
    """

    handle: Array
    observations: PyTree
    times: Int[Array, " B"]
    ended: Bool[Array, " B"]


def start(pool: Pool, observations: PyTree) -> tuple[PoolState, Callable]:
    """A pool that was reset, as a state; and what steps it (see `Pool.program`)."""
    handle, step = pool.program()
    lanes = pool.num_envs
    observations = jax.tree.map(jnp.asarray, observations)
    state = PoolState(handle, observations, jnp.zeros(lanes, jnp.int32), jnp.zeros(lanes, bool))
    return state, step


def collect_segment(
    step_pool: Callable,
    action_space: ActionSpace,
    policy: Callable,
    state: PoolState,
    key: PRNGKeyArray,
    *,
    steps: int,
    time_limit: int | None,
) -> tuple[PoolState, Trajectories]:
    """T steps of B lanes, carried over from the segment before: what `host.collect_segment` gives.

    Args:
        step_pool: (handle, actions) -> the handle, and what the pool's `step` returns.
        action_space: of one lane.
        policy: observation -> distribution.
        state: B lanes.
        key: consumed.
        steps: T; static.
        time_limit: of the lanes' episodes; static.

    Returns:
        The lanes after the segment, and the record.
    """

    def step(_: Array, state: PoolState, actions: PyTree) -> tuple[PoolState, StepRow]:
        handle, (successors, rewards, terminated, truncated) = step_pool(
            state.handle, action_space.to_environment(actions, jnp)
        )
        valid = ~state.ended
        terminated, truncated = terminated & valid, truncated & valid
        times: Any = jnp.where(valid, state.times + 1, 0)
        rewards: Any = jnp.where(valid, rewards, 0.0)
        following = PoolState(handle, successors, times, terminated | truncated)
        return following, StepRow(successors, rewards, terminated, truncated, valid)

    return roll(policy, state, key, step, steps=steps, time_limit=time_limit)

"""The compiled rollout of segments: a JAX-native environment and the policy inside one scan."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from policygrad.core.trajectories import Trajectories
from policygrad.devices.sharing import own, parts
from policygrad.environments.protocol import CompiledEnvironment
from policygrad.rollout.acting import act, lane_keys, max_cuts


class LaneState(NamedTuple):
    """B environments between two segments.

    Attributes:
        environments: pytree of `[B, ...]`, the environments' own states.
        observations: pytree of `[B, ...]`, what the policy sees next.
        times: `[B]`, the steps that the running episodes already had.
    """

    environments: PyTree
    observations: PyTree
    times: Int[Array, " B"]


def start_lanes(environment: CompiledEnvironment, key: PRNGKeyArray, num_envs: int) -> LaneState:
    """Fresh episodes in B lanes. The key is consumed."""
    start = jax.vmap(environment.reset)(jax.random.split(key, num_envs))
    # a weakly typed number comes back strong from a step: a second compilation of everything
    states, observations = jax.tree.map(
        lambda x: jax.lax.convert_element_type(x, x.dtype) if x.weak_type else x, start
    )
    return LaneState(states, observations, jnp.zeros(num_envs, jnp.int32))


def _where(which: Bool[Array, " B"], new: PyTree, old: PyTree) -> PyTree:
    def choose(a: Array, b: Array) -> Array:
        a = jnp.asarray(a, b.dtype)
        return jnp.where(which.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, new, old)


def advance(
    environment: CompiledEnvironment, lanes: LaneState, key: PRNGKeyArray, actions: PyTree
) -> tuple[LaneState, tuple[PyTree, Array, Array, Array]]:
    """Lanes after one step, those that ended reset; and successors, rewards, both flags."""
    count = len(lanes.times)
    step_keys, reset_keys = own(jax.random.split(key, (2, count * parts())), axis=1)
    states, successors, rewards, terminated, truncated = jax.vmap(environment.step)(
        step_keys, lanes.environments, actions
    )
    ended = terminated | truncated
    fresh_states, fresh_observations = jax.vmap(environment.reset)(reset_keys)
    following = LaneState(
        _where(ended, fresh_states, states),
        _where(ended, fresh_observations, successors),
        jnp.where(ended, 0, lanes.times + 1),
    )
    return following, (successors, rewards.astype(jnp.float32), terminated, truncated)


def collect_segment(
    environment: CompiledEnvironment,
    policy: Callable,
    lanes: LaneState,
    key: PRNGKeyArray,
    *,
    steps: int,
) -> tuple[LaneState, Trajectories]:
    """T steps of B lanes, carried over from the segment before. Pure; the key is consumed.

    Args:
        environment: pure, unbatched.
        policy: observation -> distribution.
        lanes: B lanes.
        key: each step and lane takes its own key from it.
        steps: T; static.

    Returns:
        The lanes after the segment, and the record.
    """
    act_key, environment_key = jax.random.split(key)

    def step(t: Array, lanes: LaneState, actions: PyTree) -> tuple[LaneState, StepRow]:
        step_key = jax.random.fold_in(environment_key, t)
        following, row = advance(environment, lanes, step_key, actions)
        return following, StepRow(*row, jnp.ones_like(row[-1]))

    return roll(policy, lanes, act_key, step, steps=steps, time_limit=environment.time_limit)


class StepRow(NamedTuple):
    """What one step of B lanes gave.

    Attributes:
        successors: pytree of `[B, ...]`, taken before any reset.
        rewards, terminated, truncated, valid: `[B]`.
    """

    successors: PyTree
    rewards: Array
    terminated: Array
    truncated: Array
    valid: Array


def roll(
    policy: Callable,
    lanes: Any,
    key: PRNGKeyArray,
    step_lanes: Callable[[Array, Any, PyTree], tuple[Any, StepRow]],
    *,
    steps: int,
    time_limit: int | None,
) -> tuple[Any, Trajectories]:
    """T steps of B lanes in one scan, whatever it is that steps them.

    Args:
        policy: observation -> distribution.
        lanes: a pytree with `observations` and `times` of B lanes.
        key: of the actions; consumed.
        step_lanes: (row, lanes, actions) -> the lanes after the step, and what it gave.
        steps: T; static.
        time_limit: of the lanes' episodes; static.

    Returns:
        The lanes after the segment, and the record.
    """
    num_envs, slots = len(lanes.times), max_cuts(steps, time_limit)
    cut_buffers = jax.tree.map(
        lambda x: jnp.zeros((slots, *x.shape), x.dtype), (lanes.observations, lanes.times)
    )

    def step(carry, t):
        lanes, buffers, cuts = carry
        actions, log_probs = act(policy, lane_keys(key, t, num_envs), lanes.observations)
        following, (successors, *flags) = step_lanes(t, lanes, actions)
        _, terminated, truncated, _ = flags
        cut = (truncated & ~terminated) | (t == steps - 1)
        slot = cut & (jnp.arange(slots)[:, None] == cuts)
        buffers = _put(buffers, (successors, lanes.times + 1), slot)
        row = (lanes.observations, actions, *flags, lanes.times, log_probs)
        return (following, buffers, cuts + cut), row

    start = (lanes, cut_buffers, jnp.zeros(num_envs, jnp.int32))
    (lanes, cuts, _), rows = jax.lax.scan(step, start, jnp.arange(steps))
    observations, actions, rewards, terminated, truncated, valid, times, log_probs = rows
    return lanes, Trajectories(
        observations, actions, rewards, terminated, truncated, valid, times, log_probs, *cuts
    )


def _put(buffers: PyTree, rows: PyTree, slot: Bool[Array, "K B"]) -> PyTree:
    """Write `[B, ...]` rows into `[K, B, ...]` buffers where the slot says so."""

    def put(buffer: Array, row: Array) -> Array:
        where = slot.reshape(*slot.shape, *[1] * (row.ndim - 1))
        return jnp.where(where, jnp.asarray(row, buffer.dtype), buffer)

    return jax.tree.map(put, buffers, rows)

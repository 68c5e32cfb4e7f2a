"""The compiled rollout of segments: a JAX-native environment and the policy inside one scan."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from policygrad.core.errors import UserError
from policygrad.core.modules import in_types_of
from policygrad.core.trajectories import Trajectories
from policygrad.environments.lanes import LaneMethods
from policygrad.environments.protocol import CompiledEnvironment, looks_pure
from policygrad.environments.traced_infos import step_with_numbers
from policygrad.environments.traced_steps import reset_of
from policygrad.policies.meeting import Policy, act, begin_anew, initial_carry
from policygrad.rollout.acting import Lane, cut_slots, keys_by_lane, lane_keys


class LaneState(NamedTuple):
    """B environments between two segments.

    Attributes:
        environments: pytree of `[B, ...]`, the environments' own states.
        observations: pytree of `[B, ...]`, what the policy sees next.
        times: `[B]`, the steps that the running episodes already had.
        carry: pytree of `[B, ...]`, of a policy with memory; it is reset if a lane's time is 0. The
            empty tuple for a policy without memory.
    """

    environments: PyTree
    observations: PyTree
    times: Int[Array, " B"]
    carry: PyTree = ()


class StepRow(NamedTuple):
    """The result of one step of B lanes.

    Attributes:
        successors: pytree of `[B, ...]`, taken before any reset.
        rewards, terminated, truncated, valid: `[B]`.
        infos: `[B, N]`, the numbers in the infos; None if there are none.
    """

    successors: PyTree
    rewards: Array
    terminated: Array
    truncated: Array
    valid: Array
    infos: Array | None = None


def start_lanes(
    environment: CompiledEnvironment,
    policy: Policy,
    key: PRNGKeyArray,
    num_envs: int,
    first_lane: Lane = 0,
    group_size: int = 1,
) -> LaneState:
    """Fresh episodes in B lanes, with the policy's initial carry. The key is consumed.

    Args:
        environment, policy, key, first_lane: as in `collect_segment`.
        num_envs: B; static.
        group_size: k, which divides B; each reset is taken by k lanes in a row. Static.

    Raises:
        UserError: the environment is not JAX-native.
    """
    stepped = (gymnasium.Env, gymnasium.vector.VectorEnv)
    on_host = isinstance(environment, stepped) and not looks_pure(environment)
    if on_host or isinstance(environment, (str, LaneMethods)):
        what = f"{type(environment).__name__} steps on the host"
        if isinstance(environment, str):
            what = f"{environment!r} is the id of an environment"
        raise UserError(
            f"{what}, and functions that roll out in one compiled program take a JAX-native "
            "environment, such as policygrad.environments.make('gymnax/CartPole-v1', 1) returns. "
            "For batches of any environment use policygrad.rollout.open_source(env, num_envs), and "
            "of it episodes(...) or segments(...)"
        )
    resets = keys_by_lane(key, num_envs // group_size, first_lane)
    start = jax.vmap(partial(reset_of, environment))(resets)
    if group_size > 1:
        start = jax.tree.map(lambda x: jnp.repeat(x, group_size, axis=0), start)
    # a step returns strongly typed numbers; weakly typed ones here would compile everything twice
    states, observations, carry = jax.tree.map(
        lambda x: jax.lax.convert_element_type(x, x.dtype) if x.weak_type else x,
        (*start, initial_carry(policy, num_envs)),
    )
    return LaneState(states, observations, jnp.zeros(num_envs, jnp.int32), carry)


def choose(which: Bool[Array, " B"], new: PyTree, old: PyTree) -> PyTree:
    """Pytrees of `[B, ...]`: the new rows where the flag is True, else the old ones."""

    def one(a: Array, b: Array) -> Array:
        a = jnp.asarray(a, b.dtype)
        return jnp.where(which.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(one, new, old)


def act_in_lanes(policy: Policy, lanes: Any, keys: PRNGKeyArray) -> tuple[PyTree, Array, PyTree]:
    """Actions, their log-probabilities `[B]` and the policy's next carry.

    Args:
        policy: with or without memory.
        lanes: a pytree with `observations`, `times` and `carry` of B lanes.
        keys: `[B]`; consumed.
    """
    carry = begin_anew(policy, lanes.carry, lanes.times == 0)
    return act(policy, carry, keys, lanes.observations)


def advance(
    environment: CompiledEnvironment,
    lanes: LaneState,
    key: PRNGKeyArray,
    actions: PyTree,
    first_lane: Lane = 0,
) -> tuple[LaneState, StepRow]:
    """Lanes after one step, reset if they ended; and the result of the step.

    The carry is left as it is. The key is consumed; each lane takes its own from it.
    """
    step_key, reset_key = jax.random.split(key)
    step_keys, reset_keys = (
        keys_by_lane(k, len(lanes.times), first_lane) for k in (step_key, reset_key)
    )
    step = jax.vmap(partial(step_with_numbers, environment))
    states, successors, rewards, terminated, truncated, infos = step(
        step_keys, lanes.environments, actions
    )
    successors = in_types_of(lanes.observations, successors)  # a lane keeps its types
    if environment.time_limit is not None:  # whether the environment counts its steps or not
        truncated |= ~terminated & (lanes.times + 1 >= environment.time_limit)
    ended = terminated | truncated
    fresh_states, fresh_observations = jax.vmap(partial(reset_of, environment))(reset_keys)
    following = LaneState(
        choose(ended, fresh_states, states),
        choose(ended, fresh_observations, successors),
        jnp.where(ended, 0, lanes.times + 1),
        lanes.carry,
    )
    valid = jnp.ones_like(ended)
    return following, StepRow(successors, rewards, terminated, truncated, valid, infos)


def collect_segment(
    environment: CompiledEnvironment,
    policy: Policy,
    lanes: LaneState,
    key: PRNGKeyArray,
    *,
    steps: int,
    first_lane: Lane = 0,
) -> tuple[LaneState, Trajectories]:
    """T steps of B lanes, which go on from the segment before. Pure; the key is consumed.

    Args:
        environment: pure, unbatched.
        policy: with or without memory.
        lanes: B lanes.
        key: each step and lane takes its own key from it.
        steps: T; static.
        first_lane: the number of the first of the lanes, if others collect the lanes before it.

    Returns:
        The lanes after the segment, and the record.
    """
    act_key, environment_key = jax.random.split(key)

    def step(t: Array, lanes: LaneState, actions: PyTree) -> tuple[LaneState, StepRow]:
        step_key = jax.random.fold_in(environment_key, t)
        return advance(environment, lanes, step_key, actions, first_lane)

    return roll(
        policy,
        lanes,
        act_key,
        step,
        steps=steps,
        time_limit=environment.time_limit,
        first_lane=first_lane,
    )


def roll(
    policy: Policy,
    lanes: Any,
    key: PRNGKeyArray,
    step_lanes: Callable[[Array, Any, PyTree], tuple[Any, StepRow]],
    *,
    steps: int,
    time_limit: int | None,
    first_lane: Lane = 0,
) -> tuple[Any, Trajectories]:
    """T steps of B lanes in one scan, with any function that steps them.

    Args:
        policy: with or without memory.
        lanes: a NamedTuple with `observations`, `times` and `carry` of B lanes.
        key: of the actions; consumed.
        step_lanes: (row, lanes, actions) -> the lanes after the step, and its result.
        steps: T; static.
        time_limit: of the lanes' episodes; static.
        first_lane: the number of the first of the lanes.

    Returns:
        The lanes after the segment, and the record.
    """
    num_envs, slots = len(lanes.times), cut_slots(steps, time_limit)
    cut_buffers = jax.tree.map(
        lambda x: jnp.zeros((slots, *x.shape), x.dtype), (lanes.observations, lanes.times)
    )

    def step(carry, t):
        lanes, buffers, cuts = carry
        keys = lane_keys(key, t, num_envs, first_lane)
        actions, log_probs, memory = act_in_lanes(policy, lanes, keys)
        following, row = step_lanes(t, lanes, actions)
        following = following._replace(carry=memory)
        cut = (row.truncated & ~row.terminated) | (t == steps - 1)
        slot: Any = jnp.where(cut, cuts, slots)
        buffers = _put(buffers, (row.successors, lanes.times + 1), slot)
        written = (lanes.observations, actions, *row[1:], lanes.times, log_probs)
        return (following, buffers, cuts + cut), written

    begins_with = jax.tree.map(lambda x: x[None], lanes.carry)
    start = (lanes, cut_buffers, jnp.zeros(num_envs, jnp.int32))
    (lanes, cuts, _), rows = jax.lax.scan(step, start, jnp.arange(steps))
    observations, actions, rewards, terminated, truncated, valid, infos, times, log_probs = rows
    return lanes, Trajectories(
        observations,
        actions,
        rewards,
        terminated,
        truncated,
        valid,
        times,
        log_probs,
        *cuts,
        carry=begins_with,
        infos=infos,
    )


def _put(buffers: PyTree, rows: PyTree, slots: Int[Array, " B"]) -> PyTree:
    """Write each of `[B, ...]` rows into its slot of `[K, B, ...]` buffers; slot K is none."""
    lanes = jnp.arange(len(slots))
    return jax.tree.map(lambda x, row: x.at[slots, lanes].set(row, mode="drop"), buffers, rows)

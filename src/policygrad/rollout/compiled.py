"""The compiled rollout: a JAX-native environment and the policy inside one scan."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from policygrad.environments.functional import CompiledEnvironment
from policygrad.processors import own, parts
from policygrad.rollout.acting import act, act_greedily, lane_keys, max_cuts
from policygrad.types import Trajectories


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


class EpisodeBatch(NamedTuple):
    """N whole episodes.

    Attributes:
        trajectories: one column an episode, padded.
        unfinished: `[N]`, episodes that were still running at the cap on steps.
    """

    trajectories: Trajectories
    unfinished: Bool[Array, " N"]


class EpisodeRow(NamedTuple):
    """A step of N episodes, and T of them once stacked; not `valid` where an episode has ended.

    Attributes:
        observations, actions: pytrees of `[N, ...]`.
        rewards, terminated, truncated, valid, log_probs: `[N]`.
    """

    observations: PyTree
    actions: PyTree
    rewards: Array
    terminated: Array
    truncated: Array
    valid: Array
    log_probs: Array


class Running(NamedTuple):
    """N episodes on their way.

    Attributes:
        t: scalar, the steps made.
        lanes: where the episodes are; one that ended has begun anew and is not recorded.
        alive: `[N]`, not yet ended.
        rows: `[T, N, ...]`, the record so far.
        last_observations: pytree of `[N, ...]`, the successor of each episode's newest step.
        lengths: `[N]`, steps of each episode.
    """

    t: Int[Array, ""]
    lanes: LaneState
    alive: Bool[Array, " N"]
    rows: EpisodeRow
    last_observations: PyTree
    lengths: Int[Array, " N"]

    @classmethod
    def init(cls, lanes: LaneState, choices: tuple[PyTree, Array], max_steps: int) -> "Running":
        """Before the first step; choices: arrays or shapes of actions and log-probabilities."""
        count = len(lanes.times)
        flags = jnp.zeros(count, bool)
        actions, log_probs = choices
        row = EpisodeRow(
            lanes.observations, actions, jnp.zeros(count), flags, flags, flags, log_probs
        )
        rows = jax.tree.map(lambda x: jnp.zeros((max_steps, *x.shape), x.dtype), row)
        alive, lengths = jnp.ones(count, bool), jnp.zeros(count, jnp.int32)
        return cls(jnp.int32(0), lanes, alive, rows, lanes.observations, lengths)


def collect_episodes(
    environment: CompiledEnvironment,
    policy: Callable,
    key: PRNGKeyArray,
    *,
    episodes: int,
    max_steps: int,
    greedy: bool = False,
    start: tuple[LaneState, PyTree] | None = None,
) -> EpisodeBatch:
    """N episodes started together, all run to their end. Pure; the key is consumed.

    Args:
        environment, policy: as in `collect_segment`.
        key: each episode and step takes its own key from it.
        episodes: N; static.
        max_steps: rows of the record, and the cap on an episode's length; static.
        greedy: take the distributions' modes in place of samples; static.
        start: where the episodes go on from in place of a reset, and the first actions there.
    """
    reset_key, act_key, environment_key = jax.random.split(key, 3)
    lanes = start_lanes(environment, reset_key, episodes) if start is None else start[0]

    def choose(t: Array, observations: PyTree) -> tuple[PyTree, Array]:
        if greedy:
            return act_greedily(policy, observations), jnp.zeros(episodes)
        actions, log_probs = act(policy, lane_keys(act_key, t, episodes), observations)
        if start is None:
            return actions, log_probs
        return _where(jnp.broadcast_to(t == 0, log_probs.shape), start[1], actions), log_probs

    def unfinished(running: Running) -> Bool[Array, ""]:
        return (running.t < max_steps) & jnp.any(running.alive)

    def step(running: Running) -> Running:
        t, lanes, alive, rows, last_observations, lengths = running
        actions, log_probs = choose(t, lanes.observations)
        following, (successors, rewards, terminated, truncated) = advance(
            environment, lanes, jax.random.fold_in(environment_key, t), actions
        )
        row = EpisodeRow(
            lanes.observations,
            actions,
            jnp.where(alive, rewards, 0.0),
            terminated & alive,
            truncated & alive,
            alive,
            log_probs,
        )
        return Running(
            t + 1,
            following,
            alive & ~(terminated | truncated),
            jax.tree.map(lambda all_rows, x: all_rows.at[t].set(x), rows, row),
            _where(alive, successors, last_observations),
            lengths + alive,
        )

    shapes = jax.eval_shape(choose, jnp.int32(0), lanes.observations)
    beginning = Running.init(lanes, shapes, max_steps)
    _, _, alive, rows, last_observations, lengths = jax.lax.while_loop(unfinished, step, beginning)
    record = Trajectories(
        rows.observations,
        rows.actions,
        rows.rewards,
        rows.terminated,
        rows.truncated,
        rows.valid,
        lanes.times + jnp.arange(max_steps, dtype=jnp.int32)[:, None],
        rows.log_probs * rows.valid,
        jax.tree.map(lambda x: x[None], last_observations),
        (lanes.times + lengths)[None],
        whole_episodes=True,
    )
    return EpisodeBatch(record, alive)


def trim(trajectories: Trajectories, least: int = 16) -> Trajectories:
    """A record of whole episodes without most of its padding.

    Cut to the next power of two (times 1 or 1.5) at or above the longest episode, so that few
    shapes ever compile. Not for use inside compiled code.
    """
    longest = int(jnp.sum(jnp.any(trajectories.valid, axis=1)))
    rows = min(padded_length(longest, least), trajectories.valid.shape[0])
    trimmed = jax.tree.map(lambda x: x[:rows], trajectories)
    return replace(
        trimmed,
        cut_observations=trajectories.cut_observations,
        cut_times=trajectories.cut_times,
    )


def padded_length(length: int, least: int = 16) -> int:
    """The smallest of least, 1.5 least, 2 least, 3 least, 4 least… that holds `length` rows."""
    size = least
    while size < length:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return size

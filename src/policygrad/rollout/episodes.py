"""The compiled rollout of whole episodes, and the heights that their records are padded to."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from policygrad.core.trajectories import Trajectories
from policygrad.environments.protocol import CompiledEnvironment
from policygrad.rollout.acting import act, act_greedily, lane_keys
from policygrad.rollout.segments import (
    LaneState,
    _where,
    advance,
    start_lanes,
)


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

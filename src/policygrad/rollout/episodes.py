"""The compiled rollout of whole episodes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from policygrad.core.trajectories import Trajectories
from policygrad.environments.protocol import CompiledEnvironment
from policygrad.environments.traced_infos import info_names
from policygrad.policies.meeting import Policy
from policygrad.rollout.acting import Lane
from policygrad.rollout.greedy import play_compiled
from policygrad.rollout.play import EpisodeStep, run_episodes
from policygrad.rollout.segments import LaneState, act_in_lanes, choose, start_lanes


class EpisodeBatch(NamedTuple):
    """N whole episodes.

    Attributes:
        trajectories: one column an episode, padded.
        unfinished: `[N]`, episodes that were still running at the cap on steps.
        greedy_unfinished: `[G]`, greedy episodes that were; None if there are none.
    """

    trajectories: Trajectories
    unfinished: Bool[Array, " N"]
    greedy_unfinished: Bool[Array, " G"] | None = None


class EpisodeRow(NamedTuple):
    """A step of N episodes, or T steps once stacked; `valid` is False after an episode's end.

    Attributes:
        observations, actions: pytrees of `[N, ...]`.
        rewards, terminated, truncated, valid, log_probs: `[N]`.
        infos: `[N, M]`, M numbers of the infos; None if there are none.
    """

    observations: PyTree
    actions: PyTree
    rewards: Array
    terminated: Array
    truncated: Array
    valid: Array
    log_probs: Array
    infos: Array | None = None


class Recorded(NamedTuple):
    """The record so far of N episodes.

    Attributes:
        rows: `[T, N, ...]`.
        last_observations: pytree of `[N, ...]`, the successor of each episode's newest step.
        lengths: `[N]`, steps of each episode.
    """

    rows: EpisodeRow
    last_observations: PyTree
    lengths: Int[Array, " N"]

    @classmethod
    def none(cls, policy: Policy, lanes: LaneState, max_steps: int, infos: int = 0) -> "Recorded":
        """The record before the first step, with so many numbers of each info."""
        count = len(lanes.times)
        keys = jax.random.split(jax.random.key(0), count)
        actions, log_probs, _ = jax.eval_shape(lambda: act_in_lanes(policy, lanes, keys))
        flags = jnp.zeros(count, bool)
        row = EpisodeRow(
            lanes.observations,
            actions,
            jnp.zeros(count, jnp.float32),
            flags,
            flags,
            flags,
            log_probs,
            jnp.zeros((count, infos), jnp.float32) if infos else None,
        )
        rows = jax.tree.map(lambda x: jnp.zeros((max_steps, *x.shape), x.dtype), row)
        return cls(rows, lanes.observations, jnp.zeros(count, jnp.int32))

    def with_step(self, step: EpisodeStep) -> "Recorded":
        """The record with one more row."""
        row = EpisodeRow(
            step.lanes.observations,
            step.actions,
            jnp.where(step.alive, step.rewards, 0.0),
            step.terminated & step.alive,
            step.truncated & step.alive,
            step.alive,
            step.log_probs,
            step.infos,
        )
        return Recorded(
            jax.tree.map(lambda rows, x: rows.at[step.t].set(x), self.rows, row),
            choose(step.alive, step.successors, self.last_observations),
            self.lengths + step.alive,
        )


def collect_episodes(
    environment: CompiledEnvironment,
    policy: Policy,
    key: PRNGKeyArray,
    *,
    episodes: int,
    max_steps: int,
    greedy: bool = False,
    start: tuple[LaneState, PyTree] | None = None,
    first_lane: Lane = 0,
    group_size: int = 1,
    with_greedy: bool = False,
) -> EpisodeBatch:
    """N episodes started together, run to their end or to `max_steps`. Pure; the key is consumed.

    Args:
        environment, policy, first_lane: as in `collect_segment`.
        key: each episode and step takes its own key from it.
        episodes: N; static.
        max_steps: rows of the record, and the cap on an episode's length; static.
        greedy: take the distributions' modes in place of samples; static.
        start: states to continue from instead of a reset, and the first actions there.
        group_size: k; every k episodes in a row start from the same reset. Actions, and what is
            random in the steps, are drawn for each episode by itself. Static.
        with_greedy: also play a greedy episode from the start of each group. Static.

    Returns:
        The record, and which episodes were still running at `max_steps`. Look at `unfinished`:
        such a column is no whole episode, and estimates from it are biased.
    """
    reset_key, *keys, greedy_key = jax.random.split(key, 4)
    first_actions = None
    if start is None:
        lanes = start_lanes(environment, policy, reset_key, episodes, first_lane, group_size)
    else:
        lanes, first_actions = start
    recorded, unfinished = run_episodes(
        environment,
        policy,
        lanes,
        (keys[0], keys[1]),
        Recorded.with_step,
        Recorded.none(policy, lanes, max_steps, len(info_names(environment))),
        max_steps=max_steps,
        greedy=greedy,
        first_actions=first_actions,
        first_lane=first_lane,
    )
    beside = greedy_unfinished = None
    if with_greedy:
        starts = jax.tree.map(lambda x: x[::group_size], lanes)
        played, greedy_unfinished = play_compiled(
            environment, policy, starts, greedy_key, max_steps=max_steps, first_lane=first_lane
        )
        beside = jax.tree.map(lambda x: jnp.repeat(x, group_size, axis=1), played)
    rows, last_observations, lengths = recorded
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
        jax.tree.map(lambda x: x[None], lanes.carry),
        whole_episodes=True,
        infos=rows.infos,
        group_size=group_size,
        greedy=beside,
    )
    return EpisodeBatch(record, unfinished, greedy_unfinished)

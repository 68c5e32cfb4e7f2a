"""The one loop over whole episodes inside a compiled program, for collecting and for evaluation.

Its caller says what is kept; `rollout.episodes` keeps records.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from policygrad.environments.protocol import CompiledEnvironment
from policygrad.environments.traced_infos import info_names
from policygrad.maths.long_sums import LongSum
from policygrad.policies.meeting import Policy, act_greedily, begin_anew
from policygrad.rollout.acting import Lane, lane_keys
from policygrad.rollout.segments import LaneState, act_in_lanes, advance, choose
from policygrad.spaces import ActionSpace, action_space_of, observation_space_of, permits_nothing
from policygrad.spaces.traced import Outside, outside

Kept = TypeVar("Kept")


class Played(NamedTuple):
    """The outcome of N episodes.

    Attributes:
        returns: `[N]`, undiscounted, in units of reward; NaN where an observation that the policy
            acted on, or a reward, was not finite, or where a mask permitted no action.
        lengths: `[N]`, steps.
        unfinished: `[N]`, episodes that were stopped at the cap on steps.
        infos: name -> `[N]`, the last number of that name in each episode's infos; NaN where there
            was none.
    """

    returns: np.ndarray
    lengths: np.ndarray
    unfinished: np.ndarray
    infos: Mapping[str, np.ndarray] = MappingProxyType({})


class EpisodeStep(NamedTuple):
    """One step of N episodes, from which a caller may keep something.

    Attributes:
        t: `[]`, the steps that were made before this one.
        lanes: before the step; a lane whose episode has ended is in another episode.
        alive: `[N]`, whether the lane's episode had not ended before this step.
        actions: pytree of `[N, ...]`.
        log_probs: `[N]`, nats; zeros for greedy actions.
        successors: pytree of `[N, ...]`, taken before any reset.
        rewards, terminated, truncated: `[N]`.
        infos: `[N, M]`, M numbers of the infos; None if there are none.
    """

    t: Int[Array, ""]
    lanes: LaneState
    alive: Bool[Array, " N"]
    actions: PyTree
    log_probs: Array
    successors: PyTree
    rewards: Array
    terminated: Array
    truncated: Array
    infos: Array | None = None


class Going(NamedTuple):
    """The loop state of N episodes: steps made, lanes, which are running, and what is kept."""

    t: Int[Array, ""]
    lanes: LaneState
    alive: Bool[Array, " N"]
    kept: Any


def run_episodes(
    environment: CompiledEnvironment,
    policy: Policy,
    lanes: LaneState,
    keys: tuple[PRNGKeyArray, PRNGKeyArray],
    keep: Callable[[Kept, EpisodeStep], Kept],
    kept: Kept,
    *,
    max_steps: int,
    greedy: bool = False,
    first_actions: PyTree = None,
    first_lane: Lane = 0,
) -> tuple[Kept, Bool[Array, " N"]]:
    """N episodes started together, one a lane, all run to their end or to the cap. Pure.

    Args:
        environment: pure, unbatched.
        policy: with or without memory.
        lanes: the states in which the N episodes begin or go on.
        keys: of the actions, and of the environments; consumed.
        keep: (kept, step) -> kept; called once a step, also for episodes that have ended.
        kept: before the first step, a pytree of arrays.
        max_steps: cap on the steps that are made; static.
        greedy: take the distributions' modes in place of samples; static.
        first_actions: pytree of `[N, ...]`, taken at the first step in place of the policy's, with
            zeros in place of their log-probabilities.
        first_lane: the number of the first of the lanes.

    Returns:
        What was kept, and `[N]`, the episodes that were still running at the cap.
    """
    act_key, environment_key = keys
    count = len(lanes.times)

    def running(going: Going) -> Bool[Array, ""]:
        return (going.t < max_steps) & jnp.any(going.alive)

    def step(going: Going) -> Going:
        t, lanes, alive, kept = going
        actions, log_probs, carry = _act(
            policy, lanes, lane_keys(act_key, t, count, first_lane), greedy=greedy
        )
        if first_actions is not None:
            actions = choose(jnp.broadcast_to(t == 0, (count,)), first_actions, actions)
            log_probs = jnp.where(t == 0, 0.0, log_probs)
        key = jax.random.fold_in(environment_key, t)
        following, row = advance(environment, lanes, key, actions, first_lane)
        kept = keep(kept, EpisodeStep(t, lanes, alive, actions, log_probs, *row[:4], row.infos))
        alive = alive & ~(row.terminated | row.truncated)
        return Going(t + 1, following._replace(carry=carry), alive, kept)

    start = Going(jnp.int32(0), lanes, jnp.ones(count, bool), kept)
    end = jax.lax.while_loop(running, step, start)
    return end.kept, end.alive


def _act(
    policy: Policy, lanes: LaneState, keys: PRNGKeyArray, *, greedy: bool
) -> tuple[PyTree, Array, PyTree]:
    """Actions `[N, ...]`, log-probabilities (zeros for greedy ones), and the carry."""
    if not greedy:
        return act_in_lanes(policy, lanes, keys)
    carry = begin_anew(policy, lanes.carry, lanes.times == 0)
    actions, carry = act_greedily(policy, carry, lanes.observations)
    return actions, jnp.zeros(len(lanes.times), jnp.float32), carry


def sound_lanes(observations: PyTree, actions: ActionSpace) -> Any:
    """`[N]`, whether all real numbers in each lane's observation are finite, and its mask, if there
    is one, permits an action of the space."""
    leaves = [x for x in jax.tree.leaves(observations) if jnp.issubdtype(x.dtype, jnp.floating)]
    flags = [jnp.isfinite(x).reshape(len(x), -1).all(axis=1) for x in leaves]
    nothing = permits_nothing(jax.tree.map(lambda x: x[None], observations), actions)
    if nothing is not None:
        flags.append(~nothing[0])
    return functools.reduce(jnp.logical_and, flags, jnp.bool_(True))


class Stray(NamedTuple):
    """The first number in each of N episodes that an array of the observations may not hold.

    Attributes:
        times: `[N]`, the step of its episode; -1 where there is none.
        values: `[N]`, as they are recorded.
    """

    times: Int[Array, " N"]
    values: Array

    def after(self, lanes: LaneState, alive: Bool[Array, " N"], found: Outside) -> "Stray":
        """With those that are found in the observations of lanes."""
        new = found.any & alive & (self.times < 0)
        return Stray(
            jnp.where(new, lanes.times, self.times), jnp.where(new, found.first, self.values)
        )


class Outcome(NamedTuple):
    """The outcome of N episodes inside a program.

    Attributes:
        returns, lengths, unfinished: `[N]`, as in `Played`.
        infos: `[N, M]`, the last of each number; NaN where there was none. None without numbers.
        strays: for each array of the observations; None for an array that needs no check.
    """

    returns: Array
    lengths: Array
    unfinished: Array
    infos: Array | None
    strays: list[Stray | None]


def play_episodes(
    environment: CompiledEnvironment,
    policy: Policy,
    lanes: LaneState,
    keys: tuple[PRNGKeyArray, PRNGKeyArray],
    *,
    max_steps: int,
    greedy: bool,
) -> Outcome:
    """The outcome of N episodes. No step is recorded.

    Args and purity as for `run_episodes`.
    """

    actions, names = action_space_of(environment.action_space), info_names(environment)
    count, space = len(lanes.times), observation_space_of(environment.observation_space)

    def keep(kept: Any, step: EpisodeStep) -> Any:
        totals, lengths, last, strays = kept
        sound = sound_lanes(step.lanes.observations, actions)
        rewards = jnp.where(sound, step.rewards, jnp.nan)
        if step.infos is not None:
            last = jnp.where(step.alive[:, None] & jnp.isfinite(step.infos), step.infos, last)
        found = outside(space, step.lanes.observations, batch=1)
        strays = [
            None if stray is None or part is None else stray.after(step.lanes, step.alive, part)
            for stray, part in zip(strays, found, strict=True)
        ]
        totals = totals.plus(jnp.where(step.alive, rewards, 0.0))
        return totals, lengths + step.alive, last, strays

    def none_of(part: Outside | None) -> Stray | None:
        if part is None:
            return None
        return Stray(jnp.full(count, -1, jnp.int32), jnp.zeros(count, part.values.dtype))

    nothing = (
        LongSum.of(jnp.zeros(count, jnp.float32)),
        jnp.zeros(count, jnp.int32),
        jnp.full((count, len(names)), jnp.nan, jnp.float32) if names else None,
        [none_of(part) for part in outside(space, lanes.observations, batch=1)],
    )
    (totals, lengths, last, strays), unfinished = run_episodes(
        environment, policy, lanes, keys, keep, nothing, max_steps=max_steps, greedy=greedy
    )
    return Outcome(totals.total, lengths, unfinished, last, strays)

"""The greedy episodes of a record: from each of its starts one of the most probable actions.

Only their rewards are kept. ReMax subtracts their returns, and nothing else reads them. Where the
policy could not act on an observation, the reward that follows is NaN: training then refuses the
batch.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PRNGKeyArray

from policygrad.core.errors import PolicygradError
from policygrad.core.trajectories import Greedy, Trajectories
from policygrad.environments.lanes import Lanes
from policygrad.environments.protocol import CompiledEnvironment
from policygrad.policies.meeting import Policy
from policygrad.rollout import host
from policygrad.rollout.acting import Lane
from policygrad.rollout.actor import Draw
from policygrad.rollout.heights import of_shape, padded_length
from policygrad.rollout.play import EpisodeStep, run_episodes, sound_lanes
from policygrad.rollout.segments import LaneState
from policygrad.spaces import action_space_of, observation_space_of
from policygrad.spaces.traced import outside


def play_compiled(
    environment: CompiledEnvironment,
    policy: Policy,
    starts: LaneState,
    key: PRNGKeyArray,
    *,
    max_steps: int,
    first_lane: Lane = 0,
) -> tuple[Greedy, Bool[Array, " G"]]:
    """One greedy episode from each of G starts, and which did not end. Pure.

    Args:
        environment, policy, first_lane: as in `collect_episodes`.
        starts: G lanes at their resets.
        key: of what is random in the steps; consumed.
        max_steps: rows, and the cap on an episode's length; static.
    """
    actions = action_space_of(environment.action_space)
    space = observation_space_of(environment.observation_space)

    def keep(kept: Greedy, step: EpisodeStep) -> Greedy:
        seen = step.lanes.observations
        sound = sound_lanes(seen, actions)
        for stray in outside(space, seen, batch=1):
            sound = sound if stray is None else sound & ~stray.any
        rewards = jnp.where(sound, step.rewards, jnp.nan)
        return Greedy(
            kept.rewards.at[step.t].set(jnp.where(step.alive, rewards, 0.0)),
            kept.valid.at[step.t].set(step.alive),
        )

    shape = max_steps, len(starts.times)
    nothing = Greedy(jnp.zeros(shape, jnp.float32), jnp.zeros(shape, bool))
    return run_episodes(
        environment, policy, starts, (key, key), keep, nothing,
        max_steps=max_steps, greedy=True, first_lane=first_lane,
    )  # fmt: skip


def play_on_host(
    lanes: Lanes, choose: Draw, seed: int, *, groups: int, max_steps: int, first_lane: int = 0
) -> tuple[Greedy, Bool[np.ndarray, " G"]]:
    """One greedy episode from the start of each of G groups, and which did not end.

    Args:
        lanes, max_steps, first_lane: as for `host.run_episodes`, with the seed of the groups.
        choose: takes modes.
        seed: of the record.
        groups: G.
    """
    space = action_space_of(lanes.action_space)
    column, time, rewards, unfinished = [], [], [], np.zeros(groups, bool)
    for row, episode, times, _, capped in host.run_episodes(
        lanes, choose, seed, episodes=groups, max_steps=max_steps, first_lane=first_lane,
        seeded=True,
    ):  # fmt: skip
        used = episode >= 0
        sound = np.asarray(sound_lanes(row.observations, space))
        column.append(episode[used])
        time.append(times[used])
        rewards.append(np.where(sound, row.step.rewards, np.float32(np.nan))[used])
        unfinished[episode[capped]] = True
    where = np.concatenate(time), np.concatenate(column)
    shape = padded_length(int(where[0].max()) + 1), groups
    found: Any = np.zeros(shape, np.float32)
    valid: Any = np.zeros(shape, bool)
    found[where], valid[where] = np.concatenate(rewards), True
    return Greedy(found, valid), unfinished


def with_greedy(record: Trajectories, greedy: Greedy) -> Trajectories:
    """The record with the greedy episodes `[T', G]` of its groups, both padded to the higher. In
    NumPy, not for use inside compiled code."""
    rows = max(len(record.rewards), len(greedy.rewards))

    def one(x: Any) -> np.ndarray:
        filled = np.pad(x, [(0, rows - len(x)), (0, 0)])
        return np.repeat(filled, record.group_size, axis=1)

    return replace(of_shape(record, rows), greedy=jax.tree.map(one, greedy))


def require_finished(unfinished: Any, max_steps: int) -> None:
    """Raise PolicygradError if some greedy episodes did not end."""
    if np.any(unfinished):
        raise PolicygradError(
            f"{int(np.sum(unfinished))} of {np.size(unfinished)} greedy episodes did not end in "
            f"{max_steps} steps: the most probable actions may lead in circles; wrap the "
            "environment in a TimeLimit, or choose an estimator without greedy episodes, such as "
            "rloo"
        )

"""Lanes on the host as a source: Gymnasium's, or a NumPy simulator of your own."""

from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from policygrad.core.trajectories import Trajectories
from policygrad.environments.lanes import Lanes, Restorable
from policygrad.environments.replay import episode_seed
from policygrad.policies.meeting import Policy, initial_carry
from policygrad.rollout import host
from policygrad.rollout.actor import Actor
from policygrad.rollout.collectors import Collector, require_finished, require_no_episodes, seed_of
from policygrad.rollout.play import Played, finite_lanes


class HostSource:
    """Lanes as a source of batches. Use one collector at a time: all step the same lanes.

    Args:
        lanes: what steps the environments.
        first_lane: the number of the first of them, if others step the lanes before it.
    """

    def __init__(self, lanes: Lanes, first_lane: int = 0) -> None:
        self.observation_space, self.action_space = lanes.observation_space, lanes.action_space
        self.time_limit, self.num_envs = lanes.time_limit, lanes.num_envs
        self.lanes, self._first_lane, self.pure = lanes, first_lane, None

    def segments(self, policy: Policy, key: PRNGKeyArray, steps: int) -> "HostSegments":
        """Segments of T steps of the lanes, which are started here. The key is consumed."""
        return HostSegments(self.lanes, policy, steps, seed_of(key), self._first_lane)

    def episodes(
        self,
        policy: Policy,
        key: PRNGKeyArray,
        episodes: int,
        max_steps: int,
        *,
        keep_unfinished: bool = False,
    ) -> "HostEpisodes":
        """Whole episodes, begun afresh for every batch."""
        return HostEpisodes(
            self.lanes,
            policy,
            episodes,
            max_steps,
            keep_unfinished=keep_unfinished,
            first_lane=self._first_lane,
        )

    def play(
        self,
        policy: Policy,
        key: PRNGKeyArray,
        *,
        episodes: int,
        max_steps: int,
        greedy: bool,
    ) -> Played:
        """The outcome of N episodes. The key is consumed."""
        act_key, environment_key = jax.random.split(key)
        actor = Actor(policy, self.num_envs, self._first_lane)
        draw = actor.chooser(policy) if greedy else actor.sampler(policy, act_key)
        played = Played(np.zeros(episodes), np.zeros(episodes, np.int64), np.zeros(episodes, bool))
        for row, episode, _, _, capped in host.run_episodes(
            self.lanes, draw, seed_of(environment_key), episodes=episodes, max_steps=max_steps
        ):
            current = episode >= 0
            finite = np.broadcast_to(finite_lanes(row.observations), current.shape)
            rewards = np.where(finite, row.step.rewards, np.nan)
            played.returns[episode[current]] += rewards[current]
            played.lengths[episode[current]] += 1
            played.unfinished[episode[capped]] = True
        return played

    def close(self) -> None:
        """Release the environments."""
        self.lanes.close()


class HostSegments(Collector):
    """Segments of lanes on the host."""

    whole_episodes = False

    def __init__(
        self, lanes: Lanes, policy: Policy, steps: int, seed: int, first_lane: int = 0
    ) -> None:
        self._environments, self._steps, self._seed, self._made = lanes, steps, seed, 0
        self._actor = Actor(policy, lanes.num_envs, first_lane)
        lanes.start(seed)

    def collect(
        self, policy: Policy, key: PRNGKeyArray, episodes: int | None = None
    ) -> Trajectories:
        require_no_episodes(episodes)
        draw, carry = self._actor.sampler(policy, key), self._actor.carry
        self._made += self._steps
        return host.collect_segment(self._environments, draw, self._steps, carry)

    def snapshot(self) -> Any:
        lanes = self._environments
        return {
            "steps": np.array(self._made, np.int64),
            "lanes": lanes.snapshot() if isinstance(lanes, Restorable) else (),
            "carry": self._actor.carry,
        }

    def restore(self, snapshot: Any) -> bool:
        lanes, self._made = self._environments, int(snapshot["steps"])
        self._actor.carry = snapshot["carry"]
        if isinstance(lanes, Restorable) and lanes.restore(snapshot["lanes"]):
            return True
        lanes.start(episode_seed(self._seed, 1, self._made))
        return False

    def close(self) -> None:
        self._environments.close()


class HostEpisodes(Collector):
    """Whole episodes of lanes on the host, begun afresh for every batch.

    A lane that has ended its episode takes the next one. With more episodes than lanes, the lane of
    an episode therefore depends on the other episodes.
    """

    whole_episodes = True

    def __init__(
        self,
        lanes: Lanes,
        policy: Policy,
        episodes: int,
        max_steps: int,
        *,
        keep_unfinished: bool = False,
        first_lane: int = 0,
    ) -> None:
        self._environments, self._episodes, self._max_steps = lanes, episodes, max_steps
        self._actor = Actor(policy, lanes.num_envs, first_lane)
        self._keep_unfinished = keep_unfinished

    def collect(
        self, policy: Policy, key: PRNGKeyArray, episodes: int | None = None
    ) -> Trajectories:
        act_key, environment_key = jax.random.split(key)
        count = episodes or self._episodes
        record, unfinished = host.collect_episodes(
            self._environments,
            self._actor.sampler(policy, act_key),
            seed_of(environment_key),
            episodes=count,
            max_steps=self._max_steps,
            carry=initial_carry(policy, count),
        )
        if not self._keep_unfinished:
            require_finished(unfinished, self._max_steps)
        return record

    def close(self) -> None:
        self._environments.close()

"""Lanes on the host as a source: Gymnasium's, or a NumPy simulator of your own."""

from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from policygrad.core.errors import NonFiniteError, UserError
from policygrad.core.trajectories import Trajectories
from policygrad.environments.envpool import Pool
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.infos import Names
from policygrad.environments.lanes import Lanes, Restorable, Seeded
from policygrad.environments.replay import episode_seed
from policygrad.policies.meeting import Policy, initial_carry
from policygrad.rollout import greedy as greedy_
from policygrad.rollout import host
from policygrad.rollout.acting import cut_slots
from policygrad.rollout.actor import Actor
from policygrad.rollout.collectors import (
    Collector,
    require_finished,
    require_no_episodes,
    require_whole_groups,
    seed_of,
)
from policygrad.rollout.info_tally import InfoTally
from policygrad.rollout.play import Played
from policygrad.spaces import (
    ActionSpace,
    action_space_of,
    observation_space_of,
    permits_nothing,
)


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
        group_size: int = 1,
        with_greedy: bool = False,
    ) -> "HostEpisodes":
        """Whole episodes, begun afresh for every batch."""
        if group_size > 1 or with_greedy:
            _require_seeds(self.lanes)
        return HostEpisodes(
            self.lanes,
            policy,
            episodes,
            max_steps,
            keep_unfinished=keep_unfinished,
            first_lane=self._first_lane,
            group_size=group_size,
            with_greedy=with_greedy,
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
        actions = action_space_of(self.action_space)
        act_key, environment_key = jax.random.split(key)
        actor = Actor(policy, self.num_envs, self._first_lane)
        draw = actor.chooser(policy) if greedy else actor.sampler(policy, act_key)
        infos: dict[str, np.ndarray] = {}
        names = Names()
        played = Played(
            np.zeros(episodes), np.zeros(episodes, np.int64), np.zeros(episodes, bool), infos
        )
        for row, episode, _, _, capped in host.run_episodes(
            self.lanes, draw, seed_of(environment_key), episodes=episodes, max_steps=max_steps
        ):
            current = episode >= 0
            _check_sound(row, current, actions)
            for name, (values, present) in row.step.infos.items():
                if name not in infos:
                    if not names.takes(name):
                        continue
                    infos[name] = np.full(episodes, np.nan)
                taken = current & present
                infos[name][episode[taken]] = values[taken]
            played.returns[episode[current]] += row.step.rewards[current]
            played.lengths[episode[current]] += 1
            played.unfinished[episode[capped]] = True
        return played

    def close(self) -> None:
        """Release the environments."""
        self.lanes.close()


def _require_seeds(lanes: Lanes) -> None:
    """UserError unless several episodes of lanes can start alike."""
    if not isinstance(lanes, Seeded):
        raise UserError(
            f"{type(lanes).__name__} has no method start_with(seeds), by which episodes start in "
            "groups; add it (policygrad.environments.lanes.Seeded), or leave --group-size out"
        )
    vector = getattr(lanes, "vector", None)
    if isinstance(vector, Pool):
        raise UserError(
            f"envpool/{vector.name} cannot be reset to a seed once an episode has ended, which "
            f"episodes that start in groups need; name gymnasium/{vector.name}, or leave "
            "--group-size out"
        )
    if isinstance(lanes, GymnasiumLanes):
        lanes.require_seeds()


def _check_sound(row: host.HostRow, current: np.ndarray, actions: ActionSpace) -> None:
    """NonFiniteError where an observation or a reward of these lanes is NaN or infinite, or where a
    mask permits no action."""
    named = [("observation", leaf) for leaf in jax.tree.leaves(row.observations)]
    for kind, values in (*named, ("reward", row.step.rewards)):
        if values.dtype.kind != "f" or np.isfinite(values).all():
            continue
        entries = values.reshape(len(values), -1)
        wrong = ~np.isfinite(entries) & current[:, None]
        if wrong.any():
            lane = np.flatnonzero(wrong.any(axis=1))[0]
            raise NonFiniteError(
                f"{entries[lane][wrong[lane]][0]} in the {kind} of environment {lane} at step "
                f"{int(row.times[lane])} of its episode, in evaluation",
                kind,
            )
    nothing = permits_nothing(jax.tree.map(lambda x: x[None], row.observations), actions)
    if nothing is not None and (np.asarray(nothing[0]) & current).any():
        lane = np.flatnonzero(np.asarray(nothing[0]) & current)[0]
        raise NonFiniteError(
            f"the action mask permits no action in the observation of environment {lane} at step "
            f"{int(row.times[lane])} of its episode, in evaluation",
            "mask",
        )


class HostCollector(Collector):
    """What fills batches from lanes on the host, and tallies the numbers of their infos.

    Args:
        lanes: stepped in place.
        policy: for its structure.
        first_lane: the number of the first of the lanes.
    """

    def __init__(self, lanes: Lanes, policy: Policy, first_lane: int) -> None:
        self._environments, self._tally = lanes, InfoTally(lanes.num_envs)
        self._actor = Actor(policy, lanes.num_envs, first_lane)

    def infos(self) -> dict[str, float]:
        return self._tally.means()

    def infos_state(self) -> dict[str, Any]:
        return self._tally.state()

    def restore_infos(self, state: dict[str, Any]) -> None:
        self._tally.restore(state)

    def close(self) -> None:
        self._environments.close()


class HostSegments(HostCollector):
    """Segments of lanes on the host."""

    whole_episodes = False

    def __init__(
        self, lanes: Lanes, policy: Policy, steps: int, seed: int, first_lane: int = 0
    ) -> None:
        super().__init__(lanes, policy, first_lane)
        self._steps, self._seed, self._made = steps, seed, 0
        lanes.start(seed)

    def collect(
        self, policy: Policy, key: PRNGKeyArray, episodes: int | None = None
    ) -> Trajectories:
        require_no_episodes(episodes)
        draw, carry = self._actor.sampler(policy, key), self._actor.carry
        self._made += self._steps
        return host.collect_segment(self._environments, draw, self._steps, carry, self._tally)

    def shapes(self, policy: Policy) -> Trajectories:
        lanes = self._environments  # whose observations are not read: that may draw noise
        example = observation_space_of(lanes.observation_space).example()
        observations = host.rows_like(lanes.num_envs, example)
        row = observations, *self._actor.shapes(policy, observations)
        return host.segment_shapes(*row, self._steps, cut_slots(self._steps, lanes.time_limit))

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
        self._tally.begin()
        return False


class HostEpisodes(HostCollector):
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
        group_size: int = 1,
        with_greedy: bool = False,
    ) -> None:
        super().__init__(lanes, policy, first_lane)
        self._episodes, self._max_steps = episodes, max_steps
        self._keep_unfinished = keep_unfinished
        self._group_size, self._with_greedy = group_size, with_greedy
        self._first_lane = first_lane

    def collect(
        self, policy: Policy, key: PRNGKeyArray, episodes: int | None = None
    ) -> Trajectories:
        act_key, environment_key = jax.random.split(key)
        seed, count = seed_of(environment_key), episodes or self._episodes
        require_whole_groups(count, self._group_size)
        self._tally.begin()
        record, unfinished = host.collect_episodes(
            self._environments,
            self._actor.sampler(policy, act_key),
            seed,
            episodes=count,
            max_steps=self._max_steps,
            carry=initial_carry(policy, count),
            tally=self._tally,
            group_size=self._group_size,
            first_lane=self._first_lane,
            seeded=self._with_greedy,
        )
        if not self._keep_unfinished:
            require_finished(unfinished, self._max_steps)
        return self._beside_greedy(policy, seed, record) if self._with_greedy else record

    def _beside_greedy(self, policy: Policy, seed: int, record: Trajectories) -> Trajectories:
        """The record with greedy episodes from the same seeds."""
        played, unfinished = greedy_.play_on_host(
            self._environments,
            self._actor.chooser(policy),
            seed,
            groups=record.rewards.shape[1] // self._group_size,
            max_steps=self._max_steps,
            first_lane=self._first_lane,
        )
        if not self._keep_unfinished:
            greedy_.require_finished(unfinished, self._max_steps)
        return greedy_.with_greedy(record, played)

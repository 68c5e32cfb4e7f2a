"""JAX-native environments as a source: everything in compiled programs."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from policygrad.core.errors import EnvironmentFailure, moment
from policygrad.core.modules import PolicyShape, in_types_of
from policygrad.core.trajectories import Trajectories
from policygrad.devices.compiled_code import compiled
from policygrad.environments.protocol import ById, CompiledEnvironment
from policygrad.environments.traced_infos import info_names
from policygrad.environments.traced_steps import check_time_limit, class_of
from policygrad.policies.meeting import Policy
from policygrad.rollout import episodes as episodes_
from policygrad.rollout import greedy as greedy_
from policygrad.rollout import segments
from policygrad.rollout.acting import Lane
from policygrad.rollout.collectors import (
    Collector,
    SegmentProgram,
    require_finished,
    require_no_episodes,
    require_whole_groups,
)
from policygrad.rollout.heights import trim
from policygrad.rollout.play import Outcome, Played, play_episodes
from policygrad.spaces import observation_space_of
from policygrad.spaces.traced import leaves_of, stray

# At module level, so that a second run of the same shape in a process compiles nothing. The number
# of the first lane is traced, so that all blocks of a run share one program.


@partial(compiled, static_argnums=(0, 1, 4))
def _start(
    env: ById, shape: PolicyShape, arrays: tuple, key: PRNGKeyArray, lanes: int, first_lane: Lane
) -> segments.LaneState:
    return segments.start_lanes(env.value, shape.policy(arrays), key, lanes, first_lane)


@partial(compiled, static_argnums=(0, 1))
def _collect_segment(
    program: SegmentProgram,
    shape: PolicyShape,
    arrays: tuple,
    lanes: Any,
    key: PRNGKeyArray,
    first_lane: Lane,
) -> tuple[segments.LaneState, Trajectories]:
    return program.collect(shape.policy(arrays), lanes, key, first_lane)


@partial(compiled, static_argnums=(0, 1, 4, 5, 7, 8))
def _collect_episodes(
    env: ById,
    shape: PolicyShape,
    arrays: tuple,
    key: PRNGKeyArray,
    episodes: int,
    max_steps: int,
    first_lane: Lane,
    group_size: int,
    with_greedy: bool,
) -> episodes_.EpisodeBatch:
    return episodes_.collect_episodes(
        env.value,
        shape.policy(arrays),
        key,
        episodes=episodes,
        max_steps=max_steps,
        first_lane=first_lane,
        group_size=group_size,
        with_greedy=with_greedy,
    )


@partial(compiled, static_argnums=(0, 1, 4, 5, 6))
def _play(
    env: ById,
    shape: PolicyShape,
    arrays: tuple,
    key: PRNGKeyArray,
    episodes: int,
    max_steps: int,
    greedy: bool,
) -> Outcome:
    policy = shape.policy(arrays)
    reset_key, act_key, environment_key = jax.random.split(key, 3)
    lanes = segments.start_lanes(env.value, policy, reset_key, episodes)
    keys = act_key, environment_key
    return play_episodes(env.value, policy, lanes, keys, max_steps=max_steps, greedy=greedy)


class CompiledSource:
    """A compiled environment as a source of batches.

    Args:
        environment: pure, unbatched.
        num_envs: lanes of a segment; whole episodes all run at once.
        first_lane: the number of the first lane, if others step the lanes before it.

    Attributes:
        info_names: of the numbers in `Trajectories.infos`.
    """

    def __init__(
        self, environment: CompiledEnvironment, num_envs: int, first_lane: int = 0
    ) -> None:
        check_time_limit(environment)
        self.observation_space = environment.observation_space
        self.action_space = environment.action_space
        self.time_limit = environment.time_limit
        self.num_envs = num_envs
        self.pure, self._first_lane = environment, first_lane
        self.info_names = info_names(environment)

    def segments(self, policy: Policy, key: PRNGKeyArray, steps: int) -> "CompiledSegments":
        """Segments of T steps of the lanes, which begin here. The key is consumed."""
        return CompiledSegments(self.pure, policy, key, self.num_envs, steps, self._first_lane)

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
    ) -> "CompiledEpisodes":
        """Whole episodes, begun afresh for every batch."""
        return CompiledEpisodes(
            self.pure,
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
        shape = PolicyShape.of(policy)
        found = _play(
            ById(self.pure), shape, shape.arrays(policy), key, episodes, max_steps, greedy
        )
        outcome: Any = jax.device_get(found)
        self._refuse_strays(outcome)
        columns = () if outcome.infos is None else outcome.infos.T.astype(np.float64)
        infos = dict(zip(self.info_names, columns, strict=True))
        totals = outcome.returns.astype(np.float64)
        return Played(totals, outcome.lengths, outcome.unfinished, infos)

    def _refuse_strays(self, outcome: Outcome) -> None:
        """EnvironmentFailure where an observation was out of the range of its space."""
        leaves = leaves_of(observation_space_of(self.observation_space))
        for leaf, found in zip(leaves, outcome.strays, strict=True):
            if found is None or np.all(found.times < 0):
                continue
            lane = np.flatnonzero(found.times >= 0)[0]
            at = moment(int(found.times[lane]))
            raise EnvironmentFailure(
                f"{stray(leaf, found.values[lane])}, of environment {lane} "
                f"({class_of(self.pure)}) {at} of its episode, in evaluation"
            )

    def close(self) -> None:
        """There is nothing to release."""


class CompiledSegments(Collector):
    """Segments of a compiled environment.

    Attributes:
        lanes: as the last segment left them. Code that rolls them out itself must put them back.
    """

    whole_episodes = False

    def __init__(
        self,
        environment: CompiledEnvironment,
        policy: Policy,
        key: PRNGKeyArray,
        num_envs: int,
        steps: int,
        first_lane: int = 0,
    ) -> None:
        self._of_all = SegmentProgram(ById(environment), steps)
        self._program = replace(self._of_all, first_lane=first_lane)
        self._first_lane = np.int32(first_lane)
        shape = PolicyShape.of(policy)
        arrays = shape.arrays(policy)
        self.lanes: Any = _start(
            self._of_all.environment, shape, arrays, key, num_envs, self._first_lane
        )

    def collect(
        self, policy: Policy, key: PRNGKeyArray, episodes: int | None = None
    ) -> Trajectories:
        require_no_episodes(episodes)
        shape = PolicyShape.of(policy)
        self.lanes, record = _collect_segment(
            self._of_all, shape, shape.arrays(policy), self.lanes, key, self._first_lane
        )
        return record

    def snapshot(self) -> Any:
        return self.lanes

    def restore(self, snapshot: Any) -> bool:
        self.lanes = in_types_of(self.lanes, snapshot)
        return True

    def program(self) -> SegmentProgram:
        return self._program


class CompiledEpisodes(Collector):
    """Whole episodes of a compiled environment, begun afresh for every batch."""

    whole_episodes = True

    def __init__(
        self,
        environment: CompiledEnvironment,
        episodes: int,
        max_steps: int,
        *,
        keep_unfinished: bool = False,
        first_lane: int = 0,
        group_size: int = 1,
        with_greedy: bool = False,
    ) -> None:
        self._environment, self._first_lane = ById(environment), np.int32(first_lane)
        self._episodes, self._max_steps = episodes, max_steps
        self._keep_unfinished = keep_unfinished
        self._group_size, self._with_greedy = group_size, with_greedy

    def collect(
        self, policy: Policy, key: PRNGKeyArray, episodes: int | None = None
    ) -> Trajectories:
        shape, count = PolicyShape.of(policy), episodes or self._episodes
        require_whole_groups(count, self._group_size)
        batch = _collect_episodes(
            self._environment,
            shape,
            shape.arrays(policy),
            key,
            count,
            self._max_steps,
            self._first_lane,
            self._group_size,
            self._with_greedy,
        )
        if not self._keep_unfinished:
            require_finished(np.asarray(batch.unfinished), self._max_steps)
            if batch.greedy_unfinished is not None:
                greedy_.require_finished(batch.greedy_unfinished, self._max_steps)
        return trim(batch.trajectories)

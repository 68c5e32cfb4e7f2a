"""Gymnasium environments as lanes: B copies stepped together, reset by us and never by themselves.

The three autoreset modes of a Gymnasium vector environment become one behaviour here. `Lanes.step`
returns the true successors; afterwards `Lanes.observations` is what the policy sees next. Under
NEXT_STEP the environment spends one step on resetting: a row that is no transition, `valid` False.
"""

import multiprocessing
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from policygrad.environments.spaces import (
    check_action_space,
    check_observation_space,
    record_dtype,
    to_environment,
)
from policygrad.errors import EnvironmentFailure, UserError


class LaneStep(NamedTuple):
    """What one step of B lanes gave.

    Attributes:
        successors: pytree of `[B, ...]`, the true successors, taken before any reset.
        rewards, terminated, truncated, valid: `[B]`.
    """

    successors: Any
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray


class Lanes:
    """B copies of one Gymnasium environment.

    Attributes:
        num_envs: B.
        observation_space, action_space: of one copy.
        time_limit: steps after which an episode is truncated, where the registration says so.
        observations: pytree of `[B, ...]`, what the policy sees next.
        times: `[B]`, the steps that the running episodes already had.
        log: what it takes to bring the lanes back to where they are.
    """

    def __init__(
        self,
        vector: VectorEnv,
        time_limit: int | None = None,
        *,
        owned: bool = True,
        replays: bool = True,
    ) -> None:
        check_observation_space(vector.single_observation_space)
        check_action_space(vector.single_action_space)
        self.vector = vector
        self.num_envs: int = vector.num_envs
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space
        self.time_limit = time_limit
        self._mode = autoreset_mode(vector)
        self._steps = 0
        self._owned = owned
        self._replays = replays

    def start(self, seed: int) -> None:
        """Begin a fresh episode in every lane, seeded by `seed` and the lane's number."""
        self.log = ReplayLog(seed, self.seeds_each_lane, self.num_envs, keeps=self._replays)
        seeds = self.log.seeds_of(range(self.num_envs))
        self.observations = self._reset(seed=seeds if self.seeds_each_lane else seeds[0])
        self.times = np.zeros(self.num_envs, np.int32)
        self._ended = np.zeros(self.num_envs, bool)

    @property
    def seeds_each_lane(self) -> bool:
        """Whether one lane can be reset by itself, with a seed of its own."""
        return self._mode == AutoresetMode.DISABLED

    def step(self, actions: Any) -> LaneStep:
        """One step of every lane, with actions as the policy sampled them, `[B, ...]`."""
        self.log.record(actions)
        self._steps += 1
        try:
            observations, rewards, terminated, truncated, info = self.vector.step(
                to_environment(self.action_space, actions)
            )
        except EnvironmentFailure:
            raise
        except Exception as error:
            raise EnvironmentFailure(
                f"the environment raised {type(error).__name__} at step {self._steps} of "
                f"{self.num_envs} environments: {error}"
            ) from error
        successors = as_record(observations)
        ended = terminated | truncated
        valid = ~self._ended
        self.times = np.where(valid, self.times + 1, 0).astype(np.int32)
        self.observations = successors
        if self._mode == AutoresetMode.NEXT_STEP:
            self._ended = ended
        elif ended.any():
            if self._mode == AutoresetMode.SAME_STEP:
                successors = with_final_observations(successors, info, ended)
            else:
                successors = jax.tree.map(np.copy, successors)
                lanes = np.flatnonzero(ended)
                seeds: list[int | None] = [None] * self.num_envs
                for lane, seed in zip(lanes, self.log.begin_episodes(lanes), strict=True):
                    seeds[lane] = seed
                self.observations = self._reset(seed=seeds, options={"reset_mask": ended})
            self.times = np.where(ended, 0, self.times).astype(np.int32)
        rewards = np.asarray(rewards, np.float32)
        return LaneStep(successors, rewards, terminated & valid, truncated & valid, valid)

    def _reset(self, **kwargs: Any) -> Any:
        try:
            observations, _ = self.vector.reset(**kwargs)
        except EnvironmentFailure:
            raise
        except Exception as error:
            raise EnvironmentFailure(
                f"the environment raised {type(error).__name__} in reset: {error}"
            ) from error
        return as_record(observations)

    def close(self) -> None:
        """Release the environments and their worker processes, unless they are the user's."""
        if self._owned:
            self.vector.close()


def as_record(observations: Any) -> Any:
    """Batched observations of a vector environment in the types that a record holds."""
    if isinstance(observations, dict):
        return {k: as_record(v) for k, v in observations.items()}
    if isinstance(observations, tuple):
        return tuple(as_record(v) for v in observations)
    return np.asarray(observations, record_dtype(observations.dtype))


def with_final_observations(observations: Any, info: dict, ended: np.ndarray) -> Any:
    """SAME_STEP: put the final observations, which the info carries, where lanes were reset."""
    final = info.get("final_obs", info.get("final_observation"))
    if final is None:
        raise UserError(
            "the vector environment resets in the same step but its info has no 'final_obs', so "
            "that the successors of truncated steps are lost; use another autoreset mode"
        )
    rows = [final[i] for i in np.flatnonzero(ended)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

    def put(array: np.ndarray, values: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[ended] = values
        return array

    return jax.tree.map(put, observations, stacked)


@dataclass
class ReplayLog:
    """How to bring lanes back: reset with the recorded seeds, then repeat the recorded actions.

    Where each lane is reset by itself, a lane needs its running episode alone, and what is older
    than every running episode is dropped. A vector environment that seeds all lanes at once needs
    everything since `start`.

    Attributes:
        seed: of `start`; every other seed follows from it.
        each_lane: whether lanes are reset by themselves.
        num_envs: B.
        episodes: `[B]`, how many episodes each lane has begun.
        begun: `[B]`, the step at which its running one began.
        first: the step of the first action still kept.
        actions: the actions since, `[B, ...]` each.
        keeps: False where the environments cannot be brought back, and actions are only counted.
    """

    seed: int
    each_lane: bool
    num_envs: int
    first: int = 0
    actions: list[np.ndarray] = field(default_factory=list)
    keeps: bool = True

    def __post_init__(self) -> None:
        self.episodes = np.ones(self.num_envs, np.int64)
        self.begun = np.zeros(self.num_envs, np.int64)

    def record(self, actions: np.ndarray) -> None:
        """Note the actions of one step."""
        if self.keeps:
            self.actions.append(actions)
        else:
            self.first += 1

    def begin_episodes(self, lanes: np.ndarray) -> list[int]:
        """Note that these lanes begin a new episode; their seeds."""
        self.episodes[lanes] += 1
        self.begun[lanes] = self.first + len(self.actions)
        return self.seeds_of(lanes)

    def seeds_of(self, lanes: Any) -> list[int]:
        """The seeds of the running episodes of these lanes."""
        return [episode_seed(self.seed, lane, int(self.episodes[lane])) for lane in lanes]

    def trim(self) -> None:
        """Drop the actions that no running episode needs."""
        if self.each_lane:
            unneeded = int(self.begun.min()) - self.first
            self.first += unneeded
            del self.actions[:unneeded]


def episode_seed(seed: int, lane: int, episode: int) -> int:
    """A seed for one episode of one lane, the same whatever the other lanes do."""
    sequence = np.random.SeedSequence((int(seed), int(lane), int(episode)))
    return int(sequence.generate_state(1)[0])


def restore(lanes: Lanes, log: ReplayLog) -> None:
    """Bring lanes to where they were when the log was taken, by replaying it.

    Lanes that began later wait: until its own episode begins, each repeats its actions and is reset
    as soon as it ends, and at its beginning it is reset with its seed.
    """
    actions, first = list(log.actions), log.first
    lanes.start(log.seed)
    if log.each_lane:
        lanes.log = log
        lanes.observations = lanes._reset(seed=log.seeds_of(range(lanes.num_envs)))
    log.actions = []
    for offset, action in enumerate(actions):
        if log.each_lane:
            beginning = (log.begun == first + offset) & (first + offset > 0)
            _restart(lanes, log, beginning)
        _replay(lanes, log, action)
    if log.each_lane:
        _restart(lanes, log, log.begun == first + len(actions))


def _restart(lanes: Lanes, log: ReplayLog, which: np.ndarray) -> None:
    if which.any():
        seeds: list[int | None] = [None] * lanes.num_envs
        for lane in np.flatnonzero(which):
            seeds[lane] = log.seeds_of([lane])[0]
        lanes.observations = lanes._reset(seed=seeds, options={"reset_mask": which})
        lanes.times[which] = 0


def _replay(lanes: Lanes, log: ReplayLog, action: np.ndarray) -> None:
    episodes, begun = log.episodes.copy(), log.begun.copy()
    lanes.step(action)
    if log.each_lane:  # what the waiting lanes did meanwhile is not what the log says
        log.episodes, log.begun = episodes, begun


def autoreset_mode(vector: VectorEnv) -> AutoresetMode:
    """The mode that a vector environment declares."""
    declared = vector.metadata.get("autoreset_mode")
    if declared is None:
        raise UserError(
            f"{type(vector).__name__} declares no autoreset mode; set "
            'metadata["autoreset_mode"] to one of gymnasium.vector.AutoresetMode'
        )
    return declared if isinstance(declared, AutoresetMode) else AutoresetMode(declared)


class ReportingLane(gymnasium.Wrapper):
    """One environment, whose exceptions say which environment it was, and at which step."""

    def __init__(self, env: gymnasium.Env, lane: int) -> None:
        super().__init__(env)
        self._lane, self._step, self._episode = lane, 0, 0

    def reset(self, **kwargs: Any) -> Any:
        self._step, self._episode = 0, self._episode + 1
        try:
            return self.env.reset(**kwargs)
        except Exception as error:
            raise self._failure("reset", error) from error

    def step(self, action: Any) -> Any:
        self._step += 1
        try:
            return self.env.step(action)
        except Exception as error:
            raise self._failure(f"step {self._step}", error) from error

    def _failure(self, where: str, error: Exception) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"environment {self._lane} raised {type(error).__name__} at {where} of its episode "
            f"{self._episode}: {error}\n{''.join(traceback.format_exception(error))}"
        )


def vectorise(make: Callable[[], Any], num_envs: int, *, processes: bool = False) -> VectorEnv:
    """B copies stepped one after the other, or in spawned worker processes."""

    def lane(i: int) -> Callable[[], gymnasium.Env]:
        def build() -> ReportingLane:
            if multiprocessing.parent_process() is not None:
                # the terminal sends Ctrl-C to workers too, and it is the trainer's to answer
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            return ReportingLane(make(), i)

        return build

    factories = [lane(i) for i in range(num_envs)]
    if processes:
        return AsyncVectorEnv(
            factories, context="spawn", autoreset_mode=AutoresetMode.DISABLED, copy=True
        )
    return SyncVectorEnv(factories, autoreset_mode=AutoresetMode.DISABLED, copy=False)

"""Gymnasium environments as lanes: B copies stepped together, reset by us and never by themselves.

The three autoreset modes of a Gymnasium vector environment become one behaviour here. `Lanes.step`
returns the true successors; afterwards `Lanes.observations` is what the policy sees next. Under
NEXT_STEP the environment spends one step on resetting: a row that is no transition, `valid` False.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from policygrad.core.errors import EnvironmentFailure, UserError
from policygrad.environments.replay import ReplayLog
from policygrad.spaces import action_space_of, observation_space_of, record_dtype


class LaneStep(NamedTuple):
    """What one step of B lanes gave.

    Attributes:
        successors: pytree of `[B, ...]`, the true successors, taken before any reset; they may be
            the environment's own arrays, good until its next step.
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
        observations: pytree of `[B, ...]`, what the policy sees next; the environment's own
            arrays, good until the next step.
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
        observation_space_of(vector.single_observation_space)  # refuses what no policy reads
        self._actions = action_space_of(vector.single_action_space)
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
                self._actions.to_environment(actions)
            )
        except EnvironmentFailure:
            raise
        except Exception as error:
            raise EnvironmentFailure(
                f"the environment raised {type(error).__name__} at step {self._steps} of "
                f"{self.num_envs} environments: {error}"
            ) from error
        terminated = per_lane("terminated", terminated, self.num_envs, bool)
        truncated = per_lane("truncated", truncated, self.num_envs, bool)
        successors = observations
        ended = terminated | truncated
        valid = ~self._ended
        self.times = np.where(valid, self.times + 1, 0).astype(np.int32)
        self.observations = successors
        if self._mode == AutoresetMode.NEXT_STEP:
            self._ended = ended
        elif ended.any():
            if self._mode == AutoresetMode.SAME_STEP:
                successors = with_final_observations(owned(successors), info, ended)
            else:
                successors = owned(successors)  # the reset may write over them
                lanes = np.flatnonzero(ended)
                seeds: list[int | None] = [None] * self.num_envs
                for lane, seed in zip(lanes, self.log.begin_episodes(lanes), strict=True):
                    seeds[lane] = seed
                self.observations = self._reset(seed=seeds, options={"reset_mask": ended})
            self.times = np.where(ended, 0, self.times).astype(np.int32)
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
        return observations

    def close(self) -> None:
        """Release the environments and their worker processes, unless they are the user's."""
        if self._owned:
            self.vector.close()


def owned(observations: Any) -> Any:
    """Batched observations as a copy of our own, in the types that a record holds.

    An environment may write its next observations over these.
    """
    if isinstance(observations, dict):
        return {k: owned(v) for k, v in observations.items()}
    if isinstance(observations, tuple):
        return tuple(owned(v) for v in observations)
    return np.array(observations, record_dtype(observations.dtype))


def owned_step(step: LaneStep, num_envs: int) -> LaneStep:
    """What one step of B lanes gave, checked, as a copy of our own.

    Raises:
        EnvironmentFailure: rewards that are no numbers, flags that are no truth values, or either
            in another shape than `[B]`.
    """
    flags = (per_lane(n, getattr(step, n), num_envs, bool) for n in LaneStep._fields[2:])
    rewards = per_lane("rewards", step.rewards, num_envs, np.float32)
    return LaneStep(owned(step.successors), rewards, *flags)


def per_lane(name: str, values: Any, num_envs: int, dtype: type) -> np.ndarray:
    """One number, or one truth value, of each of B lanes: `[B]`, checked and copied."""
    array = np.asarray(values)
    if dtype is bool and array.dtype.kind in "iuf" and np.isin(array, (0, 1)).all():
        array = array != 0
    if array.shape != (num_envs,) or array.dtype.kind not in ("b" if dtype is bool else "fiub"):
        expected = "True or False" if dtype is bool else "a real number"
        raise EnvironmentFailure(
            f"the environments gave {name} of shape {array.shape} and type {array.dtype}; "
            f"expected {expected} of each of {num_envs} environments: {array}"
        )
    return np.array(array, dtype)


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


def autoreset_mode(vector: VectorEnv) -> AutoresetMode:
    """The mode that a vector environment declares."""
    declared = vector.metadata.get("autoreset_mode")
    if declared is None:
        raise UserError(
            f"{type(vector).__name__} declares no autoreset mode; set "
            'metadata["autoreset_mode"] to one of gymnasium.vector.AutoresetMode'
        )
    return declared if isinstance(declared, AutoresetMode) else AutoresetMode(declared)

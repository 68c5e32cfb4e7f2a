"""Gymnasium environments as lanes: B copies that are stepped together.

The three autoreset modes of a Gymnasium vector environment become one behaviour here. `step`
returns the true successors; afterwards `observations` is what the policy sees next. Under NEXT_STEP
the environment uses one step for resetting. That row is not a transition, and its `valid` is False.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from policygrad.core.errors import EnvironmentFailure, PolicygradError, UserError
from policygrad.environments import masks
from policygrad.environments.copies import OwnVector
from policygrad.environments.deadline import Deadline, Overrun, overrun
from policygrad.environments.infos import Infos, of_vector
from policygrad.environments.lanes import LaneStep, copied, per_lane
from policygrad.environments.reading import place, reader
from policygrad.environments.replay import GivenSeeds, ReplayLog, Seeds, bring_back
from policygrad.spaces import action_space_of, observation_space_of
from policygrad.spaces.reading import NotOfSpace


class GymnasiumLanes:
    """B copies of one Gymnasium environment.

    Args:
        vector: steps the copies.
        time_limit: steps after which it truncates an episode; None if it is not known.
        owned: whether to close it with the lanes; otherwise the user closes it.
        replays: whether seeds and actions bring it back to where it was.
        first_lane: the number of the first of these lanes, if others step the lanes before it.
        step_timeout: seconds that a step of all copies may take; None for no limit, or if `vector`
            has one itself.

    Attributes:
        num_envs: B.
        observation_space, action_space: of one copy.
        time_limit: steps after which an episode is truncated, if the registration says so.
        observations: pytree of `[B, ...]`, what the policy sees next; the environment's own arrays,
            valid until the next step.
        times: `[B]`, the steps that the running episodes already had.
        log: what is needed to bring the lanes back to where they are.
    """

    def __init__(
        self,
        vector: VectorEnv,
        time_limit: int | None = None,
        *,
        owned: bool = True,
        replays: bool = True,
        first_lane: int = 0,
        step_timeout: float | None = None,
    ) -> None:
        observation_space_of(vector.single_observation_space)  # raises if no policy supports it
        actions = action_space_of(vector.single_action_space)
        self.vector = vector
        self.num_envs: int = vector.num_envs
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space
        self.time_limit = time_limit
        self._mode = autoreset_mode(vector)
        self._steps = 0
        self._owned = owned
        self._replays = replays
        self._first_lane = first_lane
        self._no_actions = jax.tree.map(lambda _: np.zeros((0,)), actions.example())
        self._deadline = None if step_timeout is None else Deadline(step_timeout)
        self.observations: Any = None
        self.times = np.zeros(self.num_envs, np.int32)

    def start(self, seed: int) -> None:
        """Begin a fresh episode in every lane, seeded by `seed` and the lane's number."""
        self.begin(
            ReplayLog(
                seed,
                self.seeds_each_lane,
                self.num_envs,
                keeps=self._replays,
                first_lane=self._first_lane,
                nothing=self._no_actions,
            )
        )

    def start_with(self, seeds: Seeds) -> None:
        """Begin a fresh episode in every lane, each with a seed that is given.

        Args:
            seeds: lanes -> the seeds of the episodes that they begin. It is called here for all
                lanes, and in a step for those whose episode it ends, in ascending order.

        Raises:
            UserError: the lanes cannot be seeded one by one.
        """
        self.require_seeds()
        self.begin(GivenSeeds(seeds, self.num_envs, self._no_actions))

    def require_seeds(self) -> None:
        """UserError unless one lane can be reset alone, with its own seed."""
        if not self.seeds_each_lane:
            raise UserError(
                f"{type(self.vector.unwrapped).__name__} cannot reset one environment to a seed, "
                "which episodes that start in groups need; pass an id or a function that makes one "
                "Gymnasium environment, or leave --group-size out"
            )

    def begin(self, log: ReplayLog) -> None:
        """Reset every lane with the seed of its running episode in a log, and go on with the log.

        Its actions are not repeated: see `bring_back`.
        """
        self.log = log
        seeds = log.seeds_of(range(self.num_envs))
        self.observations = self._reset(seed=seeds if self.seeds_each_lane else seeds[0])
        self.times = np.zeros(self.num_envs, np.int32)
        self._ended = np.zeros(self.num_envs, bool)

    @property
    def seeds_each_lane(self) -> bool:
        """Whether one lane can be reset alone, with its own seed."""
        return self._mode == AutoresetMode.DISABLED

    def step(self, actions: Any) -> LaneStep:
        """One step of every lane, with actions `[B, ...]` of the action space."""
        self.log.record(actions)
        self._steps += 1
        returned = self._called(f"at step {self._steps}", lambda: self.vector.step(actions))
        if not isinstance(returned, tuple) or len(returned) != 5:
            raise EnvironmentFailure(
                f"the {self.num_envs} environments returned {returned!r}; expected (observations, "
                "rewards, terminated, truncated, infos)"
            )
        observations, rewards, terminated, truncated, info = returned
        info = self._checked_info(info, f"at step {self._steps}")
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
                successors = self._with_final(self._copied(successors), info, ended)
            else:
                successors = self._copied(successors)  # the reset may write over them
                lanes = np.flatnonzero(ended)
                seeds: list[int | None] = [None] * self.num_envs
                for lane, seed in zip(lanes, self.log.begin_episodes(lanes), strict=True):
                    seeds[lane] = seed
                self.reset_some(ended, seeds)
            self.times = np.where(ended, 0, self.times).astype(np.int32)
        infos = self._infos(info, ended)
        return LaneStep(successors, rewards, terminated & valid, truncated & valid, valid, infos)

    def _infos(self, info: Mapping[str, Any], ended: np.ndarray) -> Infos:
        """The numbers of the infos of one step."""
        if not info or getattr(self.vector, "reads_infos", False):
            return dict(info)
        self._refuse_late_masks(info, f"at step {self._steps}")
        return of_vector(info, self.num_envs, ended)

    def _checked_info(self, info: Any, where: str) -> Mapping[str, Any]:
        """An info as a dict; None is an empty one."""
        if info is None:
            return {}
        if not isinstance(info, Mapping):
            raise EnvironmentFailure(
                f"the {self.num_envs} environments returned an info of type {type(info).__name__} "
                f"{where}; expected one dict, name -> values [{self.num_envs}], as "
                "gymnasium.vector gives it"
            )
        return info

    def _refuse_late_masks(self, info: Mapping[str, Any], where: str) -> None:
        """Raise for masks of actions in an info, if they are not in the observations."""
        if isinstance(self.vector, OwnVector):
            return
        spaces = self.observation_space, self.action_space
        for part in (info, info.get("final_info")):
            masks.refuse_late(part, spaces, f"environment {masks.first_lane(part)}", where)

    def reset_some(self, which: np.ndarray, seeds: list[int | None]) -> None:
        """Begin an episode in some lanes, by flags `[B]`, with these seeds."""
        self.observations = self._reset(seed=seeds, options={"reset_mask": which})
        self.times = np.where(which, 0, self.times).astype(np.int32)

    def wait(self, which: np.ndarray) -> None:
        """Leave some lanes, by flags `[B]`, where they are in the next steps, if that can be."""
        if isinstance(self.vector, OwnVector):
            self.vector.idle = which

    def snapshot(self) -> dict[str, Any]:
        """What `restore` reads: the log, and where the lanes are."""
        return self.log.to_arrays() | {
            "observations": self._copied(self.observations),
            "times": self.times.copy(),
        }

    def restore(self, snapshot: dict[str, Any]) -> bool:
        """Bring the lanes back; False if they did not come back, or never do."""
        log = ReplayLog.from_arrays(
            snapshot,
            each_lane=self.seeds_each_lane,
            num_envs=self.num_envs,
            keeps=self._replays,
            first_lane=self._first_lane,
            nothing=self._no_actions,
        )
        if not log.complete:
            return False
        try:
            bring_back(self, log)
        except EnvironmentFailure:  # of an action that was not chosen where it is repeated
            return False
        same = jax.tree.map(
            np.array_equal, self._copied(self.observations), snapshot["observations"]
        )
        return all(jax.tree.leaves(same)) and np.array_equal(self.times, snapshot["times"])

    def _reset(self, **kwargs: Any) -> Any:
        returned = self._called("in reset", lambda: self.vector.reset(**kwargs))
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise EnvironmentFailure(
                f"reset of the {self.num_envs} environments returned {returned!r}; expected "
                "(observations, infos)"
            )
        where = f"in reset, after step {self._steps}"
        self._refuse_late_masks(self._checked_info(returned[1], where), where)
        return returned[0]

    def _with_final(self, observations: Any, info: Mapping[str, Any], ended: np.ndarray) -> Any:
        """SAME_STEP: the observations, with the final ones of the info in lanes that were reset."""
        final = info.get("final_obs", info.get("final_observation"))
        if final is None:
            raise UserError(
                "the vector environment resets in the same step but its info has no 'final_obs', "
                "so that the successors of truncated steps are lost; use another autoreset mode"
            )
        if isinstance(final, Mapping):
            raise UserError(
                "the vector environment's info has a dict in 'final_obs', expected an array of "
                "objects with one observation a lane, as Gymnasium's own vector environments have "
                "it; use another autoreset mode"
            )
        read = reader(self.observation_space)
        for lane in np.flatnonzero(ended).tolist():
            try:
                place(read.read(final[lane]), observations, lane)
            except NotOfSpace as error:
                raise EnvironmentFailure(
                    f"environment {lane} returned {error} (in final_obs of its info)"
                ) from None
        return observations

    def _copied(self, observations: Any) -> Any:
        return copied(observations, self.observation_space, self.num_envs)

    def _called(self, where: str, call: Callable[[], Any]) -> Any:
        try:
            if self._deadline is None:
                return call()
            with self._deadline:
                return call()
        except PolicygradError:
            raise
        except Overrun:
            assert self._deadline is not None
            raise overrun(range(self.num_envs), self._deadline.seconds, where) from None
        except (Exception, SystemExit) as error:
            raise EnvironmentFailure(
                f"the environment raised {type(error).__name__} {where} of {self.num_envs} "
                f"environments: {error}"
            ) from error

    def close(self) -> None:
        """Release the environments and their worker processes, unless they are the user's."""
        if self._owned:
            self.vector.close()


def autoreset_mode(vector: VectorEnv) -> AutoresetMode:
    """The mode that a vector environment declares.

    Gymnasium's own write it into metadata that all environments of one class share, where the last
    one wins; but they have it as an attribute too. A wrapper may have metadata of its own.
    """
    inner, declared = vector.unwrapped, None
    if vector.metadata is inner.metadata:
        declared = getattr(inner, "autoreset_mode", None)
    if declared is None:
        declared = vector.metadata.get("autoreset_mode")
    if declared is None:
        raise UserError(
            f"{type(vector).__name__} declares no autoreset mode; set "
            'metadata["autoreset_mode"] to one of gymnasium.vector.AutoresetMode'
        )
    return declared if isinstance(declared, AutoresetMode) else AutoresetMode(declared)

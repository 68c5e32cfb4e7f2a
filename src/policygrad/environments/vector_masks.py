"""A vector environment of the user's own whose infos hold masks of actions."""

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from policygrad.core.errors import EnvironmentFailure, UserError
from policygrad.environments import masks
from policygrad.environments.deadline import Deadline, Overrun, overrun
from policygrad.spaces.reading import NotOfSpace


def with_masks_of_infos(vector: VectorEnv, step_timeout: float | None = None) -> VectorEnv:
    """The vector environment, with the masks that it gives in its observations, if it gives any:
    in its infos, or by a method or an attribute of each of its copies.

    It is reset once, with the seed 0, to look for them.

    Args:
        vector: the environment.
        step_timeout: seconds that this reset may take; None for no limit.

    Raises:
        UserError: masks for an action space without choices, or copies in other processes that give
            masks by a method.
        EnvironmentFailure: the reset takes too long.
    """
    if masks.holds_mask(vector.single_observation_space):
        return vector
    deadline = None if step_timeout is None else Deadline(step_timeout)
    try:
        with deadline or contextlib.nullcontext():
            _, info = vector.reset(seed=0)
    except Overrun:
        seconds = step_timeout or 0.0
        raise overrun(range(vector.num_envs), seconds, "in its first reset") from None
    except Exception:  # it is raised again when the lanes are started
        return vector
    if masks.in_info(info) is None and not _by_methods(vector):
        return vector
    return MasksInObservations(vector, masks.flags_needed(vector.single_action_space))


def _by_methods(vector: VectorEnv) -> bool:
    """Whether the copies of a vector environment give masks by a method or an attribute."""
    copies = _copies(vector)
    if copies:
        return masks.by_method(copies[0]) is not None
    if isinstance(vector.unwrapped, AsyncVectorEnv):
        example = vector.unwrapped.env_fns[0]()
        try:
            if masks.by_method(example) is None:
                return False
        finally:
            example.close()
        raise UserError(
            "the environments of this AsyncVectorEnv give masks of actions by a method or an "
            "attribute, which is not read in other processes; pass the function that makes one "
            "environment, with processes=True, or give the masks in info['action_mask']"
        )
    return False


def _copies(vector: VectorEnv) -> list[Any]:
    """The environments that a vector environment steps in this process; none if it is not known."""
    copies = getattr(vector.unwrapped, "envs", None)
    if isinstance(copies, (list, tuple)) and len(copies) == vector.num_envs:
        return list(copies)
    return []


class MasksInObservations(VectorWrapper):
    """Puts the mask of every lane, from the infos or the copies, into its observation."""

    def __init__(self, env: VectorEnv, flags: int) -> None:
        super().__init__(env)
        self._flags, self._steps = flags, 0
        single = masks.with_mask_space(env.single_observation_space, flags)
        self.single_observation_space = single
        self.observation_space = batch_space(single, env.num_envs)
        mode = env.metadata.get("autoreset_mode")
        self._resets_in_step = mode in (AutoresetMode.SAME_STEP, AutoresetMode.SAME_STEP.value)
        self._masks = np.ones((env.num_envs, flags), np.int8)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        which = np.ones(self.num_envs, bool)
        if options is not None and "reset_mask" in options:
            which = np.array(options["reset_mask"], bool)
        observations, info = self.env.reset(seed=seed, options=options)
        return self._joined(observations, info, needed=which, free=np.zeros_like(which)), info

    def step(self, actions: Any) -> Any:
        self._steps += 1
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        ended = np.asarray(terminated, bool) | np.asarray(truncated, bool)
        needed = np.ones(self.num_envs, bool) if self._resets_in_step else ~ended
        if self._resets_in_step and ended.any():
            info = self._with_final_masks(info, ended)
        observations = self._joined(observations, info, needed=needed, free=~needed)
        return observations, rewards, terminated, truncated, info

    def _joined(
        self, observations: Any, info: Mapping[str, Any], *, needed: np.ndarray, free: np.ndarray
    ) -> Any:
        """The observations, with the newest masks.

        Args:
            observations: pytree of `[B, ...]`.
            info: beside them.
            needed: `[B]`, lanes that must have a mask.
            free: `[B]`, lanes that permit everything if they have none. All others keep theirs.
        """
        given = self._given(info)
        for lane in np.flatnonzero(needed | free).tolist():
            mask = given.get(lane)
            if mask is None and needed[lane]:
                mask = self._by_method(lane)
            if mask is not None:
                self._masks[lane] = self._read(mask, lane)
            elif free[lane]:
                self._masks[lane] = 1
            else:
                raise EnvironmentFailure(
                    f"environment {lane} gave no 'action_mask' in its info at step {self._steps}, "
                    "and did in its first reset; give it with every observation"
                )
        return masks.with_mask(observations, self._masks.copy())

    def _by_method(self, lane: int) -> Any:
        """The mask that one copy gives by a method or an attribute; None if it gives none."""
        copies = _copies(self.env)
        method = masks.by_method(copies[lane]) if copies else None
        return None if method is None else method()

    def _given(self, info: Mapping[str, Any]) -> dict[int, Any]:
        """The masks of an info, by lane."""
        name = next((n for n in masks.NAMES if n in info), None)
        if name is None:
            return {}
        flags = info.get(f"_{name}", np.ones(self.num_envs, bool))
        return {
            i: info[name][i] for i in np.flatnonzero(flags).tolist() if info[name][i] is not None
        }

    def _with_final_masks(self, info: dict[str, Any], ended: np.ndarray) -> dict[str, Any]:
        """Final observations have the structure of the others; no action follows them."""
        final = info.get("final_obs", info.get("final_observation"))
        if final is None:
            return info
        everything = np.ones(self._flags, np.int8)
        rows = np.array([None] * self.num_envs, object)
        for lane in np.flatnonzero(ended):
            rows[lane] = masks.with_mask(final[lane], everything)
        return {**info, "final_obs": rows}

    def _read(self, mask: Any, lane: int) -> np.ndarray:
        try:
            return masks.read_mask(mask, self._flags)
        except NotOfSpace as error:
            raise EnvironmentFailure(
                f"environment {lane} returned {error} at step {self._steps}"
            ) from None

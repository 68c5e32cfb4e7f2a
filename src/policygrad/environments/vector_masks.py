"""A vector environment of the user's own whose infos hold masks of actions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from policygrad.core.errors import EnvironmentFailure
from policygrad.environments import masks
from policygrad.spaces import ACTION_MASK
from policygrad.spaces.reading import NotOfSpace


def with_masks_of_infos(vector: VectorEnv) -> VectorEnv:
    """The vector environment, with the masks of its infos in its observations, if it gives any.

    It is reset once, with the seed 0, to look for them.

    Raises:
        UserError: masks for an action space without choices.
    """
    if masks.holds_mask(vector.single_observation_space):
        return vector
    try:
        _, info = vector.reset(seed=0)
    except Exception:  # it is raised again when the lanes are started
        return vector
    if masks.in_info(info) is None:
        return vector
    return MasksInObservations(vector, masks.flags_needed(vector.single_action_space))


class MasksInObservations(VectorWrapper):
    """Puts `info["action_mask"]` of every lane into its observation."""

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
            which = options["reset_mask"].copy()
        observations, info = self.env.reset(seed=seed, options=options)
        return self._joined(observations, info, needed=which), info

    def step(self, actions: Any) -> Any:
        self._steps += 1
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        ended = np.asarray(terminated, bool) | np.asarray(truncated, bool)
        needed = np.ones(self.num_envs, bool) if self._resets_in_step else ~ended
        if self._resets_in_step and ended.any():
            info = self._with_final_masks(info, ended)
        observations = self._joined(observations, info, needed=needed)
        return observations, rewards, terminated, truncated, info

    def _joined(self, observations: Any, info: Mapping[str, Any], needed: np.ndarray) -> Any:
        """The observations, with the newest masks; lanes without one are an error if they need it,
        and permit everything otherwise."""
        given = self._given(info)
        for lane in range(self.num_envs):
            if lane in given:
                self._masks[lane] = self._read(given[lane], lane)
            elif needed[lane]:
                raise EnvironmentFailure(
                    f"environment {lane} gave no 'action_mask' in its info at step {self._steps}, "
                    "and did in its first reset; give it with every observation"
                )
            elif ACTION_MASK in info:
                self._masks[lane] = 1
        return masks.with_mask(observations, self._masks.copy())

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

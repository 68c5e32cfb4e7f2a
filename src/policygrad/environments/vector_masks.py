"""A vector environment of the user's own whose infos hold masks of actions."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from policygrad.core.errors import EnvironmentFailure, UserError
from policygrad.environments import mask_forms, masks
from policygrad.environments.copies import tell
from policygrad.environments.deadline import Deadline, Overrun, overrun
from policygrad.environments.gymnasium_lanes import autoreset_mode
from policygrad.environments.other_names import other_masks
from policygrad.environments.statistics import kept_statistics
from policygrad.spaces.reading import NotOfSpace


def with_masks(vector: VectorEnv, step_timeout: float | None = None) -> VectorEnv:
    """The vector environment, with the masks that it gives in its observations, if it gives any:
    in its infos, or by a method or an attribute of each of its copies.

    It is reset once, with the seed 0, to look for them. A warning names running statistics that it
    keeps, and what looks like masks under another name.

    Args:
        vector: the environment.
        step_timeout: seconds that this reset may take; None for no limit.

    Raises:
        UserError: masks for an action space without choices, or copies in other processes that give
            masks by a method.
        EnvironmentFailure: the reset takes too long.
    """
    with _example(vector) as (one, is_here):
        tell(kept_statistics(vector) + ([] if is_here else kept_statistics(one)))
        if masks.holds_mask(vector.single_observation_space):
            return vector
        info = _first_info(vector, step_timeout)
        if masks.in_info(info) is None and not _by_methods(one, is_here):
            tell(other_masks(one, _of_first(info), vector.single_action_space))
            return vector
        return MasksInObservations(vector, mask_forms.space_of_masks(vector.single_action_space))


def _first_info(vector: VectorEnv, step_timeout: float | None) -> Any:
    """The info of a first reset; None if it raises, which it will do again."""
    deadline = None if step_timeout is None else Deadline(step_timeout)
    try:
        with deadline or contextlib.nullcontext():
            return vector.reset(seed=0)[1]
    except Overrun:
        seconds = step_timeout or 0.0
        raise overrun(range(vector.num_envs), seconds, "in its first reset") from None
    except Exception:
        return None


def _by_methods(one: Any, is_here: bool) -> bool:
    """Whether the copies of a vector environment, such as this one, give masks by a method or an
    attribute; UserError if they are in other processes."""
    found = one is not None and bool(masks.methods(one))
    if found and not is_here:
        raise UserError(
            "the environments of this AsyncVectorEnv give masks of actions by a method or an "
            "attribute, which is not read in other processes; pass the function that makes one "
            "environment, with processes=True, or give the masks in info['action_mask']"
        )
    return found


@contextlib.contextmanager
def _example(vector: VectorEnv) -> Iterator[tuple[Any, bool]]:
    """One of the environments that a vector environment steps, and whether it is itself in this
    process; None if there is none. In place of one in another process another is made."""
    copies = _copies(vector)
    if copies or not isinstance(vector.unwrapped, AsyncVectorEnv):
        yield (copies[0] if copies else None), True
        return
    try:
        example = vector.unwrapped.env_fns[0]()
    except Exception:  # it needs what only the other process has
        yield None, True
        return
    try:
        yield example, False
    finally:
        with contextlib.suppress(Exception):
            example.close()


def _of_first(info: Any) -> dict[str, Any]:
    """The info of the first lane."""
    found = {}
    for name, values in info.items() if isinstance(info, Mapping) else ():
        if not str(name).startswith("_"):
            with contextlib.suppress(Exception):  # it holds no lanes
                found[name] = values[0]
    return found


def _copies(vector: VectorEnv) -> list[Any]:
    """The environments that a vector environment steps in this process; none if it is not known."""
    copies = getattr(vector.unwrapped, "envs", None)
    if isinstance(copies, (list, tuple)) and len(copies) == vector.num_envs:
        return list(copies)
    return []


class MasksInObservations(VectorWrapper):
    """Puts the mask of every lane, from the infos or the copies, into its observation."""

    def __init__(self, env: VectorEnv, space: gymnasium.Space) -> None:
        super().__init__(env)
        self._space, self._steps = space, 0
        single = masks.with_mask_space(env.single_observation_space, space)
        self.single_observation_space = single
        self.observation_space = batch_space(single, env.num_envs)
        self._resets_in_step = autoreset_mode(env) == AutoresetMode.SAME_STEP
        self._masks = np.ones((env.num_envs, *(space.shape or ())), np.int8)

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
            found = given.get(lane, {})
            if needed[lane]:
                found = self._by_methods(lane, found)
            if found:
                self._masks[lane] = self._read(found, lane)
            elif free[lane]:
                self._masks[lane] = 1
            else:
                raise EnvironmentFailure(
                    f"environment {lane} gave no 'action_mask' in its info at step {self._steps}, "
                    "and did in its first reset; give it with every observation"
                )
        return masks.with_mask(observations, self._masks.copy())

    def _by_methods(self, lane: int, given: mask_forms.Masks) -> mask_forms.Masks:
        """The masks of an info, and those that the lane's copy gives by methods or attributes."""
        copies = _copies(self.env)
        try:
            methods = masks.methods(copies[lane]) if copies else {}
            found = {name: method() for name, method in methods.items()}
        except Exception:
            if not given:  # there is no mask without the method
                raise
            return given
        return {**given, **{name: mask for name, mask in found.items() if mask is not None}}

    def _given(self, info: Mapping[str, Any]) -> dict[int, mask_forms.Masks]:
        """The masks of an info, by lane."""
        given: dict[int, mask_forms.Masks] = {}
        for name in masks.NAMES:
            if name not in info:
                continue
            flags = info.get(f"_{name}", np.ones(self.num_envs, bool))
            for lane in np.flatnonzero(flags).tolist():
                if info[name][lane] is not None:
                    given.setdefault(lane, {})[f"info[{name!r}]"] = info[name][lane]
        return given

    def _with_final_masks(self, info: dict[str, Any], ended: np.ndarray) -> dict[str, Any]:
        """Final observations have the structure of the others; no action follows them."""
        final = info.get("final_obs", info.get("final_observation"))
        if final is None:
            return info
        everything = mask_forms.permitting_all(self._space)
        rows = np.array([None] * self.num_envs, object)
        for lane in np.flatnonzero(ended):
            rows[lane] = masks.with_mask(final[lane], everything)
        return {**info, "final_obs": rows}

    def _read(self, given: mask_forms.Masks, lane: int) -> np.ndarray:
        try:
            return mask_forms.agreed(given, self._space)
        except NotOfSpace as error:
            raise EnvironmentFailure(
                f"environment {lane} returned {error} at step {self._steps}"
            ) from None

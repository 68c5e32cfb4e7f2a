"""One environment of a lane: what it hands over is checked, and its errors say where they arose."""

import contextlib
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

from policygrad.core.errors import EnvironmentFailure, PolicygradError, UserError
from policygrad.environments import masks
from policygrad.environments.arguments import name_of
from policygrad.environments.deadline import Deadline, Overrun, can_interrupt
from policygrad.environments.infos import numbers_of
from policygrad.environments.reading import flag_of, reader, reward_of
from policygrad.environments.sharing import parts_of
from policygrad.spaces import action_space_of
from policygrad.spaces.reading import NotOfSpace

API = "see docs/environments.md and https://gymnasium.farama.org/api/env/"
SEEDS = "; reset must take a seed: def reset(self, *, seed=None, options=None)"
LONGEST_CLOSE = 3.0  # seconds, of an environment that was made to look for masks
SpacePair = tuple[gymnasium.Space, gymnasium.Space]


class Lane:
    """One environment.

    A mask of actions that it gives in `info`, or by a method, becomes a part of its observations.
    To look whether there is one, another environment is made and reset once.

    Args:
        make: makes the environment.
        number: of the lane, for errors.
        first: the observation and action space of the first lane; None if this is the first.
        begin: called before an environment is reset here.

    Attributes:
        env: the environment.
        spaces: of its observations and actions.

    Raises:
        UserError: what was made is no environment, or one that does not fit.
        EnvironmentFailure: it could not be made.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        number: int,
        first: SpacePair | None = None,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._number, self._step, self._episode = number, 0, 0
        self._method: Callable[[], Any] | None = None
        self._flags = 0
        self.env = called_to_make(make, f"environment {number}")
        refuse_what_is_no_environment(self.env, make)
        try:
            self.spaces = self._checked_spaces(make, first, begin)
            self._reader = reader(self.spaces[0])
        except BaseException:
            self.close()
            raise

    def _checked_spaces(
        self, make: Callable[[], Any], first: SpacePair | None, begin: Callable[[], None]
    ) -> SpacePair:
        observations, actions = _declared_spaces(self.env)
        action_space_of(actions)
        if self._has_masks(observations, actions, first, partial(_gives_masks, make, begin)):
            self._flags = masks.flags_needed(actions)
            observations = masks.with_mask_space(observations, self._flags)
        expected = first or (observations, actions)
        kinds = "observation", "action"
        for kind, ours, theirs in zip(kinds, (observations, actions), expected, strict=True):
            if ours != theirs:
                raise UserError(
                    f"the {kind} space of environment {self._number} is {ours}, that of "
                    f"environment 0 is {theirs}; all environments of a run must have the same"
                )
        return expected

    def reset(self, seed: int | None) -> Any:
        """The first observation of an episode, checked (see `reading`)."""
        self._step, self._episode = 0, self._episode + 1
        try:
            returned = self.env.reset(seed=seed)
        except PolicygradError:
            raise
        except (Exception, SystemExit) as error:
            takes_none = isinstance(error, TypeError) and "'seed'" in str(error)
            raise self._raised(error, SEEDS if takes_none else "") from error
        pair = isinstance(returned, tuple) and len(returned) == 2
        if not pair or not isinstance(returned[1], (Mapping, type(None))):
            raise self._wrong(f"{_count(returned)}; expected (observation, info), {API}")
        observation, info = returned
        try:
            if self._flags:
                observation = masks.with_mask(observation, self._mask(info, ended=False))
            observation = self._reader.read(observation)
        except NotOfSpace as error:
            raise self._wrong(str(error)) from None
        if not self._flags:
            masks.refuse_late(info, self.spaces, f"environment {self._number}", self.where)
        return observation

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, float]]:
        """One step: observation, reward, terminated, truncated and the numbers of the info, all
        checked."""
        self._step += 1
        try:
            returned = self.env.step(action)
        except PolicygradError:
            raise
        except (Exception, SystemExit) as error:
            raise self._raised(error) from error
        if not isinstance(returned, tuple) or len(returned) != 5:
            raise self._wrong(
                f"{_count(returned)}; expected (observation, reward, terminated, truncated, info) "
                f"(gym before 0.26 had one flag, done, in place of two), {API}"
            )
        observation, reward, terminated, truncated, info = returned
        try:
            if type(reward) is not float:
                reward = reward_of(reward)
            if terminated is not False:
                terminated = flag_of("terminated", terminated)
            if truncated is not False:
                truncated = flag_of("truncated", truncated)
            if self._flags:
                mask = self._mask(info, ended=terminated or truncated)
                observation = masks.with_mask(observation, mask)
            observation = self._reader.read(observation)
        except NotOfSpace as error:
            raise self._wrong(str(error)) from None
        if not info:
            return observation, reward, terminated, truncated, {}
        if not isinstance(info, Mapping):
            raise self._wrong(f"info {info!r}, expected a dict")
        if not self._flags:
            masks.refuse_late(info, self.spaces, f"environment {self._number}", self.where)
        return observation, reward, terminated, truncated, numbers_of(info)

    def close(self) -> str | None:
        """Close the environment; returns what it raised, in words."""
        try:
            close = getattr(self.env, "close", None)
            if callable(close):
                close()
        except (Exception, SystemExit) as error:
            return f"environment {self._number} raised {_named(error)} in close"
        return None

    def _has_masks(
        self,
        observations: Any,
        actions: Any,
        first: SpacePair | None,
        look: Callable[[Any], bool],
    ) -> bool:
        """Whether the environment gives masks beside its observations."""
        if masks.holds_mask(observations):
            return False
        try:
            self._method = masks.by_method(self.env)
        except UserError:  # the method matters only if the infos hold no masks
            if masks.holds_mask(first[0]) if first is not None else look(self.env):
                return True
            raise
        if self._method is not None:
            return True
        if first is not None:  # the first lane has looked
            return masks.holds_mask(first[0])
        if isinstance(actions, gymnasium.spaces.Box):
            return False  # a mask in its info is refused when it comes
        return look(self.env)

    def _mask(self, info: Any, *, ended: bool) -> np.ndarray:
        mask = masks.in_info(info)
        if mask is None and not ended:
            try:
                self._method = self._method or masks.by_method(self.env)
                mask = None if self._method is None else self._method()
            except (Exception, SystemExit) as error:
                raise self._raised(error) from error
        if mask is None and ended:  # there is no action to take
            return np.ones(self._flags, np.int8)
        if mask is None:
            raise NotOfSpace(
                "an info without 'action_mask', which the info of its first reset had; give it "
                "with every observation"
            )
        return masks.read_mask(mask, self._flags)

    def _raised(self, error: BaseException, hint: str = "") -> EnvironmentFailure:
        return EnvironmentFailure(
            f"environment {self._number} raised {type(error).__name__} {self.where}: "
            f"{error}{hint}\n{''.join(traceback.format_exception(error))}"
        )

    def _wrong(self, what: str) -> EnvironmentFailure:
        return EnvironmentFailure(f"environment {self._number} returned {what} ({self.where})")

    @property
    def where(self) -> str:
        """At which step of which of its episodes the environment is, in words."""
        at = "reset" if self._step == 0 else f"step {self._step}"
        return f"at {at} of its episode {self._episode}"


def _gives_masks(make: Callable[[], Any], begin: Callable[[], None], env: Any) -> bool:
    """Whether an environment gives masks once it is reset.

    Another one is reset in its place, so that wrappers that count or record its episodes do not
    miss the first; the environment itself only if no other can be made.

    Args:
        make: makes another one.
        begin: called before the reset.
        env: the environment.
    """
    try:
        other = make()
    except (Exception, SystemExit):
        other = env
    mine = set(map(id, parts_of(env)))
    shared = any(id(part) in mine for part in parts_of(other))
    while isinstance(other, gymnasium.wrappers.RecordVideo):  # this is no episode to record
        other = other.env
    begin()
    try:
        returned = other.reset(seed=0)
        info = returned[-1] if isinstance(returned, tuple) else None
        return masks.in_info(info) is not None or masks.by_method(other) is not None
    except (Exception, SystemExit):
        return False  # it is raised again, with its place, when the lanes are started
    finally:
        if not shared:
            _close_quietly(other)


def _close_quietly(env: Any) -> None:
    """Close an environment that nobody has seen; one that hangs is left."""
    limit = Deadline(LONGEST_CLOSE) if can_interrupt() else contextlib.nullcontext()
    with contextlib.suppress(Exception, SystemExit, Overrun), limit:
        env.close()


def called_to_make(make: Callable[[], Any], what: str) -> Any:
    """What a function makes; EnvironmentFailure if it raises."""
    try:
        return make()
    except PolicygradError:
        raise
    except (Exception, SystemExit) as error:
        raise EnvironmentFailure(
            f"{what} raised {_named(error)} when it was made\n"
            f"{''.join(traceback.format_exception(error))}"
        ) from error


def refuse_what_is_no_environment(env: Any, make: Any) -> None:
    """Raise UserError unless a function made one environment.

    Args:
        env: what it made.
        make: the function, named in errors.
    """
    name = name_of(make)
    if isinstance(env, VectorEnv):
        raise UserError(
            f"{name} made a vector environment of {env.num_envs}, {type(env).__name__}, where one "
            "environment is expected; pass the vector environment itself, or a function that makes "
            "one environment"
        )
    if isinstance(env, type):
        raise UserError(
            f"{name} made the class {env.__name__}, not an environment; call it: {env.__name__}()"
        )
    missing = [m for m in ("reset", "step") if not callable(getattr(env, m, None))]
    if missing:
        lacks = "; does it lack a return?" if env is None else f", which has no {missing[0]}"
        raise UserError(f"{name} made {env!r}, which is not an environment{lacks}")


def _declared_spaces(env: Any) -> SpacePair:
    found = []
    for name in ("observation_space", "action_space"):
        space, kind = getattr(env, name, None), type(env).__name__
        if isinstance(env, gymnasium.Env):
            kind = type(env.unwrapped).__name__
        if space is None:
            raise UserError(
                f"{kind} has no {name}; set it in the class or in __init__, before the first reset"
            )
        if not isinstance(space, gymnasium.Space):
            raise UserError(
                f"the {name} of {kind} is {space!r} ({type(space).__module__}), not one of "
                "gymnasium.spaces"
            )
        found.append(space)
    return found[0], found[1]


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _count(returned: Any) -> str:
    if isinstance(returned, tuple):
        return f"{len(returned)} values"
    return f"one value of type {type(returned).__name__}"

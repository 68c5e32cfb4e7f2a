"""One environment of a lane: what it hands over is checked, and its errors say where they arose."""

import traceback
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from policygrad.core.errors import EnvironmentFailure, PolicygradError, UserError, moment
from policygrad.environments import mask_forms, masks
from policygrad.environments.first_look import looked_at
from policygrad.environments.infos import numbers_of
from policygrad.environments.made import (
    SpacePair,
    called_to_make,
    declared_spaces,
    refuse_what_is_no_environment,
)
from policygrad.environments.reading import flag_of, reader, reward_of
from policygrad.environments.statistics import kept_statistics
from policygrad.spaces import action_space_of
from policygrad.spaces.reading import NotOfSpace

API = "see docs/environments.md and https://gymnasium.farama.org/api/env/"
SEEDS = "; reset must take a seed: def reset(self, *, seed=None, options=None)"


class Lane:
    """One environment.

    A mask of actions that it gives in `info`, or by a method, becomes a part of its observations.
    Call `look_for_masks` for the first lane, and `expect_masks` for every one.

    Args:
        make: makes the environment.
        number: of the lane, for errors.
        first: the spaces that the first lane declared; None if this is the first.

    Attributes:
        env: the environment.
        declared: the spaces that it declares, of observations and actions.
        spaces: those of what `reset` and `step` return, which may hold masks besides.
        told: what the user should know of the environment, for warnings.

    Raises:
        UserError: what was made is no environment, or one that does not fit.
        EnvironmentFailure: it could not be made.
    """

    def __init__(
        self, make: Callable[[], Any], number: int, first: SpacePair | None = None
    ) -> None:
        self._make, self._number, self._step, self._episode = make, number, 0, 0
        self._methods: dict[str, Callable[[], Any]] | None = None
        self._masks: gymnasium.Space | None = None
        self.env = called_to_make(make, f"environment {number}")
        refuse_what_is_no_environment(self.env, make)
        try:
            self.declared = self.spaces = self._checked_spaces(first)
            self._holds_mask = masks.holds_mask(self.declared[0])
            self.told = kept_statistics(self.env)
            self._reader = reader(self.spaces[0])
        except BaseException:
            self.close()
            raise

    def _checked_spaces(self, first: SpacePair | None) -> SpacePair:
        declared = declared_spaces(self.env)
        action_space_of(declared[1])
        kinds = "observation", "action"
        for kind, ours, theirs in zip(kinds, declared, first or declared, strict=True):
            if ours != theirs:
                raise UserError(
                    f"the {kind} space of environment {self._number} is {ours}, that of "
                    f"environment 0 is {theirs}; all environments of a run must have the same"
                )
        return first or declared

    def look_for_masks(self, begin: Callable[[], None] = lambda: None) -> gymnasium.Space | None:
        """The space of the masks that the environment gives beside its observations, if it does.

        Another one is made and reset for it, if there is no other way to know.

        Args:
            begin: called before that reset.

        Raises:
            UserError: masks for actions without choices, or a method that needs arguments.
        """
        actions = self.declared[1]
        if self._holds_mask:
            return None
        several = isinstance(actions, (gymnasium.spaces.Dict, gymnasium.spaces.Tuple))
        problem = None
        try:
            if masks.methods(self.env) and not several:
                return mask_forms.space_of_masks(actions)
        except UserError as error:  # the method matters only if the infos hold no masks
            problem = error
        if isinstance(actions, gymnasium.spaces.Box):
            if problem is not None:
                raise problem
            return None  # a mask for a Box is refused when it comes
        given, others = looked_at(self._make, begin, self.env)
        if given:
            return mask_forms.space_of_masks(actions, next(iter(given.values())))
        if problem is not None:
            raise problem
        self.told += others
        return None

    def expect_masks(self, space: gymnasium.Space | None) -> None:
        """Put the masks into the observations, if the first lane gives any.

        Args:
            space: of the masks of the first lane; None if it gives none.

        Raises:
            UserError: masks that the first lane does not give.
        """
        observations, actions = self.declared
        if space is not None:
            self._masks = space
            self.spaces = masks.with_mask_space(observations, space), actions
            self._reader = reader(self.spaces[0])
        elif self._number and not self._holds_mask and masks.methods(self.env):
            raise UserError(
                f"environment {self._number} gives masks of actions, and environment 0 none; "
                "all environments of a run must give them, or none"
            )

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
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise self._wrong(f"{_count(returned)}; expected (observation, info), {API}")
        observation, info = returned
        if not isinstance(info, (Mapping, type(None))):
            raise self._wrong(_no_info(info))
        try:
            observation = self._read(observation, info)
        except NotOfSpace as error:
            raise self._wrong(str(error)) from None
        if self._masks is None:
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
            ended = terminated or truncated
            observation = self._read(observation, info, ended=ended, last=terminated)
        except NotOfSpace as error:
            raise self._wrong(str(error)) from None
        if not info:
            return observation, reward, terminated, truncated, {}
        if not isinstance(info, Mapping):
            raise self._wrong(_no_info(info))
        if self._masks is None:
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

    def _read(self, observation: Any, info: Any, *, ended: bool = False, last: bool = False) -> Any:
        """An observation, checked, with the mask that is given beside it.

        Args:
            observation: as it was returned.
            info: beside it.
            ended: whether no action follows.
            last: whether nobody looks at it, so that a number may be too large for a record.
        """
        if self._masks is not None:
            observation = masks.with_mask(observation, self._mask(info, self._masks, ended=ended))
        observation = self._reader.read(observation, large=last)
        if self._holds_mask and not ended:
            given = self._given(info)
            if given:
                place = f"observation[{masks.ACTION_MASK!r}]"
                mask_forms.agreed({place: observation[masks.ACTION_MASK], **given})
        return observation

    def _given(self, info: Any) -> mask_forms.Masks:
        """The masks beside an observation that an action follows."""
        given = masks.of_info(info)
        try:
            if self._methods is None:
                self._methods = masks.methods(self.env)
            for name, method in self._methods.items():
                mask = method()
                if mask is not None:
                    given[name] = mask
        except (Exception, SystemExit) as error:
            if not given and not self._holds_mask:  # there is no mask without the method
                raise self._raised(error) from error
        return given

    def _mask(self, info: Any, space: gymnasium.Space, *, ended: bool) -> Any:
        given = masks.of_info(info) if ended else self._given(info)
        if given:
            return mask_forms.agreed(given, space)
        if ended:  # there is no action to take
            return mask_forms.permitting_all(space)
        if self._methods:
            raise NotOfSpace(
                f"None by {next(iter(self._methods))}, expected a mask of actions with every "
                "observation"
            )
        raise NotOfSpace(
            "an info without 'action_mask', which the info of its first reset had; give it "
            "with every observation"
        )

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
        return f"{moment(self._step)} of its episode {self._episode}"


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _count(returned: Any) -> str:
    if isinstance(returned, tuple):
        return f"{len(returned)} value{'' if len(returned) == 1 else 's'}"
    return f"one value of type {type(returned).__name__}"


def _no_info(info: Any) -> str:
    return f"an info of type {type(info).__name__}, {info!r}, expected a dict; {API}"

"""Lanes that are filmed while they are stepped: one environment, a picture a step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from gymnasium import spaces

from policygrad.core.errors import EnvironmentFailure, PolicygradError
from policygrad.environments.lanes import Lanes, LaneStep
from policygrad.policies.meeting import Policy, initial_carry
from policygrad.watching.films import Film
from policygrad.watching.pictures import shown
from policygrad.watching.strip import Shown, Strip
from policygrad.watching.sureness import sureness_at

HELD = 0.7  # seconds that the last picture of an episode stays


class Told(NamedTuple):
    """What a viewer of a long film is told: the episode, counted from 0, its steps so far, and what
    they paid."""

    episode: int
    steps: int
    paid: float


class FilmedLanes:
    """Lanes with one environment, which show every step of it; all else is theirs.

    A picture is that of the observation that the policy acts on. Beside it stand what its action is
    paid, and how sure the policy was.

    Args:
        lanes: what steps, with one environment.
        picture: takes a picture of it as it is.
        policy: the policy that acts, with or without memory.
        film: the number of an episode, counted from 0 -> the film that it is shown in; None for an
            episode that is not filmed.
        episodes: how many there will be; the strip says so.
        tell: told of every step that is filmed.
    """

    def __init__(
        self,
        lanes: Lanes,
        picture: Callable[[], Any],
        policy: Policy,
        film: Callable[[int], Film | None],
        episodes: int,
        tell: Callable[[Told], Any] | None = None,
    ) -> None:
        self.num_envs, self.time_limit = lanes.num_envs, lanes.time_limit
        self.observation_space, self.action_space = lanes.observation_space, lanes.action_space
        self._lanes, self._picture, self._policy = lanes, picture, policy
        self._film_of, self._tell = film, tell
        self._strip = Strip(episodes)
        self._film: Film | None = None
        self._seen: Any = None
        self._episode, self._steps, self._paid = -1, 0, 0.0
        self._ended = True

    def start(self, seed: int) -> None:
        """Begin a fresh episode."""
        self._lanes.start(seed)
        self._ended = True

    @property
    def observations(self) -> Any:
        """What the policy sees next."""
        self._seen = self._lanes.observations  # each reading may draw noise anew
        return self._seen

    @property
    def times(self) -> Any:
        """`[1]`, the steps that the running episode already had."""
        return self._lanes.times

    def step(self, actions: Any) -> LaneStep:
        """One step, on film."""
        if self._ended:
            self._begin()
        if self._film is None:
            step = self._lanes.step(actions)
            self._ended = bool(np.any(step.terminated) or np.any(step.truncated))
            return step
        seen = jax.tree.map(lambda x: np.array(x[0]), self._seen)  # the step may write over it
        picture = self._drawn()
        step = self._lanes.step(actions)
        if step.valid is True or np.all(step.valid):
            self._show(self._film, picture, seen, actions, step)
        return step

    def _drawn(self) -> np.ndarray:
        """A picture of the environment as it is."""
        try:
            return np.array(self._picture())  # the environment may draw over it
        except PolicygradError:
            raise
        except Exception as error:
            raise EnvironmentFailure(
                f"the environment raised {type(error).__name__} when it was drawn, at step "
                f"{self._steps + 1} of episode {self._episode}: {error}"
            ) from error

    def _begin(self) -> None:
        self._episode, self._steps, self._paid, self._ended = self._episode + 1, 0, 0.0, False
        self._carry = jax.tree.map(lambda x: x[0], initial_carry(self._policy, 1))
        film = self._film_of(self._episode)
        if self._film is not None and film is not self._film:
            self._film.close()
        self._film = film

    def _show(self, film: Film, picture: Any, seen: Any, actions: Any, step: LaneStep) -> None:
        sure, self._carry = sureness_at(self._policy, self._carry, seen)
        reward = float(np.asarray(step.rewards)[0])
        self._paid += reward
        self._ended = bool(np.any(step.terminated) or np.any(step.truncated))
        state = Shown(
            self._episode, self._steps, reward, self._paid, self._chosen(actions),
            jax.tree.map(np.asarray, sure),
        )  # fmt: skip
        self._steps += 1
        held = round(HELD * film.fps) if self._ended else 0
        film.add(self._strip.beside(shown(picture), state), 1 + held)
        if self._tell is not None:
            self._tell(Told(self._episode, self._steps, self._paid))

    def _chosen(self, actions: Any) -> int | None:
        """The number of the action that was chosen, if it is one of n, counted from 0."""
        if not isinstance(self.action_space, spaces.Discrete):
            return None
        return int(np.asarray(actions)[0]) - int(self.action_space.start)

    def close(self) -> None:
        """Release the environment, and finish the film."""
        film, self._film = self._film, None
        try:
            self._lanes.close()
        finally:
            if film is not None:
                film.close()

    def discard(self) -> None:
        """Leave no file of the film that is being made."""
        if self._film is not None:
            self._film.discard()
            self._film = None

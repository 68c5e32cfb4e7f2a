"""Copies of an environment in this process, as a Gymnasium vector environment."""

import contextlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from policygrad.environments.deadline import Deadline, Overrun, overrun
from policygrad.environments.infos import together
from policygrad.environments.lane import Lane
from policygrad.environments.made import SpacePair
from policygrad.environments.reading import place, reader
from policygrad.environments.sharing import refuse_shared

Take = Callable[[int, Any], None]  # is called with a lane and with what it returned


class OwnVector(VectorEnv, ABC):
    """B environments that never reset themselves; every lane is reset alone, with its own seed.

    What `step` returns is valid until the next step.

    Attributes:
        reads_infos: what `step` returns as info are `environments.infos.Infos`.
        idle: `[B]`, lanes that `step` leaves where they are; it returns their last observation.
    """

    reads_infos = True

    def __init__(self, spaces: SpacePair, num_envs: int) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED}
        self.num_envs = num_envs
        self.idle = np.zeros(num_envs, bool)
        self.single_observation_space, self.single_action_space = spaces
        self.observation_space = batch_space(spaces[0], num_envs)
        self.action_space = batch_space(spaces[1], num_envs)
        self._rows = reader(spaces[0]).map(
            lambda leaf: np.zeros((num_envs, *leaf.shape), leaf.dtype)
        )

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        """Reset the lanes of `options["reset_mask"]`, or all; seed: a list of one a lane."""
        which = (options or {}).get("reset_mask")
        lanes = range(self.num_envs) if which is None else np.flatnonzero(which)
        seeds = {int(i): None if seed is None else int(seed[i]) for i in lanes}
        self._reset_lanes(seeds, lambda lane, row: place(row, self._rows, lane))
        return self._rows, {}

    def step(self, actions: Any) -> Any:
        rewards = np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), bool)
        numbers, rows = [], self._rows

        def take(lane: int, row: Any) -> None:
            observation, rewards[lane], terminated[lane], truncated[lane], found = row
            place(observation, rows, lane)
            if found:
                numbers.append((lane, found))

        given = dict(enumerate(iterate(self.action_space, actions)))
        if self.idle.any():
            given = {lane: action for lane, action in given.items() if not self.idle[lane]}
        self._step_lanes(given, take)
        return rows, rewards, terminated, truncated, together(numbers, self.num_envs)

    @abstractmethod
    def _reset_lanes(self, seeds: dict[int, int | None], take: Take) -> None:
        """Reset these lanes, and hand on what `Lane.reset` returned."""

    @abstractmethod
    def _step_lanes(self, actions: dict[int, Any], take: Take) -> None:
        """Step these lanes, and hand on what `Lane.step` returned."""


class Copies(OwnVector):
    """B environments stepped one after the other.

    Args:
        make: makes one.
        num_envs: B.
        step_timeout: seconds after which a step or a reset is interrupted; None for no limit.

    Raises:
        UserError: `make` makes no environment, or the same object again.
    """

    def __init__(
        self, make: Callable[[], Any], num_envs: int, step_timeout: float | None = None
    ) -> None:
        self._deadline = None if step_timeout is None else Deadline(step_timeout)
        self._lanes: list[Lane] = []
        try:
            with self._limited() as begin:
                for number in range(num_envs):
                    begin(number)
                    first = self._lanes[0].declared if self._lanes else None
                    self._lanes.append(Lane(make, number, first))
                refuse_shared([lane.env for lane in self._lanes])
                begin(0)
                masks = self._lanes[0].look_for_masks(partial(begin, 0))
                for lane in self._lanes:
                    lane.expect_masks(masks)
        except BaseException:
            self.close_extras()
            raise
        super().__init__(self._lanes[0].spaces, num_envs)
        tell(self._lanes[0].told)

    @property
    def envs(self) -> list[Any]:
        """The environments."""
        return [lane.env for lane in self._lanes]

    def _reset_lanes(self, seeds: dict[int, int | None], take: Take) -> None:
        with self._limited() as begin:
            for lane, seed in seeds.items():
                begin(lane)
                take(lane, self._lanes[lane].reset(seed))

    def _step_lanes(self, actions: dict[int, Any], take: Take) -> None:
        if self._deadline is None:
            for number, action in actions.items():
                take(number, self._lanes[number].step(action))
            return
        with self._limited() as begin:
            for number, action in actions.items():
                begin(number)
                take(number, self._lanes[number].step(action))

    @contextlib.contextmanager
    def _limited(self) -> Iterator[Callable[[int], None]]:
        """Interrupt a lane that takes too long; yields what says which lane begins."""
        deadline, running = self._deadline, 0

        def begin(lane: int) -> None:
            nonlocal running
            running = lane
            if deadline is not None:
                deadline.begin()

        try:
            with deadline or contextlib.nullcontext():
                yield begin
        except Overrun:
            assert deadline is not None
            raise overrun([running], deadline.seconds, self._where(running)) from None

    def _where(self, lane: int) -> str:
        return self._lanes[lane].where if lane < len(self._lanes) else "while it was made"

    def close_extras(self, **kwargs: Any) -> None:
        """Close all; what one raises is a warning, and does not keep the others open."""
        for lane in self._lanes:
            failure = lane.close()
            if failure is not None:
                warnings.warn(failure, RuntimeWarning, stacklevel=2)
        self._lanes = []


def tell(sentences: Iterable[str]) -> None:
    """Warn the user of each."""
    for sentence in sentences:
        warnings.warn(sentence, stacklevel=2)

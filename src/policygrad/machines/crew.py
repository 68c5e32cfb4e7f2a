"""A crew of workers: what each was given to do comes back, and a worker that dies is replaced."""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from policygrad.core.errors import EnvironmentFailure, PolicygradError
from policygrad.machines.cluster import Cluster
from policygrad.machines.remote import Remote
from policygrad.machines.staff import DEATHS, START_SECONDS, Hand, Lost, Request, Staff

TICK_SECONDS = 0.2


class _Running(NamedTuple):
    """What a worker was given: the item, its number, and when."""

    hand: Hand
    number: int
    item: Sequence[Any]
    since: float


class Crew(Staff):
    """Workers, each with duties.

    Attributes:
        brought: duty -> what bringing it back came to, where the newest request did.
    """

    def __init__(self, cluster: Cluster, remote: Remote, workers: int | None = None) -> None:
        super().__init__(cluster, remote, workers)
        self.brought: dict[int, Any] = {}

    def ask(
        self,
        request: Callable[[Sequence[int]], Request],
        again: Callable[[Sequence[int]], Request],
        repeats: int = 0,
    ) -> dict[int, Any]:
        """What every duty comes to.

        Args:
            request: duties -> a function that returns an answer for each of them, and its
                arguments.
            again: duties -> what brings a worker to where a lost one was before the request.
            repeats: how many requests `again` repeats; it may take their time too.

        Raises:
            PolicygradError: what a worker raised; or several died of the same request.
        """
        answers: dict[int, Any] = {}
        self.brought = {}
        left = {duty for hand in self.hands for duty in hand.duties}
        deaths: Counter[int] = Counter()
        while left:
            wanted = [(hand, [d for d in hand.duties if d in left]) for hand in self.hands]
            asked = [(h, self.send(h, request(duties))) for h, duties in wanted if duties]
            end = self._end_of(1)
            orphans: list[int] = []
            for hand, reference in asked:
                try:
                    answers |= self.answer(reference, end)
                except Lost as loss:
                    orphans += self._lose(hand, loss, deaths)
            moved = self._bring_back(orphans, again, repeats, deaths)
            left = {duty for duty in left if duty not in answers} | moved
            for duty in moved:  # of a worker that is lost, also where it had answered
                answers.pop(duty, None)
        return answers

    def map(
        self,
        function: Callable[..., Any],
        items: Iterable[Sequence[Any]],
        *,
        meanwhile: Callable[[], None] | None = None,
        heard: Callable[[int], float] | None = None,
    ) -> Iterator[Any]:
        """`function(worker, *item)` of every item, in the order of the items.

        Each worker is given one at a time; what a lost one was given, another one is. Few more
        than there are workers are on their way, so that memory stays flat.

        Args:
            function: whose answer depends on the item alone.
            items: arguments.
            meanwhile: called a few times a second, while workers work.
            heard: number of an item -> when it has last shown that it goes on, by
                `time.monotonic`, from when on the limit of time counts.
        """
        left, again = enumerate(items), list[tuple[int, Sequence[Any]]]()
        running: dict[Any, _Running] = {}
        answers: dict[int, Any] = {}
        following, deaths = 0, Counter[int]()
        while True:
            busy = [one.hand for one in running.values()]
            for hand in (hand for hand in self.hands if hand not in busy):
                ahead = len(answers) + len(running) > 2 * len(self.hands)
                todo = again.pop(0) if again else None if ahead else next(left, None)
                if todo is None:
                    break
                reference = self.send(hand, (function, todo[1]))
                running[reference] = _Running(hand, *todo, time.monotonic())
            if not running:
                return
            done, _ = self._ray.wait(list(running), num_returns=1, timeout=TICK_SECONDS)
            for reference in done or self._late(running, heard):
                one = running.pop(reference)
                try:
                    # what is done may still have to be fetched, and there is time for that
                    answers[one.number] = self.answer(reference, None if done else time.monotonic())
                except Lost as loss:
                    again.append((one.number, one.item))
                    one.hand.duties = [one.number]
                    self._lose(one.hand, loss, deaths)
                    self._filled_up()
            if meanwhile is not None:
                meanwhile()
            while following in answers:
                yield answers.pop(following)
                following += 1

    def _late(
        self, running: dict[Any, "_Running"], heard: Callable[[int], float] | None
    ) -> list[Any]:
        """What was not answered in time."""
        if self.timeout is None:
            return []
        end = time.monotonic() - self.timeout
        return [
            reference
            for reference, one in running.items()
            if max(one.since, 0.0 if heard is None else heard(one.number)) < end
        ]

    def _lose(self, hand: Hand, loss: Lost, deaths: Counter[int]) -> list[int]:
        """Give a worker up; returns its duties. Counts the deaths at each duty."""
        self.kill(hand.actor)
        self.hands.remove(hand)
        self.restarts += 1
        deaths.update(hand.duties)
        told = f"the worker {hand.place.process} on {hand.place.host} is lost: {loss}"
        if max(deaths[duty] for duty in hand.duties) == DEATHS:
            raise EnvironmentFailure(f"{DEATHS} workers died of the same request; the last: {told}")
        place = f"Within {START_SECONDS:.0f} seconds another one, or those that are left, go on"
        warnings.warn(f"{told}. {place} in its place", stacklevel=2)
        return hand.duties

    def _bring_back(
        self,
        orphans: list[int],
        again: Callable[[Sequence[int]], Request],
        repeats: int,
        deaths: Counter[int],
    ) -> set[int]:
        """Give duties to new workers, or else to those that are left; returns all that moved."""
        moved: set[int] = set()
        while orphans:
            moved.update(orphans)
            parts, orphans = self._dealt(orphans), []
            asked = [(hand, self.send(hand, again(mine))) for hand, mine in parts]
            for hand, mine in parts:
                hand.duties = [*hand.duties, *mine]
            end = self._end_of(2 + repeats)  # opened, compiled and repeated
            for hand, reference in asked:
                try:
                    self.brought |= self.answer(reference, end)
                except Lost as loss:
                    orphans += self._lose(hand, loss, deaths)
        return moved

    def _dealt(self, duties: list[int]) -> list[tuple[Hand, list[int]]]:
        """Duties for new workers, or for those that are left."""
        hands = self._filled_up(len(duties))
        dealt = [(hand, duties[i :: len(hands)]) for i, hand in enumerate(hands)]
        return [(hand, mine) for hand, mine in dealt if mine]

    def _filled_up(self, most: int | None = None) -> list[Hand]:
        """New workers in place of lost ones, where there is room, or else those that are left."""
        hands = self.hire(most) or self.hands
        if not hands:
            raise PolicygradError(
                f"all workers are lost, and none could be started within {START_SECONDS:.0f} "
                "seconds: see `ray status`"
            )
        return hands

    def _end_of(self, requests: int) -> float | None:
        """When so many requests must have been answered; None without a limit."""
        return None if self.timeout is None else time.monotonic() + requests * self.timeout

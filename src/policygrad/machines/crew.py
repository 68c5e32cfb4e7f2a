"""A crew of workers: what each was given to do comes back, and a worker that dies is replaced."""

import contextlib
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

from policygrad.core.errors import EnvironmentFailure, PolicygradError
from policygrad.machines.cluster import Cluster
from policygrad.machines.remote import Remote
from policygrad.machines.versions import Versions
from policygrad.machines.worker import Place, Raised, Worker, environment

START_SECONDS = 60.0  # for a worker to begin, on a machine that may have to wake up
TICK_SECONDS = 0.2
DEATHS = 10  # of workers at the same request, after which it is the request's own doing


class InAWorker(Exception):
    """The traceback of what a worker raised, as text."""


class Lost(Exception):
    """A worker died, or did not answer in time."""


class Late(Lost):
    """A worker did not answer in time."""


@dataclass(eq=False)
class Hand:
    """A worker.

    Attributes:
        actor: Ray's handle.
        place: where it is.
        rank: its number among the workers on its machine.
        duties: what it was given, such as numbers of blocks.
    """

    actor: Any
    place: Place
    rank: int
    duties: list[int] = field(default_factory=list)


class _Running(NamedTuple):
    """What a worker was given: the item, its number, and when."""

    hand: Hand
    number: int
    item: Sequence[Any]
    since: float


def _why(error: Exception) -> str:
    """What Ray tells of a loss, without its advice."""
    told = " ".join(str(error).split()).partition(" Some common causes")[0]
    return told.partition("The actor is dead because ")[2] or told


Request = tuple[Callable[..., Any], Sequence[Any]]


class Crew:
    """Workers, each with duties.

    Args:
        cluster: where they are started.
        remote: how many, and what each asks for.
        workers: how many, where fewer are needed.

    Attributes:
        restarts: how many workers were replaced.
        brought: duty -> what bringing it back came to, where the newest request did.
    """

    def __init__(self, cluster: Cluster, remote: Remote, workers: int | None = None) -> None:
        self._workers, self._cpus = workers or remote.workers, remote.cpus_per_worker
        cluster.require(self._workers, self._cpus)
        self._ray, self._timeout = cluster.ray, remote.worker_timeout
        self.restarts = 0
        self.brought: dict[int, Any] = {}
        self.hands: list[Hand] = []
        self._actors: list[Any] = []  # all that were started and not ended
        try:
            begun = len(self._hire())
            if begun < self._workers:
                raise PolicygradError(
                    f"{begun} of {self._workers} workers began within {START_SECONDS:.0f} "
                    "seconds; other programs may use the CPUs of the cluster: see `ray status`"
                )
        except BaseException:
            self.close()
            raise

    def _start(self) -> Any:
        actor = self._ray.remote(Worker).options(
            num_cpus=self._cpus,
            max_restarts=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": environment()},
        )
        self._actors.append(actor.remote())
        return self._actors[-1]

    def _hire(self) -> list[Hand]:
        """The workers that are missing, as far as the cluster has room for them."""
        new, deaths = list[Hand](), list[Lost]()
        missing = self._workers - len(self.hands)
        for _ in range(DEATHS):
            begun, deaths = self._introduced([self._start() for _ in range(missing)])
            new += begun
            missing = len(deaths)
            self.restarts += missing
            if not deaths:
                return new
        raise PolicygradError(f"workers die as they begin, {DEATHS} times in a row: {deaths[-1]}")

    def _introduced(self, actors: Sequence[Any]) -> tuple[list[Hand], list[Lost]]:
        """Those that know their processor and have the versions of this process, and the deaths of
        others. What does not begin in time has no room, and is given up."""
        found, deaths = list[Hand](), list[Lost]()

        def answers(asked: list[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
            end = time.monotonic() + START_SECONDS
            for actor, reference in asked:
                try:
                    yield actor, self._answer(reference, end)
                except Lost as loss:
                    self._kill(actor)
                    if not isinstance(loss, Late):
                        deaths.append(loss)

        for actor, place in answers([(actor, actor.place.remote()) for actor in actors]):
            ranks = {hand.rank for hand in (*self.hands, *found) if hand.place.node == place.node}
            rank = next(n for n in range(len(ranks) + 1) if n not in ranks)
            found.append(Hand(actor, place, rank))
        first = os.getpid()  # so that runs beside one another begin at different processors
        x64 = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
        asked = [(h.actor, h.actor.prepare.remote(first + h.rank, x64)) for h in found]
        prepared = dict(answers(asked))
        found = [hand for hand in found if hand.actor in prepared]
        for hand in found:
            Versions.here().refuse_others(prepared[hand.actor], hand.place.host)
        self.hands += found
        return found, deaths

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
            asked = [(h, self._send(h, request(duties))) for h, duties in wanted if duties]
            end = self._end_of(1)
            orphans: list[int] = []
            for hand, reference in asked:
                try:
                    answers |= self._answer(reference, end)
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
                reference = self._send(hand, (function, todo[1]))
                running[reference] = _Running(hand, *todo, time.monotonic())
            if not running:
                return
            done, _ = self._ray.wait(list(running), num_returns=1, timeout=TICK_SECONDS)
            for reference in done or self._late(running, heard):
                one = running.pop(reference)
                try:
                    # what is done may still have to be fetched, and there is time for that
                    answers[one.number] = self._answer(
                        reference, None if done else time.monotonic()
                    )
                except Lost as loss:
                    again.append((one.number, one.item))
                    one.hand.duties = [one.number]
                    self._lose(one.hand, loss, deaths)
                    self._dealt([])
            if meanwhile is not None:
                meanwhile()
            while following in answers:
                yield answers.pop(following)
                following += 1

    def _late(
        self, running: dict[Any, "_Running"], heard: Callable[[int], float] | None
    ) -> list[Any]:
        """What was not answered in time."""
        if self._timeout is None:
            return []
        end = time.monotonic() - self._timeout
        return [
            reference
            for reference, one in running.items()
            if max(one.since, 0.0 if heard is None else heard(one.number)) < end
        ]

    def _lose(self, hand: Hand, loss: Lost, deaths: Counter[int]) -> list[int]:
        """Give a worker up; returns its duties. Counts the deaths at each duty."""
        self._kill(hand.actor)
        self.hands.remove(hand)
        self.restarts += 1
        deaths.update(hand.duties)
        told = f"the worker {hand.place.process} on {hand.place.host} is lost: {loss}"
        if max(deaths[duty] for duty in hand.duties) == DEATHS:
            raise EnvironmentFailure(f"{DEATHS} workers died of the same request. {told}")
        warnings.warn(f"{told}. Another one goes on in its place", stacklevel=2)
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
            asked = [(hand, self._send(hand, again(mine))) for hand, mine in parts]
            for hand, mine in parts:
                hand.duties = [*hand.duties, *mine]
            end = self._end_of(2 + repeats)  # opened, compiled and repeated
            for hand, reference in asked:
                try:
                    self.brought |= self._answer(reference, end)
                except Lost as loss:
                    orphans += self._lose(hand, loss, deaths)
        return moved

    def _dealt(self, duties: list[int]) -> list[tuple[Hand, list[int]]]:
        hands = self._hire() or self.hands
        if not hands:
            raise PolicygradError(
                f"all workers are lost, and none could be started within {START_SECONDS:.0f} "
                "seconds: see `ray status`"
            )
        dealt = [(hand, duties[i :: len(hands)]) for i, hand in enumerate(hands)]
        return [(hand, mine) for hand, mine in dealt if mine]

    def _end_of(self, requests: int) -> float | None:
        """When so many requests must have been answered; None without a limit."""
        return None if self._timeout is None else time.monotonic() + requests * self._timeout

    def _send(self, hand: Hand, request: Request) -> Any:
        function, args = request
        return hand.actor.do.remote(function, *args)

    def _answer(self, reference: Any, end: float | None) -> Any:
        errors = self._ray.exceptions
        if end is not None:  # what is done may still have to be fetched, and there is time for that
            left = max(0.0, end - time.monotonic())
            if not self._ray.wait([reference], timeout=left, fetch_local=False)[0]:
                limit = f"{self._timeout or START_SECONDS:g}"
                raise Late(f"it did not answer within --worker-timeout {limit}")
        try:
            answer = self._ray.get(reference)
        except errors.RayTaskError as error:  # not even begun, such as a module that is not there
            raise PolicygradError(
                f"a worker could not begin: {' '.join(str(error.cause).split())}. What the run "
                "needs must be installed on every machine (docs/machines.md)"
            ) from error
        except errors.RayError as error:  # of its process, its machine, or the way of its answer
            raise Lost(_why(error)) from error
        if isinstance(answer, Raised):
            raise answer.error from InAWorker(answer.traceback)
        return answer

    def _kill(self, actor: Any) -> None:
        self._actors.remove(actor)
        with contextlib.suppress(Exception):
            self._ray.kill(actor)

    def close(self) -> None:
        """End all workers."""
        self.hands = []
        while self._actors:
            self._kill(self._actors[-1])

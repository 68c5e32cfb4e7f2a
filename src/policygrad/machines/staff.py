"""Workers that are there: started, introduced, asked, and given up."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from policygrad.core.errors import PolicygradError, UserError
from policygrad.machines.cluster import Cluster
from policygrad.machines.remote import Remote
from policygrad.machines.versions import Versions
from policygrad.machines.worker import Place, Raised, Worker, environment

START_SECONDS = 60.0  # for a worker to begin, on a machine that may have to wake up
DEATHS = 10  # of workers at the same request, after which it is the request's own doing
Request = tuple[Callable[..., Any], Sequence[Any]]


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


class Staff:
    """Workers of a cluster.

    Args:
        cluster: where they are started.
        remote: how many, and what each asks for.
        workers: how many, where fewer are needed.

    Attributes:
        hands: those that are there.
        restarts: how many have died.
        timeout: seconds after which one that has not answered counts as dead; None for no limit.
    """

    def __init__(self, cluster: Cluster, remote: Remote, workers: int | None = None) -> None:
        self._workers, self._cpus = workers or remote.workers, remote.cpus_per_worker
        cluster.require(self._workers, self._cpus)
        self._ray, self.timeout = cluster.ray, remote.worker_timeout
        self.restarts = 0
        self.hands: list[Hand] = []
        self._actors: list[Any] = []  # all that were started and not ended
        try:
            begun = len(self.hire())
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

    def hire(self, most: int | None = None) -> list[Hand]:
        """The workers that are missing, as far as the cluster has room for them.

        Args:
            most: how many are needed, where fewer than are missing.
        """
        new, deaths = list[Hand](), list[Lost]()
        missing = self._workers - len(self.hands)
        missing = missing if most is None else min(missing, most)
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
                    yield actor, self.answer(reference, end)
                except Lost as loss:
                    self.kill(actor)
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

    def send(self, hand: Hand, request: Request) -> Any:
        """Ask a worker; returns what `answer` takes."""
        function, args = request
        return hand.actor.do.remote(function, *args)

    def answer(self, reference: Any, end: float | None) -> Any:
        """What a worker answers.

        Args:
            reference: of `send`.
            end: when it must have, by `time.monotonic`; None for no limit.

        Raises:
            Lost: it died, or is late.
            Exception: what it raised.
        """
        errors = self._ray.exceptions
        if end is not None:  # what is done may still have to be fetched, and there is time for that
            left = max(0.0, end - time.monotonic())
            if not self._ray.wait([reference], timeout=left, fetch_local=False)[0]:
                limit = f"{self.timeout or START_SECONDS:g}"
                raise Late(
                    f"it did not answer within --worker-timeout {limit}, which covers its "
                    "compilation too"
                )
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
            if isinstance(answer.error, UserError):
                answer.error.add_note(
                    f"so says the worker {answer.process} on {answer.host}: what a run needs must "
                    "be there too, such as a module on the PYTHONPATH of `ray start`"
                )
            raise answer.error from InAWorker(answer.traceback)
        return answer

    def kill(self, actor: Any) -> None:
        """End a worker."""
        self._actors.remove(actor)
        with contextlib.suppress(Exception):
            self._ray.kill(actor)

    def close(self) -> None:
        """End all workers."""
        self.hands = []
        while self._actors:
            self.kill(self._actors[-1])


def _why(error: Exception) -> str:
    """What Ray tells of a loss, without its advice."""
    told = " ".join(str(error).split()).partition(" Some common causes")[0]
    return (told.partition("The actor is dead because ")[2] or told).rstrip(".")

"""A small stand-in for Ray, in this process, whose workers die and hang where a test says so."""

import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from policygrad.machines.versions import Versions
from policygrad.machines.worker import Place, Worker


class RayError(Exception):
    """Of Ray itself."""


class RayActorError(RayError):
    """An actor is dead."""


class RayTaskError(RayError):
    """A task could not begin."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Present(Worker):
    """A worker that is in this process, and pins nothing."""

    versions = Versions.here()

    def __init__(self, number: int, node: str) -> None:
        super().__init__()
        self.number, self.node, self.rank = number, node, -1

    def place(self) -> Place:
        return Place(self.node, self.node, self.number)

    def prepare(self, rank: int, x64: bool) -> Versions:
        self.rank = rank
        return self.versions


@dataclass(eq=False)
class Actor:
    """A handle; `there` once a processor was found for it."""

    ray: "FakeRay"
    worker: Present
    there: bool = False
    dead: bool = False

    def __getattr__(self, name: str) -> Any:
        if name not in ("place", "prepare", "do"):
            raise AttributeError(name)
        return SimpleNamespace(remote=lambda *args: Reference(self, name, args))


@dataclass(eq=False)
class Reference:
    """What an actor was asked, and what came of it."""

    actor: Actor
    name: str
    args: tuple[Any, ...]
    fate: str | None = None
    outcome: Callable[[], Any] | None = None

    def settled(self) -> bool:
        """Let the actor do it, unless it is done; False where it is not done in the end."""
        if self.outcome is not None:
            return True
        if not self.actor.dead and not self.actor.ray.has_room(self.actor):
            return False
        if not self.actor.dead and self.fate is None:
            function = self.args[0].__name__ if self.name == "do" else self.name
            self.fate = self.actor.ray.fate(function, self.actor)
        if self.actor.dead or self.fate == "dies":
            self.actor.ray.die(self.actor)
            self.outcome = self._gone
        elif self.fate == "hangs":
            return False
        elif self.fate is not None and self.fate.startswith("slow"):
            self.fate = "slow" * (self.fate.count("slow") - 1)
            return self.fate == "" and self.settled()
        elif self.fate == "cannot begin":
            self.outcome = self._cannot_begin
        else:
            answer = pickle.loads(pickle.dumps(getattr(self.actor.worker, self.name)(*self.args)))
            self.outcome = lambda: answer
            if self.fate == "dies after":
                self.actor.ray.die(self.actor)
                self.outcome = self._gone
        return True

    def _gone(self) -> Any:
        raise RayActorError("the actor\ndied")

    def _cannot_begin(self) -> Any:
        raise RayTaskError(ModuleNotFoundError("No module named 'mine'"))


@dataclass
class FakeRay:
    """Ray.

    Attributes:
        cpus: so many actors run at a time; others wait.
        fate: name of a function, and the actor -> "lives", "dies" before it does it or "dies
            after", "hangs", "cannot begin", or "slow" so many times as it is looked for in vain.
        order: in which actors are done.
        died: those that died by themselves.
        killed: those that were killed on purpose.
        started: all.
        now: seconds.
    """

    cpus: int = 100
    fate: Callable[[str, Actor], str] = lambda name, actor: "lives"
    order: random.Random = field(default_factory=lambda: random.Random(0))
    nodes: tuple[str, ...] = ("here",)
    died: list[Actor] = field(default_factory=list)
    killed: list[Actor] = field(default_factory=list)
    started: list[Actor] = field(default_factory=list)
    now: float = 1000.0
    exceptions = SimpleNamespace(
        RayError=RayError, RayActorError=RayActorError, RayTaskError=RayTaskError
    )

    def monotonic(self) -> float:
        return self.now

    def remote(self, worker: type[Worker]) -> Any:
        assert worker is Worker

        def start() -> Actor:
            number = len(self.started)
            actor = Actor(self, Present(number, self.nodes[number % len(self.nodes)]))
            self.started.append(actor)
            return actor

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=start))

    @property
    def alive(self) -> list[Actor]:
        return [actor for actor in self.started if not actor.dead]

    def has_room(self, actor: Actor) -> bool:
        actor.there = actor.there or sum(other.there for other in self.alive) < self.cpus
        return actor.there

    def die(self, actor: Actor) -> None:
        """As by the system."""
        if not actor.dead:
            actor.dead = True
            self.died.append(actor)

    def kill(self, actor: Actor) -> None:
        if not actor.dead:
            actor.dead = True
            self.killed.append(actor)

    def get(self, reference: Reference) -> Any:
        if not reference.settled():
            raise AssertionError("this would wait for ever")
        assert reference.outcome is not None
        return reference.outcome()

    def wait(
        self, references: list[Reference], *, num_returns: int = 1, timeout: float = 0.0,
        fetch_local: bool = True,
    ) -> tuple[list[Reference], list[Reference]]:  # fmt: skip
        assert num_returns == 1
        for reference in self.order.sample(references, len(references)):
            if reference.settled():
                return [reference], [other for other in references if other is not reference]
        self.now += timeout
        return [], references

"""Copies of an environment in spawned worker processes, one a process.

A worker ends with this process, whatever ends it. A worker that ends by itself, or that does not
answer in time, is one error that names it.
"""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from policygrad.core.errors import EnvironmentFailure, PolicygradError, UserError, moment
from policygrad.environments.copies import OwnVector, Take, tell
from policygrad.environments.deadline import overrun
from policygrad.environments.lane import Lane
from policygrad.environments.made import SpacePair
from policygrad.processes.sending import Sent
from policygrad.processes.signals import leave_signals_to_the_parent
from policygrad.processes.worker import Worker, WorkerEnded, ready

GRACE = 3.0  # seconds in which workers may close their environments before they are ended
INSTEAD = ", or leave --processes out"


class _First(NamedTuple):
    """What the first worker found: what its environment declares, the space of the masks of actions
    that it gives, the spaces with them, and what the user should know."""

    declared: SpacePair
    masks: gymnasium.Space | None
    spaces: SpacePair
    told: list[str]


class Workers(OwnVector):
    """B environments that are stepped at the same time, each in a process of its own.

    Args:
        make: makes one environment; it is sent to the processes.
        num_envs: B.
        step_timeout: seconds after which a process that has not answered is ended; None for no
            limit.

    Raises:
        UserError: the script cannot be imported by other processes, or `make` cannot be sent.
        EnvironmentFailure: a process ended before its environment was made.
    """

    def __init__(
        self, make: Callable[[], Any], num_envs: int, step_timeout: float | None = None
    ) -> None:
        self._timeout = step_timeout
        self._workers: list[Worker] = []
        # of every lane: episodes begun, and steps of the newest one
        self._episodes, self._steps = np.zeros((2, num_envs), int)
        sent = Sent.by_content("the function that makes the environment", make, INSTEAD)
        try:
            self._start(sent, None)  # alone, so that a mistake is told once
            first = self._answers([0], limited=False)[0]
            if first is None:  # it is made; now it is reset, to look for masks of actions
                first = self._answers([0])[0]
            for _ in range(1, num_envs):
                self._start(sent, first)
            self._answers(range(1, num_envs), limited=False)
        except BaseException:
            self.close_extras()
            raise
        super().__init__(first.spaces, num_envs)
        tell(first.told)

    def _start(self, sent: Sent, first: _First | None) -> None:
        number = len(self._workers)
        self._workers.append(Worker(_work, sent, number, first, instead=INSTEAD))

    def _reset_lanes(self, seeds: dict[int, int | None], take: Take) -> None:
        self._episodes[list(seeds)] += 1
        self._steps[list(seeds)] = 0
        for lane, seed in seeds.items():
            self._ask(lane, ("reset", seed))
        for lane, answer in self._answers(seeds).items():
            take(lane, answer)

    def _step_lanes(self, actions: dict[int, Any], take: Take) -> None:
        self._steps[list(actions)] += 1
        for lane, action in actions.items():
            self._ask(lane, ("step", action))
        for lane, answer in self._answers(actions).items():
            take(lane, answer)

    def _ask(self, lane: int, request: tuple[str, Any]) -> None:
        with self._named(lane):
            self._workers[lane].send(request)

    def _answers(self, lanes: Iterable[int], *, limited: bool = True) -> dict[int, Any]:
        """What the workers of these lanes answer, in the order of the lanes."""
        answers: dict[int, Any] = dict.fromkeys(lanes)
        waiting = {self._workers[lane]: lane for lane in answers}
        limit = self._timeout if limited else None
        end = None if limit is None else time.monotonic() + limit
        while waiting:
            left = None if end is None else max(0.0, end - time.monotonic())
            found = ready(waiting, left)
            if not found and limit is not None:
                for worker in waiting:
                    worker.kill()
                late = sorted(waiting.values())
                raise overrun(late, limit, self._where(late[0]))
            for worker in found:
                lane = waiting.pop(worker)
                answers[lane] = self._answer(lane)
        return answers

    def _answer(self, lane: int) -> Any:
        with self._named(lane):
            answer = self._workers[lane].receive()[1]
        if isinstance(answer, PolicygradError):
            raise answer
        return answer

    @contextlib.contextmanager
    def _named(self, lane: int) -> Iterator[None]:
        """The error for a worker that ended by itself says whose it was."""
        try:
            yield
        except WorkerEnded as ended:
            whose = f"the worker process of environment {lane}"
            raise EnvironmentFailure(f"{whose} {ended.how} {self._where(lane)}") from None

    def _where(self, lane: int) -> str:
        if not self._episodes[lane]:
            return "before its first reset"
        return f"{moment(self._steps[lane])} of its episode {self._episodes[lane]}"

    def close_extras(self, **kwargs: Any) -> None:
        """End all workers; those that do not close their environments in time are killed."""
        workers, self._workers = self._workers, []
        try:
            for worker in workers:
                with contextlib.suppress(PolicygradError):  # it has ended
                    worker.send(("close", None))
            end = time.monotonic() + GRACE
            for worker in workers:
                _last_words(worker, end)
                worker.join(max(0.0, end - time.monotonic()))
        finally:
            for worker in workers:
                worker.close()


def _last_words(worker: Worker, end: float) -> None:
    """Wait until a worker has closed; what its environment raised in close is a warning."""
    with contextlib.suppress(PolicygradError):  # it has ended
        while ready([worker], max(0.0, end - time.monotonic())):
            kind, answer = worker.receive()
            if kind == "closed":
                if answer is not None:
                    warnings.warn(answer, RuntimeWarning, stacklevel=3)
                return


def _work(pipe: Any, sent: Sent, number: int, first: _First | None) -> None:
    """A worker process: makes one environment and does what it is asked."""
    leave_signals_to_the_parent()
    lane = None
    try:
        lane = Lane(sent.read(), number, first and first.declared)
        begin = partial(pipe.send, ("made", None))
        masks = lane.look_for_masks(begin) if first is None else first.masks
        lane.expect_masks(masks)
    except PolicygradError as error:
        pipe.send(("failure", _plain(error)))
        if lane is not None:
            lane.close()
        return
    pipe.send(("ready", _First(lane.declared, masks, lane.spaces, lane.told)))
    done = {"reset": lane.reset, "step": lane.step}
    try:
        while True:
            request, argument = pipe.recv()
            if request == "close":
                break
            try:
                pipe.send(("done", done[request](argument)))
            except PolicygradError as error:
                pipe.send(("failure", _plain(error)))
    except (EOFError, OSError):  # the parent is gone
        lane.close()
        return
    with contextlib.suppress(OSError):
        pipe.send(("closed", lane.close()))


def _plain(error: PolicygradError) -> PolicygradError:
    """The error without its cause, which another process may not be able to read."""
    kind = UserError if isinstance(error, UserError) else EnvironmentFailure
    return kind(str(error))

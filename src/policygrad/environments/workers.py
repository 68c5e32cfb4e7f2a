"""Copies of an environment in spawned worker processes, one a process.

A worker ends with this process, whatever ends it. A worker that ends by itself, or that does not
answer in time, is one error that names it.
"""

import contextlib
import multiprocessing
import os
import pickle
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing import connection
from multiprocessing.util import Finalize
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector.utils import CloudpickleWrapper

from policygrad.core.errors import EnvironmentFailure, PolicygradError, UserError
from policygrad.environments.copies import OwnVector, Take, tell
from policygrad.environments.deadline import overrun
from policygrad.environments.lane import Lane
from policygrad.environments.made import SpacePair
from policygrad.environments.signals import (
    leave_signals_to_the_parent,
    signal_name,
    signals_wait,
)

GRACE = 3.0  # seconds in which workers may close their environments before they are ended
NO_GUARD = 79  # what a worker exits with if it is itself a run of the script that started it
GUARD = (
    "worker processes import the script that starts them, and would start it again: put the call "
    "below `if __name__ == '__main__':`, or leave processes out"
)


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
        refuse_scripts_that_no_process_can_import()
        self._timeout = step_timeout
        self._processes: list[Any] = []
        self._pipes: list[Any] = []
        # at its end, Python asks all that run by SIGTERM, and waits for them
        Finalize(self, _kill, (self._processes,), exitpriority=0)
        # of every lane: episodes begun, and steps of the newest one
        self._episodes, self._steps = np.zeros((2, num_envs), int)
        try:
            payload = pickle.dumps(CloudpickleWrapper(make))
        except Exception as error:
            raise UserError(
                f"{make!r} cannot be sent to worker processes ({error}); create what it holds "
                "inside the function, or leave --processes out"
            ) from error
        try:
            self._start(payload, None)  # alone, so that a mistake is told once
            first = self._answers([0], limited=False)[0]
            if first is None:  # it is made; now it is reset, to look for masks of actions
                first = self._answers([0])[0]
            for _ in range(1, num_envs):
                self._start(payload, first)
            self._answers(range(1, num_envs), limited=False)
        except BaseException:
            self.close_extras()
            raise
        super().__init__(first.spaces, num_envs)
        tell(first.told)

    def _start(self, payload: bytes, first: _First | None) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        number = len(self._processes)
        arguments = theirs, payload, number, first
        process = context.Process(target=_work, args=arguments, daemon=True)
        with signals_wait():  # until the worker ignores them
            try:
                process.start()
            except AssertionError as error:
                raise UserError(f"no worker processes can be started here: {error}") from error
        theirs.close()
        self._processes.append(process)
        self._pipes.append(ours)

    def _reset_lanes(self, seeds: dict[int, int | None], take: Take) -> None:
        self._episodes[list(seeds)] += 1
        self._steps[list(seeds)] = 0
        for lane, seed in seeds.items():
            self._ask(lane, ("reset", seed))
        for lane, answer in self._answers(seeds).items():
            take(lane, answer)

    def _step_lanes(self, actions: Iterable[Any], take: Take) -> None:
        self._steps += 1
        for lane, action in enumerate(actions):
            self._ask(lane, ("step", action))
        for lane, answer in self._answers(range(self.num_envs)).items():
            take(lane, answer)

    def _ask(self, lane: int, request: tuple[str, Any]) -> None:
        alive = False
        with contextlib.suppress(OSError):
            self._pipes[lane].send(request)
            alive = True
        if not alive:
            raise self._why_it_ended(lane) from None

    def _answers(self, lanes: Iterable[int], *, limited: bool = True) -> dict[int, Any]:
        """What the workers of these lanes answer, in the order of the lanes."""
        answers: dict[int, Any] = dict.fromkeys(lanes)
        waiting = {self._pipes[lane]: lane for lane in answers}
        limit = self._timeout if limited else None
        end = None if limit is None else time.monotonic() + limit
        while waiting:
            left = None if end is None else max(0.0, end - time.monotonic())
            ready = connection.wait(list(waiting), left)
            if not ready and limit is not None:
                self._end_now(waiting.values())
                late = sorted(waiting.values())
                raise overrun(late, limit, self._where(late[0]))
            for pipe in ready:
                lane = waiting.pop(pipe)  # pyright: ignore[reportArgumentType, reportCallIssue]
                answers[lane] = self._answer(lane)
        return answers

    def _answer(self, lane: int) -> Any:
        try:
            answer = self._pipes[lane].recv()[1]
        except (EOFError, OSError):
            answer = self._why_it_ended(lane)
        if isinstance(answer, PolicygradError):
            raise answer
        return answer

    def _why_it_ended(self, lane: int) -> PolicygradError:
        """The error for a worker that ended by itself."""
        process = self._processes[lane]
        process.join(GRACE)
        code = process.exitcode
        if code == NO_GUARD:
            return UserError(GUARD)
        if code is not None and code < 0:
            how = f"was ended by the signal {signal_name(-code)}"
        else:
            how = f"ended with exit code {code}"
        return EnvironmentFailure(
            f"the worker process of environment {lane} {how} {self._where(lane)}"
        )

    def _where(self, lane: int) -> str:
        if not self._episodes[lane]:
            return "before its first reset"
        at = f"step {self._steps[lane]}" if self._steps[lane] else "reset"
        return f"at {at} of its episode {self._episodes[lane]}"

    def _end_now(self, lanes: Iterable[int]) -> None:
        for lane in lanes:
            self._processes[lane].kill()

    def close_extras(self, **kwargs: Any) -> None:
        """End all workers; those that do not close their environments in time are killed."""
        try:
            for pipe in self._pipes:
                with contextlib.suppress(OSError):
                    pipe.send(("close", None))
            end = time.monotonic() + GRACE
            for process, pipe in zip(self._processes, self._pipes, strict=True):
                _last_words(pipe, end)
                process.join(max(0.0, end - time.monotonic()))
        finally:
            self._end_now(i for i, process in enumerate(self._processes) if process.is_alive())
            for process, pipe in zip(self._processes, self._pipes, strict=True):
                process.join(GRACE)
                pipe.close()
            self._processes, self._pipes = [], []


def _last_words(pipe: Any, end: float) -> None:
    """Wait until a worker has closed; what its environment raised in close is a warning."""
    with contextlib.suppress(EOFError, OSError):
        while pipe.poll(max(0.0, end - time.monotonic())):
            kind, answer = pipe.recv()
            if kind == "closed":
                if answer is not None:
                    warnings.warn(answer, RuntimeWarning, stacklevel=3)
                return


def _work(pipe: Any, payload: bytes, number: int, first: _First | None) -> None:
    """A worker process: makes one environment and does what it is asked."""
    leave_signals_to_the_parent()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lane = None
    try:
        lane = Lane(pickle.loads(payload).fn, number, first and first.declared)
        begin = partial(pipe.send, ("made", None))
        masks = lane.look_for_masks(begin) if first is None else first.masks
        lane.expect_masks(masks)
    except PolicygradError as error:
        pipe.send(("failure", _plain(error)))
        if lane is not None:
            lane.close()
        return
    except Exception as error:
        problem = f"the function that makes the environment cannot be read in a process: {error!r}"
        pipe.send(("failure", UserError(problem)))
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


def _kill(processes: list[Any]) -> None:
    for process in processes:
        process.kill()


def _plain(error: PolicygradError) -> PolicygradError:
    """The error without its cause, which another process may not be able to read."""
    kind = UserError if isinstance(error, UserError) else EnvironmentFailure
    return kind(str(error))


def _end_with_parent() -> None:
    """End this process when its parent ends, also in the middle of a step."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def refuse_scripts_that_no_process_can_import() -> None:
    """Raise UserError for a script that is read from a pipe; end a worker that runs a script
    again."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(NO_GUARD)
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if path is not None and getattr(main, "__spec__", None) is None and not os.path.exists(path):
        raise UserError(
            f"worker processes import the script that starts them, and {path} is no file; save the "
            "script, or leave --processes out"
        )

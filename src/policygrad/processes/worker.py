"""A process that works for this one: it exchanges messages with this one, and ends with it."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing import connection
from multiprocessing.util import Finalize
from typing import Any

from policygrad.core.errors import PolicygradError, UserError
from policygrad.processes.scripts import GUARD, NAME, NO_GUARD, check_script
from policygrad.processes.signals import signal_name, signals_wait

LAST_SECONDS = 3.0  # in which a process is gone that was killed, or that closed its pipe


class WorkerEnded(PolicygradError):
    """A worker process ended by itself.

    Attributes:
        how: 'ended with exit code 7', for instance.
    """

    def __init__(self, how: str) -> None:
        super().__init__(f"a worker process {how}")
        self.how = how


class Worker:
    """A spawned process that calls a function. It is killed where this process ends, or forgets it.

    Signals to all processes of a run are kept from it until the function says what becomes of them:
    `leave_signals_to_the_parent`, or handlers of its own and `let_signals_in`.

    Args:
        work: a function of a module. It is called with the other end of the pipe and the arguments.
        arguments: what can be pickled; what a user passed, as `Sent`.
        grace: seconds for which the process lives on where this one is gone. The end of the pipe
            tells it so.
        instead: ends messages: what a user may do in place of starting processes.

    Attributes:
        process: the process.

    Raises:
        UserError: the script is no file, or processes cannot be started here.
    """

    def __init__(
        self, work: Callable[..., None], *arguments: Any, grace: float = 0.0, instead: str = ""
    ) -> None:
        check_script(instead)
        self._instead = instead
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_enter, args=(work, theirs, arguments, grace), name=NAME
        )
        with signals_wait():
            try:
                self.process.start()
            except AssertionError as error:
                raise UserError(f"no worker processes can be started here: {error}") from error
            # before Python, at its end, waits for all processes
            Finalize(self, self.process.kill, exitpriority=0)
        theirs.close()

    def send(self, message: Any) -> None:
        """Send a message; WorkerEnded where the process is gone."""
        try:
            self._pipe.send(message)
        except OSError:
            raise self._why_it_ended() from None

    def receive(self) -> Any:
        """Wait for the next message.

        Raises:
            WorkerEnded: the process is gone.
            UserError: the process ran a script without a guard.
        """
        try:
            return self._pipe.recv()
        except (EOFError, OSError):
            raise self._why_it_ended() from None

    def _why_it_ended(self) -> PolicygradError:
        self.join(LAST_SECONDS)
        code = self.process.exitcode
        if code == NO_GUARD:
            return UserError(f"{GUARD}{self._instead}")
        return WorkerEnded(how_it_ended(code))

    def join(self, seconds: float | None = None) -> None:
        """Wait until it ends by itself, for so many seconds at most."""
        self.process.join(seconds)

    def kill(self) -> None:
        """End it now, whatever it does. What it has sent can still be received."""
        self.process.kill()

    def close(self) -> None:
        """End it now if it has not ended, and close the pipe."""
        self.kill()
        self.join(LAST_SECONDS)
        self._pipe.close()


def ready(workers: Iterable[Worker], seconds: float | None = None) -> list[Worker]:
    """Those that have sent a message or ended, as soon as there is one; none after `seconds`."""
    by_pipe: dict[Any, Worker] = {worker._pipe: worker for worker in workers}
    return [by_pipe[pipe] for pipe in connection.wait(list(by_pipe), seconds)]


def how_it_ended(code: int | None) -> str:
    """How a process ended, from its exit code."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal_name(-code)
    memory = " (as the system does where memory runs out)" * (name == "SIGKILL")
    return f"was killed by {name}{memory}"


def _enter(work: Callable[..., None], pipe: Any, arguments: tuple[Any, ...], grace: float) -> None:
    """What the process does."""
    threading.Thread(target=_end_with_parent, args=[grace], daemon=True).start()
    work(pipe, *arguments)


def _end_with_parent(grace: float) -> None:
    """End this process where its parent has ended, also in the middle of a step."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    time.sleep(grace)
    os._exit(1)

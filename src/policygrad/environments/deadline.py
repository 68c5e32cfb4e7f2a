"""A time limit for code in this process that may hang: an interval timer interrupts it."""

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

from policygrad.core.errors import EnvironmentFailure, UserError


class Overrun(BaseException):
    """The time is up. Not an Exception, so that an environment's own handlers let it through."""


class Deadline:
    """While it is entered, Overrun is raised `seconds` after the newest `begin`.

    Code that never returns to Python's interpreter cannot be interrupted in this way.

    Raises:
        UserError: not on the main thread, or on a platform without interval timers.
    """

    def __init__(self, seconds: float) -> None:
        if not can_interrupt():
            why = "outside of the main thread" if not _is_main() else "on this platform"
            raise UserError(
                f"--step-timeout {seconds:g} cannot interrupt a step of this process {why}; add "
                "--processes (processes=True)"
            )
        self.seconds = seconds
        self._before: Any = None

    def begin(self) -> None:
        """Begin to measure anew. It is repeated, for code that catches everything and goes on."""
        signal.setitimer(signal.ITIMER_REAL, self.seconds, self.seconds)

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGALRM, _overrun)
        self.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


def can_interrupt() -> bool:
    """Whether a deadline can be set here."""
    return _is_main() and hasattr(signal, "setitimer")


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _overrun(signum: int, frame: FrameType | None) -> None:
    raise Overrun


@contextlib.contextmanager
def limited(seconds: float | None, lanes: Iterable[int], where: str) -> Iterator[None]:
    """EnvironmentFailure, for these environments, where what is inside takes longer.

    Without a limit, and where nothing can be interrupted, it takes as long as it takes.
    """
    if seconds is None or not can_interrupt():
        yield
        return
    try:
        with Deadline(seconds):
            yield
    except Overrun:
        raise overrun(lanes, seconds, where) from None


def overrun(lanes: Iterable[int], seconds: float, where: str) -> EnvironmentFailure:
    """The error for environments that take too long."""
    numbers = ", ".join(map(str, lanes))
    return EnvironmentFailure(
        f"environment {numbers} did not return within {seconds:g} s {where} (the limit is "
        "--step-timeout)"
    )

"""Requests to stop: the first asks to stop after the update that is running, the second at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from policygrad.processes.signals import SENT_TO_ALL


class StopRequest(threading.Event):
    """Set where somebody asked to stop.

    Attributes:
        by: who asked first: the name of a signal, or "callback"; None if nobody did.
    """

    by: str | None = None

    def ask(self, by: str) -> None:
        """Ask to stop after the update that is running."""
        if not self.is_set():
            self.by = by
            self.set()


class Terminated(KeyboardInterrupt):
    """A second SIGTERM or SIGHUP: the program stops at once, as after a second Ctrl-C.

    Attributes:
        exit_code: what a command exits with.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


@contextlib.contextmanager
def stop_requests(*, second_stops_at_once: bool = True) -> Iterator[StopRequest]:
    """A request that the first Ctrl-C, SIGTERM or SIGHUP sets; the second one stops at once.

    Only the main thread may handle signals; elsewhere no signal sets the request. A signal is left
    alone where the program ignores it, as SIGHUP under `nohup`, and SIGTERM and SIGHUP also where
    the program handles them itself.

    Args:
        second_stops_at_once: False for a process that another one ends.
    """
    stop, signals = StopRequest(), set()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(signum: int, frame: Any) -> None:
        if signals and second_stops_at_once:
            raise KeyboardInterrupt if signum == signal.SIGINT else Terminated(signum)
        signals.add(signum)
        stop.ask(signal.Signals(signum).name)

    with contextlib.ExitStack() as stack:
        for signum in SENT_TO_ALL:
            handler = signal.getsignal(signum)
            own = handler != signal.SIG_DFL and signum != signal.SIGINT
            if handler != signal.SIG_IGN and not own:
                previous = signal.signal(signum, request)
                stack.callback(signal.signal, signum, previous or signal.SIG_DFL)
        yield stop

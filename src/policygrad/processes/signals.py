"""Signals that are sent to all processes of a run at once: the parent acts on them."""

import contextlib
import multiprocessing.resource_tracker
import signal
from collections.abc import Iterable, Iterator
from typing import Any

# what is sent to all processes of a run: by a terminal, or by `kill` with the number of a group
SENT_TO_ALL = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Keep signals to all from a process that is started here, until it lets them in."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # else it is started with the first process, and lets the signals in
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SENT_TO_ALL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_signals_in(numbers: Iterable[int] = SENT_TO_ALL) -> None:
    """Receive signals that were kept from this process while it was started."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def leave_signals_to_the_parent() -> None:
    """Go on after a signal to all: the parent saves the run, and ends this process.

    Processes that are started here are still ended by SIGTERM and SIGHUP.
    """
    for number in SENT_TO_ALL:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else _goes_on)
    let_signals_in(set(SENT_TO_ALL) - {signal.SIGINT})


def _goes_on(number: int, frame: Any) -> None:
    """Handle a signal by nothing. A signal that is ignored would stay so in processes started
    here."""


def signal_name(number: int) -> str:
    """SIGKILL for 9; the number itself where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)

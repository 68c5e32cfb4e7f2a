"""What worker processes of the tests do. It imports little, so that they start soon."""

import contextlib
import os
import signal
import time
from pathlib import Path

from policygrad.processes.signals import SENT_TO_ALL, leave_signals_to_the_parent, let_signals_in


def echo(pipe, *first):
    """Send back what comes, until it is None; exit with what comes if it is a number."""
    pipe.send(first)
    while (message := pipe.recv()) is not None:
        if isinstance(message, int):
            os._exit(message)
        pipe.send(message)


def sleep(pipe):
    pipe.send("sleeps")
    time.sleep(1000)


def ignore_signals(pipe):
    leave_signals_to_the_parent()
    echo(pipe)


def handle_signals(pipe):
    pipe.send(signal.pthread_sigmask(signal.SIG_BLOCK, []) >= set(SENT_TO_ALL))
    pipe.recv()
    signal.signal(signal.SIGTERM, lambda number, frame: pipe.send(number))
    let_signals_in()
    time.sleep(1000)


def last_will(pipe, path):
    """Write a file where the parent is gone, and then hang."""
    leave_signals_to_the_parent()
    pipe.send(os.getpid())
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    Path(path).write_text("saved")
    time.sleep(1000)

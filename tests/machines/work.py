"""What the tests give workers to do."""

import os
import signal
import time
from pathlib import Path

from policygrad.core.errors import EnvironmentFailure


def square(worker, number):
    """The square, and in which process; a few take longer, so that answers cross."""
    worker.held["done"] = worker.held.get("done", 0) + 1
    time.sleep(0.2 if number % 3 == 0 else 0.0)
    return number**2, os.getpid()


def square_or_die(worker, folder, number):
    """Dies at every fourth number, the first time that it is given."""
    once = Path(folder) / str(number)
    if number % 4 == 1 and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def square_or_hang(worker, folder, number):
    """Sleeps for long at the number 2, the first time that it is given."""
    once = Path(folder) / "hung"
    if number == 2 and not once.exists():
        once.touch()
        time.sleep(60)
    return number**2


def die(worker, number):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(worker, number):
    if number == 3:
        raise EnvironmentFailure(f"the environment raised at {number}")
    return number

"""One writer a run: a lock that the system gives back when its holder ends, however it ends."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from policygrad.core.errors import UserError

LOCK, HOLDER = ".lock", ".lock.pid"


@contextlib.contextmanager
def held(run: Path) -> Iterator[None]:
    """Be the one process that writes a run; who only reads it needs no lock.

    Args:
        run: a directory that exists.

    Raises:
        UserError: another process, or another call in this one, is writing the run.
        OSError: the directory cannot be written.
    """
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{run} is being written by {_holder(run)}; wait until it ends, or stop it "
            "(Ctrl-C or kill), and try again"
        ) from None
    except NotImplementedError:
        warnings.warn(
            f"{run} is on a file system without locks: nothing keeps a second process from writing "
            "the run at the same time",
            stacklevel=2,
        )
        yield
        return
    try:
        (run / HOLDER).write_text(f"{os.getpid()}\n")
        yield
    finally:
        with contextlib.suppress(OSError):
            (run / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(run: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return f"process {int((run / HOLDER).read_text())}"
    return "another process"

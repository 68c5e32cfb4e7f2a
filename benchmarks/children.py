"""Child processes that end when the program that started them is interrupted."""

import os
import signal
import subprocess
import threading


class CellFailed(RuntimeError):
    """A child process ended with an error; the message holds the end of what it printed."""


class Children:
    """Processes that were started here. After `stop` none runs, and none is started.

    Attributes:
        grace: seconds that a process has to end by itself before it is killed.
    """

    def __init__(self, grace: float = 10.0) -> None:
        self.grace = grace
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def output_of(self, command: list[str], **environment: str) -> str:
        """What a process printed, once it has ended. May be called from several threads.

        Raises:
            CellFailed: it ended with another code than 0, or `stop` was called.
        """
        with self._lock:
            if self._stopped:
                raise CellFailed("not started: the program was interrupted")
            child = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | environment,
            )
            self._running.add(child)
        try:
            printed, errors = child.communicate()
        except BaseException:  # Ctrl-C where this is the main thread
            child.kill()
            child.wait()
            raise
        finally:
            with self._lock:
                self._running.discard(child)
        if child.returncode:
            raise CellFailed(f"{' '.join(command)} failed:\n{errors[-2000:]}")
        return printed

    def stop(self) -> None:
        """End all of them, and wait until they have ended."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for child in running:
            child.terminate()
        for child in running:
            try:
                child.wait(self.grace)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def interrupt_on_sigterm() -> None:
    """SIGTERM raises KeyboardInterrupt in the main thread, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


CHILDREN = Children()

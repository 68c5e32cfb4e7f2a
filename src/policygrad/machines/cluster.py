"""A connection to Ray: a cluster that is there, or workers on this machine for as long as it is
open."""

import atexit
import contextlib
import os
import shutil
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from policygrad.core.errors import UserError
from policygrad.environments.names import require_extra

PREFIX = "policygrad-"  # of the folder for Ray's files, before the number of the process
CONNECT_SECONDS = 10.0
STORE_BYTES = 512 * 2**20  # of Ray's object store on this machine
EXAMPLE = "--ray 10.0.0.1:6379"


class Cluster:
    """Ray, joined or started.

    Ray that is started here has a folder of its own for its files, and no dashboard; both end with
    `close`. A cluster that was there goes on, and so does Ray where the caller had started it.

    Args:
        address: of a cluster, `host:port`; None for the environment variable RAY_ADDRESS, or else
            for workers on this machine.

    Raises:
        UserError: Ray is not installed, or there is no cluster of the same versions at the address.
    """

    def __init__(self, address: str | None = None) -> None:
        self.ray: Any = require_extra("ray", "collecting with workers")
        # an address that was given is never left out, also where it is empty
        self.address = os.environ.get("RAY_ADDRESS") or None if address is None else address
        self._folder: str | None = None
        self._open = not self.ray.is_initialized()
        if not self._open and address is not None:
            self._check_joined(address)
        if self._open:
            with _signals_kept(), _no_fork_warnings():
                self._start() if self.address is None else self._join()
            atexit.register(self.close)

    def _check_joined(self, address: str) -> None:
        """UserError where Ray runs in this process already, and is not at this address."""
        joined = self.ray.get_runtime_context().gcs_address
        if address != joined:
            raise UserError(
                f"Ray is connected to {joined} in this process already, got the address {address}; "
                "leave it out, or call ray.shutdown() first"
            )

    def _start(self) -> None:
        # the paths of Ray's sockets must be short, so that TMPDIR may be too long
        folder = "/tmp" if os.path.isdir("/tmp") and os.access("/tmp", os.W_OK) else None
        _sweep(folder or tempfile.gettempdir())
        self._folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=folder)
        try:
            self.ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                logging_level="error",
                _temp_dir=self._folder,
                _system_config={"worker_niceness": 0},  # what they do is what is waited for
            )
        except BaseException:
            self.close()
            raise

    def _join(self) -> None:
        assert self.address is not None
        _check_answers(self.address)
        try:
            self.ray.init(address=self.address, logging_level="error")
        except Exception as error:
            self.close()
            told = " ".join(str(error).split())
            raise UserError(
                f"cannot join the Ray cluster at {self.address} (--ray, or RAY_ADDRESS): {told}. "
                "Where the cluster asks for a token, set RAY_AUTH_MODE=token here as on its "
                "machines; see docs/machines.md"
            ) from error

    def require(self, workers: int, cpus: float) -> None:
        """UserError at once where the cluster has no room for the workers, each on one machine.

        Args:
            workers: their number.
            cpus: that each asks for.
        """
        nodes = [node["Resources"].get("CPU", 0.0) for node in self.ray.nodes() if node["Alive"]]
        fits = _room(nodes, cpus)
        if workers <= fits:
            return
        where = f"the cluster at {self.address}" if self.address else "this machine"
        apart = f" on {len(nodes)} machines, and a worker is on one" if len(nodes) > 1 else ""
        some = f"ask for at most {fits} workers, or let" if fits else "let"
        shares = (cpu / n for cpu in nodes for n in range(1, workers + 1) if cpu)
        share = max((s for s in shares if _room(nodes, s) >= workers), default=0.0)
        raise UserError(
            f"--workers {workers} ask for {workers * cpus:g} CPUs, and {where} has {sum(nodes):g}"
            f"{apart}; {some} some share a CPU: --cpus-per-worker {_share(share)}"
        )

    def close(self) -> None:
        """End what was started here; nothing of it is left."""
        atexit.unregister(self.close)
        if self._open:
            self._open = False
            with _signals_kept(), contextlib.suppress(Exception):
                self.ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _sweep(folder: str) -> None:
    """Remove what processes have left that were killed: Ray itself ends with them."""
    for left in Path(folder).glob(f"{PREFIX}*-*"):
        owner = left.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not _runs(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _check_answers(address: str) -> None:
    """UserError at once where nothing listens at `host:port`; Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        if address == "auto":
            return
        raise UserError(
            f"--ray {address} (or RAY_ADDRESS) is no address of a Ray cluster, which is host:port, "
            f"such as {EXAMPLE}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"nothing answers at {address} (--ray, or RAY_ADDRESS): {error}. Start a cluster there "
            f"with `ray start --head`, which prints its address; then: {EXAMPLE}"
        ) from error


def _room(nodes: list[float], cpus: float) -> int:
    """How many workers that ask for so many CPUs find room on machines with so many."""
    return sum(int(cpu / cpus + 1e-9) for cpu in nodes)


def _share(cpus: float) -> str:
    """So many CPUs rounded down to Ray's unit, a ten-thousandth."""
    return f"{int(cpus * 10_000) / 10_000:g}"


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray sets handlers of its own; those of this process stay."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            if handler is not None:
                signal.signal(each, handler)


@contextlib.contextmanager
def _no_fork_warnings() -> Iterator[None]:
    """JAX warns of forks; those of Ray run another program at once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        yield

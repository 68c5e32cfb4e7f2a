"""A worker process of Ray's: it does what it is told, one thing after the other.

Nothing here imports JAX. JAX counts the processors when it starts, so a worker is pinned to its own
before anything that it is told imports JAX.
"""

import contextlib
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from policygrad.core.errors import PolicygradError
from policygrad.machines.versions import Versions

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def environment() -> dict[str, str]:
    """The environment variables of a worker. One thread computes; XLA compiles as in this process,
    so that programs round as they do here."""
    return {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **ONE_THREAD,
    }


class Place(NamedTuple):
    """Where a worker is."""

    node: str
    host: str
    process: int


class Raised(NamedTuple):
    """What a worker raised: the error, its traceback as text, and which worker it was."""

    error: Exception
    traceback: str
    host: str
    process: int


class Worker:
    """A process that holds something between the things that it is told to do.

    Attributes:
        held: what the functions keep here.
    """

    def __init__(self) -> None:
        self.held: dict[Any, Any] = {}

    def place(self) -> Place:
        """Where this process is."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        return Place(node, socket.gethostname(), os.getpid())

    def prepare(self, rank: int, x64: bool) -> Versions:
        """Pin this process to one processor of its machine, and then start JAX.

        Args:
            rank: chooses the processor; those of a run's workers on a machine follow one another.
            x64: the flag `jax_enable_x64`.
        """
        if hasattr(os, "sched_setaffinity"):
            allowed = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {allowed[rank % len(allowed)]})
        versions = Versions.here()
        import jax

        jax.config.update("jax_enable_x64", x64)
        # each result is waited for at once, and another thread would have to be woken for it
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        return versions

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(worker, *args)`, or `Raised`. What Ray itself raises is then never the task's.

        Args:
            function: of a module, so that it is sent by its name.
            args: for it.
        """
        try:
            return function(self, *args)
        except Exception as error:
            told = traceback.format_exc()
            return Raised(_sendable(error), told, socket.gethostname(), os.getpid())


def _sendable(error: Exception) -> Exception:
    """The error, or one with its text where it cannot be sent."""
    with contextlib.suppress(Exception):
        pickle.loads(pickle.dumps(error))
        return error
    return PolicygradError(f"a worker raised {type(error).__name__}: {error}")

"""Compiled programs: how many a process may hold, and what a call on another thread needs.

Each holds some memory maps, of which Linux grants a process 65,530; where none is left, compiling
ends the process. That is some seventy trainings and diagnoses one after another.
"""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

MAPS = Path("/proc/self/maps")


LIMIT = Path("/proc/sys/vm/max_map_count")


def make_room(share: float = 0.5) -> None:
    """Have JAX forget what it compiled where this process holds such a share of its maps.

    What is needed again is compiled again. Nothing happens where the system does not say.
    """
    try:
        held, limit = MAPS.read_bytes().count(b"\n"), int(LIMIT.read_text())
    except (OSError, ValueError):
        return
    if held > share * limit:
        jax.clear_caches()
        gc.collect()


def for_another_thread(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call with this thread's precision, which another thread does not inherit."""
    x64 = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    def run(*arguments: Any) -> Any:
        with jax.enable_x64(x64):
            return call(*arguments)

    return run

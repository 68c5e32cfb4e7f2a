"""Compiled programs: how many a process may hold.

Each holds some memory maps, of which Linux grants a process 65,530; where none is left, compiling
ends the process. That is some seventy trainings and diagnoses one after another.
"""

import gc
from pathlib import Path

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

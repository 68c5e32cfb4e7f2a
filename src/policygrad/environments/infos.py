"""The numbers in an environment's infos."""

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

# what says nothing of the task: successors, statistics that a wrapper keeps, masks, lane numbers
NOT_READ = frozenset(
    ("final_obs", "final_observation", "final_info", "terminal_observation", "episode",
     "action_mask", "action_masks", "env_id", "players")
)  # fmt: skip
MOST_NAMES = 256

Infos = dict[str, tuple[np.ndarray, np.ndarray]]
"""Name -> (values `[B]`, flags `[B]` of the lanes whose info has the name)."""


def numbers_of(info: Mapping[Any, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers in the info of one environment; those in a dict are named `a/b`."""
    found: dict[str, float] = {}
    for name, value in info.items():
        if name in NOT_READ:
            continue
        if isinstance(value, Mapping):
            found |= numbers_of(value, f"{prefix}{name}/")
            continue
        number = number_in(value)
        if number is not None:
            found[f"{prefix}{name}"] = number
    return found


def number_in(value: Any) -> float | None:
    """A finite number: Python's or NumPy's, or an array of one; None for all else."""
    if isinstance(value, np.ndarray):
        if value.shape not in ((), (1,)) or value.dtype.kind not in "fiub":
            return None
        value = value.item()
    if not isinstance(value, (float, int, np.number, np.bool_)) or isinstance(value, complex):
        return None
    try:
        number = float(value)
    except (OverflowError, TypeError):
        return None
    return number if math.isfinite(number) else None


def together(numbers: Iterable[tuple[int, dict[str, float]]], lanes: int) -> Infos:
    """The infos of B lanes, from (lane, numbers) of those that have any."""
    infos: Infos = {}
    for lane, found in numbers:
        for name, value in found.items():
            if name not in infos:
                if len(infos) >= MOST_NAMES:
                    _too_many()
                    break
                infos[name] = np.zeros(lanes), np.zeros(lanes, bool)
            values, present = infos[name]
            values[lane], present[lane] = value, True
    return infos


def _too_many() -> None:
    warnings.warn(
        f"infos hold more than {MOST_NAMES} names of numbers; the others are not logged",
        stacklevel=2,
    )


def of_vector(info: Mapping[str, Any], lanes: int, ended: np.ndarray) -> Infos:
    """The infos of B lanes from what a vector environment returns.

    Args:
        info: name -> `[B]`, beside flags `_name` of the lanes that have it.
        lanes: B.
        ended: `[B]`, lanes that were reset within the step: `final_info` holds their numbers.
    """
    infos = _read(info, lanes)
    final = info.get("final_info")
    if final is None or not ended.any():
        return infos
    if isinstance(final, Mapping):
        at_the_end = _read(final, lanes)
    else:  # an array of dicts, as in earlier versions of Gymnasium
        rows = [(i, numbers_of(f)) for i, f in enumerate(final) if isinstance(f, Mapping)]
        at_the_end = together(rows, lanes)
    merged = {name: (v, p & ~ended) for name, (v, p) in infos.items()}
    for name, (values, present) in at_the_end.items():
        before = merged.get(name, (np.zeros(lanes), np.zeros(lanes, bool)))
        taken = present & ended
        merged[name] = np.where(taken, values, before[0]), before[1] | taken
    return merged


def _read(info: Mapping[str, Any], lanes: int, prefix: str = "") -> Infos:
    found: Infos = {}
    for name, value in info.items():
        if name in NOT_READ or (str(name).startswith("_") and str(name)[1:] in info):
            continue
        if isinstance(value, Mapping):
            found |= _read(value, lanes, f"{prefix}{name}/")
            continue
        array = np.asarray(value)
        if array.shape[:1] != (lanes,) or array.size != lanes or array.dtype.kind not in "fiub":
            continue
        values = array.reshape(lanes).astype(float)
        mask = np.asarray(info.get(f"_{name}", True), bool)
        present = np.broadcast_to(mask, (lanes,)) & np.isfinite(values)
        found[f"{prefix}{name}"] = np.where(present, values, 0.0), present
    return found

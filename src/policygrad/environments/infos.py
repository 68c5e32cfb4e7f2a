"""The numbers in an environment's infos."""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from policygrad.core.numbers import plain_number

T = TypeVar("T")  # a number

# what says nothing of the task: successors, statistics that a wrapper keeps, masks, lane numbers
NOT_READ = frozenset(
    ("final_obs", "final_observation", "final_info", "terminal_observation", "episode",
     "action_mask", "action_masks", "env_id", "players")
)  # fmt: skip
MOST_NAMES = 256
USUAL = (float, np.floating, np.integer, np.bool_)  # numbers that are told apart most quickly

Infos = dict[str, tuple[np.ndarray, np.ndarray]]
"""Name -> (values `[B]`, flags `[B]` of the lanes whose info has the name)."""


class Names:
    """The names of numbers that are kept: the first ones that come, of which there is a limit.

    Args:
        known: those that are kept already.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known = set(known)
        self._told = False

    def takes(self, name: str) -> bool:
        """Whether a number of this name is kept; the first one that is not is told once."""
        if name in self._known:
            return True
        if len(self._known) < MOST_NAMES:
            self._known.add(name)
            return True
        if not self._told:
            self._told = True
            warnings.warn(
                f"infos hold more than {MOST_NAMES} names of numbers; the others are not logged",
                stacklevel=2,
            )
        return False


def number_in(value: Any) -> float | None:
    """A finite number, read as a reward is, but not in a list; None for all else."""
    if isinstance(value, USUAL):
        number = float(value)
    else:
        number = None if isinstance(value, (list, tuple, dict)) else plain_number(value)
    return number if number is not None and math.isfinite(number) else None


def numbers_of(
    info: Mapping[Any, Any], prefix: str = "", read: Callable[[Any], T | None] = number_in
) -> dict[str, T]:
    """The finite numbers in the info of one environment; those in a dict are named `a/b`.

    Args:
        info: of one step.
        prefix: before every name.
        read: a value -> the number in it; None for no number.
    """
    found: dict[str, T] = {}
    for name, value in info.items():
        if name in NOT_READ:
            continue
        number = read(value)
        if number is not None:
            found[f"{prefix}{name}"] = number
        elif isinstance(value, Mapping):
            found |= numbers_of(value, f"{prefix}{name}/", read)
    return found


def together(numbers: Iterable[tuple[int, dict[str, float]]], lanes: int) -> Infos:
    """The infos of B lanes, from (lane, numbers) of those that have any."""
    infos: Infos = {}
    names = Names()
    for lane, found in numbers:
        for name, value in found.items():
            if name not in infos:
                if not names.takes(name):
                    continue
                infos[name] = np.zeros(lanes), np.zeros(lanes, bool)
            values, present = infos[name]
            values[lane], present[lane] = value, True
    return infos


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
        values = _one_a_lane(value, lanes)
        if values is None:
            continue
        mask = np.asarray(info.get(f"_{name}", True), bool)
        present = np.broadcast_to(mask, (lanes,)) & np.isfinite(values)
        found[f"{prefix}{name}"] = np.where(present, values, 0.0), present
    return found


def _one_a_lane(value: Any, lanes: int) -> np.ndarray | None:
    """`[B]`, one number of each lane, NaN where there is none; None if no lane has one."""
    try:
        array = np.asarray(value)
    except Exception:  # lists of unequal lengths
        return None
    if array.shape[:1] != (lanes,):
        return None
    if array.dtype.kind in "fiub":
        return array.reshape(lanes).astype(float) if array.size == lanes else None
    if array.dtype.kind != "O":
        return None
    numbers = [number_in(array[lane]) for lane in range(lanes)]
    if all(number is None for number in numbers):
        return None
    return np.array([np.nan if number is None else number for number in numbers])

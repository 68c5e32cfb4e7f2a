"""`config.json` as it is read: every entry that readers use is of the kind that is written."""

from pathlib import Path
from types import NoneType
from typing import Any

from policygrad.core.errors import RunError
from policygrad.runs import storage

KINDS: dict[str, type | tuple[type, ...]] = {
    "env": (str, NoneType),
    "env_kwargs": dict,
    "config": dict,
    "objects": list,
    "values": dict,
    "optimiser_steps": (list, NoneType),
    "begins_from_a_policy": bool,
    "from": dict,
    "asked": list,
    "changes": list,
    "schedules": list,
}
NAMES = ("objects", "asked", "schedules")  # lists of text


def read(path: Path) -> dict[str, Any]:
    """What a file of a run's settings holds; RunError where it cannot be read or is damaged."""
    saved = storage.read_checked_json(path)
    wrong = [n for n, kinds in KINDS.items() if n in saved and not isinstance(saved[n], kinds)]
    wrong = wrong or [n for n in NAMES if not all(isinstance(x, str) for x in saved.get(n, ()))]
    wrong = wrong or [n for n in ("changes",) if not all(map(_is_change, saved.get(n, ())))]
    steps = saved.get("optimiser_steps") or ()
    wrong = wrong or [n for n in ("optimiser_steps",) if not all(type(x) is float for x in steps)]
    if wrong:
        raise RunError(
            f"{path} does not hold the configuration of a run: {wrong[0]} is "
            f"{repr(saved[wrong[0]])[:100]}"
        )
    return saved


def _is_change(change: Any) -> bool:
    """Whether this is a change of settings in a run that went on."""
    return (
        isinstance(change, dict)
        and type(change.get("env_steps")) is int
        and isinstance(change.get("settings"), dict)
    )

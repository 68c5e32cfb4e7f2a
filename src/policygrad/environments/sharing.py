"""Whether several lanes step one object."""

from collections.abc import Iterable
from typing import Any

from policygrad.core.errors import UserError


def refuse_shared(environments: Iterable[Any]) -> None:
    """Raise UserError if two lanes step one object, also behind wrappers of their own."""
    owner: dict[int, int] = {}
    for lane, env in enumerate(environments):
        for part in parts_of(env):
            if owner.setdefault(id(part), lane) != lane:
                raise UserError(
                    f"environments {owner[id(part)]} and {lane} are one object, {part!r}, so that "
                    "an episode of one would end inside an episode of the other; make a new one in "
                    "every call: train(lambda: MyEnv())"
                )


def parts_of(env: Any) -> list[Any]:
    """An environment and all that it wraps, whatever the attributes are called."""
    found, waiting = {}, [env]
    while waiting:
        part = waiting.pop()
        if id(part) in found:
            continue
        found[id(part)] = part
        waiting += [x for x in _held(part) if _is_environment(x)]
    return list(found.values())


def _held(part: Any) -> list[Any]:
    """The values of an object's attributes, and what stands in those that are lists or dicts."""
    found = []
    for value in getattr(part, "__dict__", {}).values():
        if isinstance(value, (list, tuple)):
            found += value
        elif isinstance(value, dict):
            found += value.values()
        else:
            found.append(value)
    return found


def _is_environment(value: Any) -> bool:
    """Whether an object can be reset and stepped, whatever its class."""
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return False
    return all(callable(getattr(type(value), name, None)) for name in ("reset", "step"))

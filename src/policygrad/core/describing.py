"""A value as JSON, to tell it from others: its class and its plain settings."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from policygrad.core.modules import is_array

SCRIPTS = ("__main__", "__mp_main__")  # a script, and the same in its worker processes


def described(value: Any) -> Any:
    """A value as JSON, to tell it from others: its class and its plain settings.

    Arrays and functions without a name are not told apart.
    """
    if is_array(value):
        if np.ndim(value) or not jnp.issubdtype(value.dtype, jnp.number):
            return "array"
        value = np.asarray(value).item()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value) if hasattr(value, f.name)]
        own = {name: described(getattr(value, name)) for name in names}
        return {"class": type(value).__qualname__, **own}
    if isinstance(value, (list, tuple)):
        return [described(item) for item in value]
    name = getattr(value, "__qualname__", type(value).__qualname__)
    return "function" if "<" in name else name


def agree(a: Any, b: Any, *, classes_alone: bool = False) -> bool:
    """Whether two descriptions agree, in all that both of them tell.

    Args:
        a, b: of `described`.
        classes_alone: compare the classes and not the settings.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        both = a.keys() & b.keys()
        return a["class"] == b["class"] and all(
            agree(a[name], b[name], classes_alone=classes_alone) for name in both
        )
    if isinstance(a, list) and isinstance(b, list):
        return classes_alone or (len(a) == len(b) and all(map(agree, a, b)))
    return classes_alone or a == b


def described_without_arrays(value: Any) -> Any:
    """A pytree as `described` tells it, with nothing of its arrays: not of the single numbers among
    them either, which are saved by themselves."""
    return described(jax.tree.map(lambda leaf: "array" if is_array(leaf) else leaf, value))


def differences(a: Any, b: Any, place: str = "") -> Iterator[str]:
    """Where two descriptions of one class differ, in what both of them tell, as `place: a, b`.

    Args:
        a, b: of `described`.
        place: of both in what is described.
    """
    if (
        isinstance(a, dict)
        and isinstance(b, dict)
        and (a.get("class", b.get("class")) == b.get("class", a.get("class")))
    ):
        for name in sorted(a.keys() & b.keys()):
            yield from differences(a[name], b[name], f"{place}.{name}".lstrip("."))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from differences(x, y, f"{place}[{i}]")
    elif a != b:
        yield f"{place} was {_short(a)} and is {_short(b)}"


def _short(description: Any) -> str:
    """A description in a few words: of a record its class alone."""
    return str(description["class"] if isinstance(description, dict) else description)[:60]


def class_name(value: Any) -> str:
    """The name under which the class of a value is recorded."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def is_of_class(value: Any, name: str) -> bool:
    """Whether a value's class has been recorded under a name. A class of a script is found in
    `__main__` while the script runs, and in a module where it is imported."""
    own = type(value).__qualname__
    of_a_script = [f"{script}.{own}" for script in SCRIPTS]
    if type(value).__module__ in SCRIPTS and name.endswith(f".{own}"):
        return True
    return name in (class_name(value), *of_a_script)

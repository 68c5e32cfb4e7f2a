"""Ranges of settings, and errors that name a setting, its value and what is allowed.

A record of settings is a frozen dataclass whose fields are annotated with their range,
`target_kl: NonNegative = 0.01`, and followed by one sentence of help. It is plain data: nothing
here needs JAX.
"""

import contextlib
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from policygrad.core.errors import UserError


@dataclass(frozen=True)
class In:
    """A range that a number must lie in; the ends belong to it unless `open_low` says otherwise."""

    low: float
    high: float = math.inf
    open_low: bool = False

    def __contains__(self, x: object) -> bool:
        if isinstance(x, bool) or not isinstance(x, Real):
            return False
        try:
            number = float(x)
        except OverflowError:  # a whole number beyond all floats
            return False
        if not math.isfinite(number):
            return False
        above = number > self.low if self.open_low else number >= self.low
        return above and number <= self.high

    def __str__(self) -> str:
        if self.low == -math.inf and self.high == math.inf:
            return "a finite number"
        if self.high == math.inf:
            return f"{'more than' if self.open_low else 'at least'} {self.low:g}"
        return f"{'above' if self.open_low else 'from'} {self.low:.10g} to {self.high:.10g}"


@dataclass(frozen=True)
class Bits:
    """How many bits a whole number may take: that of a count is computed with on a device."""

    count: int

    @property
    def largest(self) -> int:
        """The largest number."""
        return 2 ** (self.count - 1) - 1


Count = Annotated[int, In(1), Bits(32)]
LongCount = Annotated[int, In(1), Bits(63)]
Unit = Annotated[float, In(0, 1)]
Positive = Annotated[float, In(0, open_low=True)]
NonNegative = Annotated[float, In(0)]
# seconds that a timer can wait for: neither rounded to nothing nor beyond its range
Timeout = Annotated[float, In(0.001, 1_000_000)]


def flag(name: str) -> str:
    """The command-line spelling of a setting."""
    return "--" + name.replace("_", "-")


def plain_value(kind: Any, value: Any) -> Any:
    """A value as a configuration holds it, where it is clear what is meant; else as it was given.

    Numbers and flags of NumPy become Python's, a whole float becomes an integer where one is
    wanted and an integer a float, and a list, or one number where a list is wanted, a tuple.
    """
    shape = getattr(value, "shape", None)  # of NumPy's numbers and arrays
    if shape == ():
        value = value.item()
    options = _options(kind)
    lists = [option for option in options if get_origin(option) is tuple]
    if lists:
        item = get_args(lists[0])[0]
        if isinstance(value, (list, tuple)) or shape:
            return tuple(plain_value(item, x) for x in value)
        if isinstance(value, Real) and not isinstance(value, bool):
            return (plain_value(item, value),)
        return value
    bases = {getattr(option, "__origin__", option) for option in options}
    if isinstance(value, float) and value.is_integer() and int in bases and float not in bases:
        return int(value)
    if type(value) is int and float in bases and int not in bases:
        with contextlib.suppress(OverflowError):  # beyond all floats: its range refuses it
            return float(value)
    return value


def check_setting(name: str, kind: Any, value: Any) -> None:
    """Raise UserError unless a value is of a setting's type and in its range.

    Args:
        name: of the setting.
        kind: its annotation: a type, a `Literal`, an `Annotated` with a range, a tuple of one of
            these, or a union of them with None.
        value: what was given.
    """
    for option in _options(kind):
        each = get_origin(option) is tuple and get_args(option)[1:] == (...,)
        if each and isinstance(value, (tuple, list)):
            for item in value:
                check_setting(name, get_args(option)[0], item)
            return
    problem = _problem(kind, value)
    if problem is not None:
        what = f"; {in_place_of_a_function(name, kind)}" if callable(value) else ""
        raise UserError(f"{flag(name)} must be {problem}, got {value!r}{hint(value, kind)}{what}")


def in_place_of_a_function(name: str, kind: Any = float) -> str:
    """What there is where a function was given as the value of a setting.

    Args:
        name: of the setting.
        kind: its annotation.
    """
    told = "a function or a schedule is not taken here"
    if float not in {getattr(option, "__origin__", option) for option in _options(kind)}:
        return told
    linear = 'step_size_schedule="linear" shrinks steps to zero over the run, and '
    return (
        f"{told}: {linear if name == 'step_size' else ''}on_update=policygrad.callbacks.schedule("
        f'"{name}", FUNCTION) changes a number as the run goes on, by the environment steps so far'
    )


def _problem(kind: Any, value: Any) -> str | None:
    """What a value of this kind must be, where it is not; None where it is."""
    options = _options(kind)
    problems = [_problem_of_one(option, value) for option in options]
    if None in problems:
        return None
    wanted = sorted((p for p in problems if p), key=lambda p: "number" in p)  # words first
    return ", or ".join(dict.fromkeys(wanted)) or None


def _options(kind: Any) -> list[Any]:
    """The members of a union, or the kind alone."""
    if get_origin(kind) not in (Union, UnionType):
        return [kind]
    return [option for member in get_args(kind) for option in _options(member)]


def _problem_of_one(kind: Any, value: Any) -> str | None:
    if kind is type(None):
        return None if value is None else ""
    if get_origin(kind) is Literal:
        words = [str(word) for word in get_args(kind)]
        one_of = "one of " * (len(words) > 1)
        return None if value in get_args(kind) else one_of + ", ".join(words)
    if get_origin(kind) is tuple:
        return f"a list of numbers, each {_words(get_args(kind)[0])}"
    ranges = [m for m in getattr(kind, "__metadata__", ()) if isinstance(m, In)]
    plain = getattr(kind, "__origin__", kind)
    if plain is bool:
        return None if isinstance(value, bool) else "True or False"
    if plain is int:
        fits = isinstance(value, Integral) and not isinstance(value, bool)
    elif plain is float:
        fits = isinstance(value, Real) and not isinstance(value, bool)
    elif plain is str:
        return None if isinstance(value, str) else "text"
    else:
        return None
    largest = _largest(kind)
    if largest is not None and isinstance(value, Integral) and int(value) > largest:
        return f"a whole number of at most {largest}"
    return None if fits and all(value in r for r in ranges) else _words(kind)


def _largest(kind: Any) -> int | None:
    found = [m.largest for m in getattr(kind, "__metadata__", ()) if isinstance(m, Bits)]
    return found[0] if found else None


def _words(kind: Any) -> str:
    ranges = [str(m) for m in getattr(kind, "__metadata__", ()) if isinstance(m, In)]
    whole = getattr(kind, "__origin__", kind) is int
    return "a whole number " * whole + " and ".join(ranges) if ranges else "a number"


def hint(value: Any, kind: Any) -> str:
    """'; did you mean …?' with the nearest of a setting's words; or that a number stands in quotes;
    '' where there is nothing to say."""
    if not isinstance(value, str):
        return ""
    options = _options(kind)
    words = [w for option in options if get_origin(option) is Literal for w in get_args(option)]
    near = did_you_mean(value, words)
    if near or not {getattr(option, "__origin__", option) for option in options} & {int, float}:
        return near
    with contextlib.suppress(ValueError):
        float(value)
        return "; that is text: write the number without quotes"
    return ""


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """'; did you mean …?' with the nearest known word; '' where none is near."""
    close = difflib.get_close_matches(value.lower(), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def chosen(name: str, value: str, choices: Iterable[str]) -> str:
    """The choice that a user named, with _ or -; UserError with the nearest otherwise."""
    choices, spelled = list(choices), str(value).replace("_", "-").lower()
    if spelled in choices:
        return spelled
    near = did_you_mean(spelled, choices) or f"; choose from {', '.join(choices)}"
    raise UserError(f"{flag(name)}: unknown value {value!r}{near}")

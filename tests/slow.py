"""Parametrised tests of which some cases run on demand only (`pytest -m slow`)."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest

slow = pytest.mark.slow


def params(cases: Mapping[str, Any] | Iterable[Any], slow_ones: Collection[str]) -> list[Any]:
    """The cases as parameters under their names; those in `slow_ones` are marked as slow.

    Args:
        cases: name -> value, or a tuple of values; without a mapping, a case is its own name.
        slow_ones: names of cases.
    """
    named = cases if isinstance(cases, Mapping) else {str(case): case for case in cases}
    assert set(slow_ones) < set(named), f"no such case: {set(slow_ones) - set(named)}"
    return [
        pytest.param(
            *(value if type(value) is tuple else (value,)),  # a NamedTuple is one value
            id=name,
            marks=slow if name in slow_ones else (),
        )
        for name, value in named.items()
    ]

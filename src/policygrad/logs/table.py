"""What a log holds: columns of numbers, each with the steps at which they were written."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Column:
    """Numbers that were logged under one name.

    Attributes:
        steps: `[N]`, not falling: environment steps, or numbers of rows, as the log counts.
        values: `[N]`; NaN and infinity only where they were logged as such.
    """

    steps: Float[np.ndarray, " N"]
    values: Float[np.ndarray, " N"]

    def __add__(self, later: "Column") -> "Column":
        """The numbers of both, one after the other."""
        return Column(
            np.concatenate([self.steps, later.steps]), np.concatenate([self.values, later.values])
        )

    @property
    def finite(self) -> Float[np.ndarray, " M"]:
        """The values that are neither NaN nor infinite."""
        return self.values[np.isfinite(self.values)]

    def along(self, axis: Float[np.ndarray, " U"]) -> Float[np.ndarray, " U"]:
        """The mean of the finite values up to each step of the axis, since the one before.

        NaN where nothing was logged in between. What was logged after the end counts to the end.

        >>> Column(np.array([1.0, 2, 3, 9]), np.array([4.0, 6, 7, 9])).along(np.array([2.0, 3, 8]))
        array([5., 7., 9.])
        """
        kept = np.isfinite(self.values)
        place = np.minimum(np.searchsorted(axis, self.steps[kept]), len(axis) - 1)
        sums = np.bincount(place, self.values[kept], len(axis))
        counts = np.bincount(place, minlength=len(axis))
        return np.divide(sums, counts, out=np.full(len(axis), np.nan), where=counts > 0)


@dataclass(frozen=True)
class Table:
    """A log as it was read.

    Attributes:
        columns: name -> numbers.
        texts: name -> text, such as a table of settings.
        settings: name -> value, from a file of settings beside the log.
        files: what was read.
        monitors: how many files of episodes there were.
        notes: what was done in reading that changes what is read.
    """

    columns: Mapping[str, Column]
    texts: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    monitors: int = 0
    notes: tuple[str, ...] = ()

    def __or__(self, other: "Table") -> "Table":
        """Both, where a name that both have is that of the first."""
        return Table(
            {**other.columns, **self.columns},
            {**other.texts, **self.texts},
            {**other.settings, **self.settings},
            (*self.files, *other.files),
            self.monitors + other.monitors,
            (*self.notes, *other.notes),
        )


def going_on(count: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """A counter that begins anew wherever it falls, as one that goes on. NaN stays as it is.

    >>> going_on(np.array([1.0, 3, 2, 4, 1]))
    array([1., 3., 5., 7., 8.])
    """
    known = np.isfinite(count)
    found, finite = count.copy(), count[known]
    before = np.concatenate([finite[:1], finite[:-1]])
    found[known] = finite + np.cumsum(np.where(finite < before, before, 0.0))
    return found


def table_of_rows(rows: Iterable[Mapping[str, Any]], file: str) -> Table:
    """Rows of numbers as columns over the number of the row; what is no number is left out."""
    found: dict[str, list[tuple[int, float]]] = {}
    for number, row in enumerate(rows):
        for name, value in row.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found.setdefault(name, []).append((number, _float(value)))
    columns = {}
    for name, pairs in found.items():
        both = np.array(pairs, np.float64)
        columns[name] = Column(both[:, 0], both[:, 1])
    return Table(columns, files=(file,))


def _float(value: float) -> float:
    """The nearest float; a whole number beyond all floats is infinite, as 1e400 is in a file."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf

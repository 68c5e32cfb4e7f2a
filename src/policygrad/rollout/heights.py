"""The rows and columns that a record of whole episodes is padded to: few shapes are compiled.

The lengths of episodes differ from batch to batch, and another shape compiles another update. So a
record gets room for the longest episode that there can be. What learns from it computes its
networks on the steps alone (`Trajectories.mostly_padding`): the room costs memory, and little time.
"""

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from policygrad.core.trajectories import Trajectories
from policygrad.devices.chunks import numbers_of_a_row

ROOM = 2**22  # numbers in a record, those of its padding too
LEAST_ROWS = 16


def trim(trajectories: Trajectories, least: int = LEAST_ROWS) -> Trajectories:
    """A record of whole episodes without most of its padding, in NumPy arrays.

    It is cut to the smallest power of two (times 1 or 1.5) that holds the longest episode, greedy
    ones too. Not for use inside compiled code.
    """
    record = jax.device_get(trajectories)  # JAX would compile a program for each shape
    rows = min(padded_length(longest(record), least), len(record.valid))
    return of_shape(record, rows)


def with_room(trajectories: Trajectories, limit: int, columns: int) -> Trajectories:
    """A record of whole episodes with rows up to a limit, and so many columns, `mostly_padding`.

    It holds at most 2²² numbers (16 MiB in 32 bits), or at most twice as many as its steps need,
    padded to the longest: if the limit needs more, it gets as many rows as fit, a power of two,
    doubled until the longest episode fits; if the columns need more, none is added. Not for use
    inside compiled code.

    Args:
        trajectories: each column an episode.
        limit: steps of the longest episode that there can be.
        columns: as many as the record has, or more.
    """
    needed, step = longest(trajectories), numbers_of_a_row(_rows(trajectories), 2)
    if needed * columns * step > ROOM:
        columns = trajectories.valid.shape[1]
    rows, fit = limit, ROOM // (columns * step)
    if limit > fit:
        rows = max(LEAST_ROWS, power_of_two(fit + 1) // 2)
    while rows < needed:
        rows *= 2
    rows = min(rows, limit) if needed <= limit else rows
    return replace(of_shape(trajectories, rows, columns), mostly_padding=True)


def of_shape(trajectories: Trajectories, rows: int, columns: int | None = None) -> Trajectories:
    """A record of whole episodes, cut or padded to so many rows and padded to so many columns.

    What is added holds no step. In NumPy, since JAX compiles a program for every pair of shapes.
    Not for use inside compiled code.

    Args:
        trajectories: with no step in the rows that are cut off.
        rows: T.
        columns: B, at least as many as there are; None for those.
    """
    columns = columns or trajectories.valid.shape[1]

    def resized(x: Any, rows: int) -> np.ndarray:
        x = np.asarray(x)[:rows]
        if x.shape[:2] == (rows, columns):
            return x
        filled = np.zeros((rows, columns, *x.shape[2:]), x.dtype)
        filled[: len(x), : x.shape[1]] = x
        return filled

    of_columns = {name: getattr(trajectories, name) for name in WITHOUT_ROWS}
    return replace(
        jax.tree.map(lambda x: resized(x, rows), _rows(trajectories)),
        **jax.tree.map(lambda x: resized(x, len(x)), of_columns),
    )


WITHOUT_ROWS = "cut_observations", "cut_times", "carry"  # have no row for every step


def _rows(trajectories: Trajectories) -> Trajectories:
    """The record without the arrays that have no row for every step."""
    return replace(trajectories, **dict.fromkeys(WITHOUT_ROWS))


def longest(trajectories: Trajectories) -> int:
    """Steps of the longest episode of a record, greedy ones too."""
    greedy = () if trajectories.greedy is None else (trajectories.greedy.valid,)
    ends = [np.flatnonzero(np.any(v, axis=1)) for v in (trajectories.valid, *greedy)]
    return max(int(rows[-1]) + 1 for rows in ends if len(rows))


def padded_length(length: int, least: int = LEAST_ROWS) -> int:
    """The smallest of least, 1.5 least, 2 least, 3 least, 4 least… that holds `length` rows."""
    size = least
    while size < length:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return size


def power_of_two(number: int, least: int = 1) -> int:
    """The smallest power of two that is at least `number` and `least`, itself a power of two."""
    return max(least, 1 << max(number - 1, 0).bit_length())

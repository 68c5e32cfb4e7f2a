"""How many rows a record of whole episodes is padded to, so that few shapes are compiled."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from policygrad.core.trajectories import Trajectories


def trim(trajectories: Trajectories, least: int = 16) -> Trajectories:
    """A record of whole episodes without most of its padding.

    It is cut to the smallest power of two (times 1 or 1.5) that holds the longest episode, greedy
    ones too, so that few shapes are compiled. Not for use inside compiled code.
    """
    greedy = trajectories.greedy
    used = trajectories.valid if greedy is None else trajectories.valid | greedy.valid
    longest = int(jnp.sum(jnp.any(used, axis=1)))
    rows = min(padded_length(longest, least), trajectories.valid.shape[0])
    return _with_rows(trajectories, lambda x: x[:rows])


def padded(trajectories: Trajectories, rows: int) -> Trajectories:
    """A record of whole episodes, padded to so many rows; the added rows hold no step.

    In NumPy, since JAX compiles a program for every pair of shapes. Not for use inside compiled
    code.
    """
    missing = rows - trajectories.valid.shape[0]
    return _with_rows(
        trajectories,
        lambda x: np.pad(np.asarray(x), [(0, missing)] + [(0, 0)] * (x.ndim - 1)),
    )


def _with_rows(trajectories: Trajectories, change: Callable[[Any], Any]) -> Trajectories:
    """The record with other rows; arrays without a row for every step are kept as they are."""
    return replace(
        jax.tree.map(change, trajectories),
        cut_observations=trajectories.cut_observations,
        cut_times=trajectories.cut_times,
        carry=trajectories.carry,
    )


def padded_length(length: int, least: int = 16) -> int:
    """The smallest of least, 1.5 least, 2 least, 3 least, 4 least… that holds `length` rows."""
    size = least
    while size < length:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return size

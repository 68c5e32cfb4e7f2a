"""A batch of whole episodes in chunks of similar length, so that little of a chunk is padding."""

from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int, PyTree

from policygrad.core.trajectories import Trajectories
from policygrad.rollout.heights import padded_length


class Chunk(NamedTuple):
    """Some units of a batch, of similar length.

    Attributes:
        height: T, the number of rows that hold all of them.
        units: `[m]`, their numbers in the batch; entries from `there` on only fill the shape.
        there: how many units there are, at most m.
    """

    height: int
    units: Int[np.ndarray, " m"]
    there: int


def chunks(
    valid: Bool[np.ndarray, "T N"], rows: int, most: int = 2**31, size: int = 1
) -> list[Chunk]:
    """A batch in chunks of at most `most` units of similar length, the longest first.

    The number of rows of a chunk is a power of two, times 1 or 1.5, so that few shapes are
    compiled.

    Args:
        valid: of the batch.
        rows: T·m of a chunk, about.
        most: units.
        size: how many episodes in a row are a unit, which is as long as the longest of them.
    """
    lengths = valid.sum(axis=0).reshape(-1, size).max(axis=1, initial=0)
    heights = _heights(lengths, len(valid))
    if valid.size <= rows:
        heights[:] = heights.max(initial=0)
    most = min(most, padded_length(len(heights)))
    found = []
    for height in np.unique(heights)[::-1].tolist():
        alike = np.flatnonzero(heights == height)
        width = min(max(rows // (height * size), 1), most)
        for start in range(0, len(alike), width):
            units = alike[start : start + width]
            filled = np.pad(units, (0, width - len(units)), mode="edge")
            found.append(Chunk(height, filled, len(units)))
    return found


def cut(
    batch: Trajectories, extra: PyTree, height: int, units: Int[np.ndarray, " m"]
) -> tuple[Trajectories, PyTree]:
    """Some units of a batch, and of further arrays `[..., T, N]` of every step."""
    size = batch.group_size
    columns = (units[:, None] * size + np.arange(size)).ravel()
    part = jax.tree.map(lambda x: x[:height, columns], batch)
    part = replace(
        part,
        cut_observations=jax.tree.map(lambda x: x[:, columns], batch.cut_observations),
        cut_times=batch.cut_times[:, columns],
    )
    return part, jax.tree.map(lambda x: x[..., :height, columns], extra)


def _heights(lengths: Int[np.ndarray, " N"], most: int) -> Int[np.ndarray, " N"]:
    """The number of rows for each episode: its padded length, at most `most`."""
    sizes = [padded_length(1)]
    while sizes[-1] < most:
        sizes.append(padded_length(sizes[-1] + 1))
    return np.minimum(np.array(sizes)[np.searchsorted(sizes, lengths)], most)

"""From whole episodes to group sums, episode by episode: memory is that of a batch."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from policygrad.diagnostics.intervals import GROUPS, GroupSums
from policygrad.diagnostics.lengths import CLASSES
from policygrad.errors import UserError
from policygrad.estimators import Estimator, EstimatorState, Weights
from policygrad.rollout.compiled import padded_length
from policygrad.types import Trajectories, split

Episodes = Trajectories | Iterable[Trajectories]
Reduce = Callable[[Any, Trajectories, PyTree], dict[str, Any]]

# steps that are sent to the device at a time
ROWS = 8192


class Classed(NamedTuple):
    """Rows that are summed by a class of their own, in place of their episode's group.

    Attributes:
        of: `[m]`, from 0 to `CLASSES` − 1.
        rows: `[m, ...]`; or their sums, `[CLASSES, ...]`, where `of` is None.
    """

    of: Any
    rows: Any


class Chunk(NamedTuple):
    """Some episodes of a batch, of like length.

    Attributes:
        trajectories: m columns, cut to T rows; columns from `episodes` on only fill the shape.
        extra: pytree of `[..., T, m]`, what else is known of every step.
        groups: `[m]`, the group of each episode.
        episodes: how many there are, m or less.
    """

    trajectories: Trajectories
    extra: PyTree
    groups: Int[np.ndarray, " m"]
    episodes: int


def stream(
    policy: Any,
    episodes: Episodes,
    weigh: Callable[[Trajectories], PyTree],
    reduce: Reduce,
    *,
    groups: int = GROUPS,
    rows: int = ROWS,
) -> GroupSums:
    """Sums over groups of what `reduce` makes of every episode.

    Args:
        policy: passed on to `reduce`.
        episodes: whole episodes, or batches of them one after another.
        weigh: batch -> pytree of `[..., T, B]`: the weights, which may depend on the whole batch.
        reduce: `(policy, trajectories, weights) -> name -> [m, ...]`, a row an episode, or
            `Classed` rows. Compiled; equal values compile once.
        groups: K.
        rows: T·m of a chunk, about; where it holds a batch, one shape compiles.

    Raises:
        UserError: segments in place of whole episodes, or fewer than two episodes.
    """
    total = None
    seen = 0
    for batch in [episodes] if isinstance(episodes, Trajectories) else episodes:
        if not batch.whole_episodes:
            raise UserError(
                f"the diagnostics need whole episodes, got segments of {batch.rewards.shape[0]} "
                "steps; collect with episodes= in place of steps="
            )
        columns = batch.rewards.shape[1]
        sums: Any = None
        for chunk in chunks(batch, weigh(batch), first=seen, groups=groups, rows=rows):
            known = policy, chunk.trajectories, chunk.extra
            sums = _begin(reduce, groups, *known) if sums is None else sums
            sums = _accumulate(
                reduce, sums, *known, jnp.asarray(chunk.groups), jnp.int32(chunk.episodes)
            )
        counts = np.bincount((seen + np.arange(columns)) % groups, minlength=groups)
        part = grouped(counts, sums or {})
        total = part if total is None else total + part
        seen += columns
    if total is None or seen < 2:
        raise UserError(f"the diagnostics need at least 2 episodes, got {seen}")
    present = total.counts > 0
    kept = {k: v[present] for k, v in total.sums.items()}
    return replace(total, counts=total.counts[present], sums=kept).folded()


def grouped(counts: np.ndarray, sums: dict[str, Any]) -> GroupSums:
    """Sums in float64, those over groups apart from those over classes."""
    of_groups = {k: v for k, v in sums.items() if not isinstance(v, Classed)}
    of_classes = {k: v.rows for k, v in sums.items() if isinstance(v, Classed)}
    return GroupSums(
        np.asarray(counts, np.float64),
        {k: np.asarray(v, np.float64) for k, v in of_groups.items()},
        {k: np.asarray(v, np.float64) for k, v in of_classes.items()},
    )


def zeros_for(rows: dict[str, Any], groups: int) -> dict[str, Any]:
    """What rows of these shapes are added to."""

    def zeros(x: Any) -> Any:
        if isinstance(x, Classed):
            return Classed(None, jnp.zeros((CLASSES, *x.rows.shape[1:]), x.rows.dtype))
        return jnp.zeros((groups, *x.shape[1:]), x.dtype)

    return {k: zeros(x) for k, x in rows.items()}


def add_rows(
    sums: dict[str, Any], rows: dict[str, Any], groups: Int[Array, " m"]
) -> dict[str, Any]:
    """Sums with every row added to its episode's group, or to its own class."""

    def add(total: Array, index: Array, x: Array) -> Array:
        # what is by step may be shorter than the longest episode's
        return total.at[(index, *(slice(n) for n in x.shape[1:]))].add(x)

    def one(total: Any, x: Any) -> Any:
        if isinstance(x, Classed):
            return Classed(None, add(total.rows, x.of, x.rows))
        return add(total, groups, x)

    return {k: one(sums[k], x) for k, x in rows.items()}


@eqx.filter_jit
def _begin(reduce: Reduce, groups: int, *known: Any) -> dict[str, Any]:
    return zeros_for(jax.eval_shape(reduce, *known), groups)


@eqx.filter_jit
def _accumulate(
    reduce: Reduce,
    sums: dict[str, Any],
    policy: Any,
    trajectories: Trajectories,
    extra: PyTree,
    groups: Int[Array, " m"],
    count: Int[Array, ""],
) -> dict[str, Any]:
    """Episode by episode: one gradient stays in the near cache, and no padding is visited."""

    def column(x: Array, i: Array, axis: int) -> Array:
        return jax.lax.dynamic_slice_in_dim(x, i, 1, axis)

    def add(i: Array, sums: dict[str, Any]) -> dict[str, Any]:
        one = jax.tree.map(lambda x: column(x, i, 1), trajectories)
        rows = reduce(policy, one, jax.tree.map(lambda x: column(x, i, x.ndim - 1), extra))
        return add_rows(sums, rows, groups[i][None])

    return jax.lax.fori_loop(0, count, add, sums)


def chunks(
    batch: Trajectories, extra: PyTree, *, first: int, groups: int, rows: int
) -> Iterator[Chunk]:
    """A batch in chunks of episodes of like length, the longest first.

    The rows of a chunk are a power of two, times 1 or 1.5, so that few shapes ever compile.
    """
    valid = np.asarray(batch.valid)
    heights = _heights(valid.sum(axis=0), len(valid))
    if valid.size <= rows:
        heights[:] = heights.max(initial=0)
    batch, extra = jax.tree.map(np.asarray, (batch, extra))
    most = padded_length(len(heights))
    for height in np.unique(heights)[::-1].tolist():
        alike = np.flatnonzero(heights == height)
        width = min(max(rows // height, 1), most)
        for start in range(0, len(alike), width):
            columns = alike[start : start + width]
            count = len(columns)
            columns = np.pad(columns, (0, width - count), mode="edge")
            yield Chunk(
                _columns(batch, columns, height),
                jax.tree.map(lambda x, c=columns, h=height: x[..., :h, c], extra),
                ((first + columns) % groups).astype(np.int32),
                count,
            )


def _heights(lengths: Int[np.ndarray, " N"], most: int) -> Int[np.ndarray, " N"]:
    """The rows that each episode is given: its length padded, at most those that there are."""
    sizes = [padded_length(1)]
    while sizes[-1] < most:
        sizes.append(padded_length(sizes[-1] + 1))
    return np.minimum(np.array(sizes)[np.searchsorted(sizes, lengths)], most)


def _columns(batch: Trajectories, columns: np.ndarray, height: int) -> Trajectories:
    cut = jax.tree.map(lambda x: x[:height, columns], batch)
    return replace(
        cut,
        cut_observations=jax.tree.map(lambda x: x[:, columns], batch.cut_observations),
        cut_times=batch.cut_times[:, columns],
    )


@jax.jit
def weights_of(estimator: Estimator, state: EstimatorState, trajectories: Trajectories) -> Weights:
    """The estimator's weights of a batch, compiled."""
    return estimator.weights(state, trajectories)


class Part(NamedTuple):
    """One leaf of the parameters: its name, and where it lies in the flat gradient."""

    name: str
    start: int
    stop: int


def parts_of(policy: Any) -> tuple[Part, ...]:
    """The differentiated leaves by path, such as `network.weights.0`."""
    leaves = jax.tree_util.tree_leaves_with_path(split(policy)[0])
    stops = np.cumsum([np.size(leaf) for _, leaf in leaves]).tolist()
    return tuple(
        Part(jax.tree_util.keystr(path, simple=True, separator="."), stop - np.size(leaf), stop)
        for (path, leaf), stop in zip(leaves, stops, strict=True)
    )


def flatten(gradients: PyTree) -> Float[Array, "m d"]:
    """Gradients with a leading axis m as one vector each."""
    return jnp.concatenate([g.reshape(len(g), -1) for g in jax.tree.leaves(gradients)], axis=1)


def by_part(gradients: PyTree) -> Float[Array, "m P"]:
    """‖·‖² of every leaf of gradients with a leading axis m."""
    leaves = jax.tree.leaves(gradients)
    return jnp.stack([jnp.sum(g.reshape(len(g), -1) ** 2, axis=1) for g in leaves], axis=1)

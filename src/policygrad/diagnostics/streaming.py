"""From whole episodes to group sums, episode by episode; memory holds one batch.

The episodes that start together are one unit, and go to one group of the jackknife: they depend on
each other. Without groups of starts, an episode is a unit.

A batch is cut into chunks of units of similar length (`chunking`). Two threads process the chunks,
each with sums of its own. A chunk is the work of one core. Which thread takes which chunk follows
from the batch alone, so results do not depend on the number of cores. A GPU takes the episodes of a
chunk at once, as many as a fixed amount of memory can hold gradients of.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from policygrad.core.errors import NonFiniteError, UserError
from policygrad.core.modules import split
from policygrad.core.trajectories import Trajectories
from policygrad.devices.compiled_code import (
    SAME_EVERYWHERE,
    compiled_for_modules,
    for_another_thread,
)
from policygrad.diagnostics.chunking import Chunk, chunks, cut
from policygrad.diagnostics.intervals import GROUPS, GroupSums
from policygrad.diagnostics.lengths import CLASSES
from policygrad.gradients.weights import Estimator, EstimatorState, Weights

Episodes = Trajectories | Iterable[Trajectories]
Reduce = Callable[[Any, Trajectories, PyTree], dict[str, Any]]

# steps that are sent to the device at a time
ROWS = 32_768
THREADS = 2
BYTES = 2**28  # for the rows of episodes that are taken at once


class Classed(NamedTuple):
    """Rows that are summed by class instead of by the group of their episode.

    Attributes:
        of: `[m]`, the class of each row, from 0 to `CLASSES` − 1.
        rows: `[m, ...]`; or, if `of` is None, their sums `[CLASSES, ...]`.
    """

    of: Any
    rows: Any


class Rows(NamedTuple):
    """What is summed over episodes.

    Attributes:
        weigh: batch -> pytree of `[..., T, B]`: the weights, which may depend on the whole batch.
        reduce: `(policy, trajectories, weights) -> name -> [m, ...]`, one row an episode, or
            `Classed` rows. It is compiled once for each value of `reduce`.
        by_unit: whether there is one row for all episodes that start together, in place of one for
            each.
    """

    weigh: Callable[[Trajectories], PyTree]
    reduce: Reduce
    by_unit: bool = False


def stream(
    policy: Any,
    episodes: Episodes,
    summed: Rows,
    *,
    groups: int = GROUPS,
    rows: int = ROWS,
) -> GroupSums:
    """Sums over groups of the rows of every episode.

    Args:
        policy: passed on to `summed.reduce`.
        episodes: whole episodes, or an iterable of batches of them.
        summed: what is summed.
        groups: K.
        rows: T·m of a chunk, about. If a batch fits, only one shape is compiled.

    Raises:
        UserError: segments in place of whole episodes, or fewer than two episodes or groups.
        NonFiniteError: a gradient that is NaN or infinite.
    """
    check_groups(groups)
    total = None
    seen = 0
    for batch in [episodes] if isinstance(episodes, Trajectories) else episodes:
        if not batch.whole_episodes:
            raise UserError(
                f"the diagnostics need whole episodes, got segments of {batch.rewards.shape[0]} "
                "steps; collect with episodes= in place of steps="
            )
        columns = batch.rewards.shape[1]
        if not columns:
            continue
        part = sums_of_batch(policy, batch, summed, first=seen, groups=groups, rows=rows)
        if total is not None and total.size != part.size:
            raise UserError(
                f"all batches must have one group_size, got {total.size} and {part.size}"
            )
        total = part if total is None else total + part
        seen += columns
    if total is None or seen < 2:
        raise UserError(f"the diagnostics need at least 2 episodes, got {seen}")
    return total


def sums_of_batch(
    policy: Any,
    batch: Trajectories,
    summed: Rows,
    *,
    first: int = 0,
    groups: int = GROUPS,
    rows: int = ROWS,
) -> GroupSums:
    """Sums over groups of the rows of the episodes of one batch.

    Args:
        policy, summed, groups, rows: as in `stream`.
        batch: whole episodes, one or more.
        first: number of the first of them; unit i is of group i mod K.

    Raises:
        NonFiniteError: a gradient that is NaN or infinite.
    """
    size, episodes = batch.group_size, batch.rewards.shape[1]
    if episodes % size:
        raise UserError(f"{episodes} episodes are no whole number of groups of {size}")
    units = first // size + np.arange(episodes // size)
    counts = np.bincount(units % groups, minlength=groups)
    weights = summed.weigh(batch)
    sums = _sums(summed.reduce, groups, policy, batch, weights, first=first // size, rows=rows)
    if summed.by_unit:
        return grouped(counts, sums, size)
    return grouped(counts * size, sums)


def check_groups(groups: int) -> None:
    """Raise UserError unless there are two groups or more."""
    if isinstance(groups, bool) or not isinstance(groups, (int, np.integer)) or groups < 2:
        raise UserError(f"groups must be a whole number, at least 2, got {groups!r}")


def grouped(counts: np.ndarray, sums: dict[str, Any], size: int = 1) -> GroupSums:
    """Sums in float64; those over groups and those over classes are separated.

    Raises:
        NonFiniteError: a sum that is NaN or infinite.
    """
    for name, x in sums.items():
        if not np.all(np.isfinite(x.rows if isinstance(x, Classed) else x)):
            raise NonFiniteError(
                f"the sum of {name} over the episodes is NaN or infinite: a reward, an observation "
                "or a parameter of the policy or the critic is, or the sum overflows"
            )
    of_groups = {k: v for k, v in sums.items() if not isinstance(v, Classed)}
    of_classes = {k: v.rows for k, v in sums.items() if isinstance(v, Classed)}
    return GroupSums(
        np.asarray(counts, np.float64),
        {k: np.asarray(v, np.float64) for k, v in of_groups.items()},
        {k: np.asarray(v, np.float64) for k, v in of_classes.items()},
        size,
    )


def zeros_for(rows: dict[str, Any], groups: int) -> dict[str, Any]:
    """Zeros that rows of these shapes can be added to."""

    def zeros(x: Any) -> Any:
        if isinstance(x, Classed):
            return Classed(None, jnp.zeros((CLASSES, *x.rows.shape[1:]), x.rows.dtype))
        return jnp.zeros((groups, *x.shape[1:]), x.dtype)

    return {k: zeros(x) for k, x in rows.items()}


def add_rows(
    sums: dict[str, Any],
    rows: dict[str, Any],
    groups: Int[Array, " m"],
    count: Int[Array, ""] | None = None,
) -> dict[str, Any]:
    """The sums with every row, or those of the first `count` units, added to its group or class.

    Args:
        sums: as `zeros_for` gives them.
        rows: one or several in a row for each unit.
        groups: of each unit.
        count: of units; None for all.
    """
    units = len(groups)

    def add(total: Array, index: Array, x: Array) -> Array:
        each = len(x) // units
        index = jnp.repeat(index, len(x) // len(index))
        if count is not None:  # an index past the end drops the row
            index = jnp.where(jnp.arange(len(index)) // each < count, index, len(total))
        # rows by step may be shorter than those of the longest episode
        return total.at[(index, *(slice(n) for n in x.shape[1:]))].add(x)

    def one(total: Any, x: Any) -> Any:
        if isinstance(x, Classed):
            return Classed(None, add(total.rows, x.of, x.rows))
        return add(total, groups, x)

    return {k: one(sums[k], x) for k, x in rows.items()}


def _sums(
    reduce: Reduce,
    groups: int,
    policy: Any,
    batch: Trajectories,
    extra: PyTree,
    *,
    first: int,
    rows: int,
) -> dict[str, Any]:
    """Sums over the units of a batch; its first unit has the number `first`."""
    batch, extra = jax.tree.map(np.asarray, (batch, extra))
    valid, size = np.asarray(batch.valid), batch.group_size
    todo = chunks(valid, rows, size=size)
    if not todo:
        return {}
    height, units, _ = todo[0]  # the longest
    zeros = _begin(reduce, groups, policy, *cut(batch, extra, height, units[:1]))
    at_once = not one_by_one()
    if at_once:
        todo = chunks(valid, rows, most=max(BYTES // (_bytes_of_one(zeros) * size), 1), size=size)

    def over(todo: list[Chunk]) -> dict[str, Any]:
        sums = zeros
        for height, units, count in todo:
            of = jnp.asarray(((first + units) % groups).astype(np.int32))
            some = cut(batch, extra, height, units)
            sums = _accumulate(reduce, at_once, sums, policy, *some, of, jnp.int32(count))
        return jax.device_get(sums)

    if len(todo) < THREADS:
        return over(todo)
    with ThreadPoolExecutor(THREADS) as pool:
        shares = [todo[i::THREADS] for i in range(THREADS)]
        return jax.tree.map(lambda *x: sum(x), *pool.map(for_another_thread(over), shares))


def one_by_one() -> bool:
    """Whether episodes are taken one by one: on a CPU, whose near cache holds one gradient."""
    return jax.default_backend() == "cpu"


def _bytes_of_one(zeros: dict[str, Any]) -> int:
    """Bytes of the rows of one episode."""
    return sum(x.nbytes // len(x) for x in jax.tree.leaves(zeros))


@compiled_for_modules
def _begin(reduce: Reduce, groups: int, *known: Any) -> dict[str, Any]:
    return zeros_for(eqx.filter_eval_shape(reduce, *known), groups)


@partial(compiled_for_modules, compiler_options=SAME_EVERYWHERE)
def _accumulate(
    reduce: Reduce,
    at_once: bool,
    sums: dict[str, Any],
    policy: Any,
    trajectories: Trajectories,
    extra: PyTree,
    groups: Int[Array, " m"],
    count: Int[Array, ""],
) -> dict[str, Any]:
    """The sums with the first `count` units of a chunk added, at once or one by one."""
    size = trajectories.group_size

    def column(x: Array, i: Array, axis: int) -> Array:
        return jax.lax.dynamic_slice_in_dim(x, i * size, size, axis)

    def add(i: Array, sums: dict[str, Any]) -> dict[str, Any]:
        one = jax.tree.map(lambda x: column(x, i, 1), trajectories)
        rows = reduce(policy, one, jax.tree.map(lambda x: column(x, i, x.ndim - 1), extra))
        return add_rows(sums, rows, groups[i][None])

    if at_once:
        rows = reduce(policy, trajectories, extra)
        return add_rows(sums, rows, groups, count)
    return jax.lax.fori_loop(0, count, add, sums)


def weights_of(estimator: Estimator, state: EstimatorState, trajectories: Trajectories) -> Weights:
    """The estimator's weights of a batch, compiled once for all its numbers."""
    numbers = jax.tree.map(lambda x: jnp.asarray(x) if is_number(x) else x, estimator)
    return _weights_of(numbers, state, trajectories)


_weights_of = compiled_for_modules(Estimator.weights, compiler_options=SAME_EVERYWHERE)


def is_number(x: Any) -> bool:
    """Whether a leaf is one of Python's numbers."""
    return isinstance(x, (bool, int, float))


class Part(NamedTuple):
    """One leaf of the parameters: its name, and its columns in the flat gradient."""

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
    """Gradients with a leading axis m, as one flat vector each."""
    return jnp.concatenate([g.reshape(len(g), -1) for g in jax.tree.leaves(gradients)], axis=1)


def by_part(gradients: PyTree) -> Float[Array, "m P"]:
    """‖·‖² of every leaf of gradients with a leading axis m."""
    leaves = jax.tree.leaves(gradients)
    return jnp.stack([jnp.sum(g.reshape(len(g), -1) ** 2, axis=1) for g in leaves], axis=1)

"""From whole episodes to group sums: in chunks of like length, so memory is that of a chunk."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from policygrad.diagnostics.intervals import GROUPS, GroupSums
from policygrad.errors import UserError
from policygrad.estimators import Estimator, EstimatorState, Weights
from policygrad.rollout.compiled import padded_length
from policygrad.types import Trajectories, split

Episodes = Trajectories | Iterable[Trajectories]
Reduce = Callable[..., dict[str, Array]]

# rows of a chunk: what keeps a 64×64 network's activations in the cache of one core
ROWS = 8192


class Chunk(NamedTuple):
    """Some episodes of a batch.

    Attributes:
        trajectories: m columns, cut to T rows; columns beyond the last episode are not valid.
        extra: pytree of `[..., T, m]`, what else is known of every step; zero where not valid.
        groups: `[K, m]`, 1 where an episode belongs to a group.
    """

    trajectories: Trajectories
    extra: PyTree
    groups: Float[Array, "K m"]


def stream(
    policy: Any,
    episodes: Episodes,
    weigh: Callable[[Trajectories], PyTree],
    reduce: Reduce,
    *,
    groups: int = GROUPS,
    rows: int = ROWS,
) -> GroupSums:
    """Sums over groups of what `reduce` makes of every chunk.

    Args:
        policy: passed on to `reduce`.
        episodes: whole episodes, or batches of them one after another.
        weigh: batch -> pytree of `[..., T, B]`: the weights, which may depend on the whole batch.
        reduce: `(policy, chunk) -> name -> [K, ...]`, sums over the chunk's groups. Compiled; equal
            values compile once.
        groups: K.
        rows: T·m of a chunk, about.

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
        sums: dict[int, Any] = {}  # by rows of the chunk, on which shapes may depend
        for chunk in chunks(batch, weigh(batch), first=seen, groups=groups, rows=rows):
            size = chunk.trajectories.rewards.shape[0]
            sums[size] = _accumulate(reduce, sums.get(size), policy, chunk)
        counts = np.bincount((seen + np.arange(columns)) % groups, minlength=groups)
        for part in sums.values():
            part = {k: np.asarray(v, np.float64) for k, v in part.items()}
            part = GroupSums(np.zeros(groups), part)
            total = part if total is None else total + part
        assert total is not None
        total = replace(total, counts=total.counts + counts)
        seen += columns
    if total is None or seen < 2:
        raise UserError(f"the diagnostics need at least 2 episodes, got {seen}")
    present = total.counts > 0
    total = GroupSums(total.counts[present], {k: v[present] for k, v in total.sums.items()})
    return total.folded()


@eqx.filter_jit
def _accumulate(reduce: Reduce, sums: Any, policy: Any, chunk: Chunk) -> dict[str, Array]:
    added = reduce(policy, chunk)
    return added if sums is None else jax.tree.map(jnp.add, sums, added)


def chunks(
    batch: Trajectories, extra: PyTree, *, first: int, groups: int, rows: int
) -> Iterator[Chunk]:
    """A batch in chunks of episodes of like length, the longest first.

    The rows of a chunk are a power of two, times 1 or 1.5, so that few shapes ever compile.
    """
    valid = np.asarray(batch.valid)
    lengths = valid.sum(axis=0)
    order = np.argsort(-lengths, kind="stable")
    batch, extra = jax.tree.map(np.asarray, (batch, extra))
    most = padded_length(len(order))
    while order.size:
        height = min(padded_length(int(lengths[order[0]])), len(valid))
        width = min(max(rows // height, 1), most)
        columns, order = order[:width], order[width:]
        present = np.arange(width) < len(columns)
        group = (first + columns) % groups
        columns = np.pad(columns, (0, width - len(columns)), mode="edge")
        member = np.zeros((groups, width), np.float32)
        member[group, np.arange(len(group))] = 1.0
        yield Chunk(
            _columns(batch, columns, height, present),
            jax.tree.map(lambda x, c=columns, h=height: x[..., :h, c], extra),
            jnp.asarray(member),
        )


def _columns(
    batch: Trajectories, columns: np.ndarray, height: int, present: Bool[np.ndarray, " m"]
) -> Trajectories:
    cut = jax.tree.map(lambda x: x[:height, columns], batch)
    return replace(
        cut,
        valid=cut.valid & present,
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

"""The record that every rollout returns, and which state comes after each of its steps.

Arrays are time-major: `[T, B]` is T steps of B environments (or of B whole episodes, padded).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree


class Greedy(NamedTuple):
    """From the start of every episode, one in which the most probable action was taken each time.

    Equal in all columns of a group, since its episodes have one start.

    Attributes:
        rewards: `[T, B]`; zero behind its end.
        valid: `[T, B]`; False behind its end.
    """

    rewards: Float[Array, "T B"]
    valid: Bool[Array, "T B"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trajectories:
    """T steps of B environments, or B whole episodes padded to T steps.

    Records are raw: observations before normalisation, rewards before scaling, actions as the
    policy sampled them (before any clipping to the environment's bounds). In training, rewards are
    scaled in the record that estimators, baselines and critics are given.

    Attributes:
        observations: pytree of `[T, B, ...]`; what the policy saw before acting at step t.
        actions: pytree of `[T, B, ...]`.
        rewards: `[T, B]`; `rewards[t]` follows `actions[t]`. Zero where not `valid`.
        terminated: `[T, B]`; the task ended with this step. No value beyond it exists.
        truncated: `[T, B]`; the episode was cut off after this step although the task goes on.
            Where both flags are set, termination wins.
        valid: `[T, B]`; False on rows that are no transition: the padding behind an episode, or
            the row on which a vector environment resets itself. Their observations and actions may
            be anything.
        times: `[T, B]`; the number of steps of this episode before this one.
        log_probs: `[T, B]`, nats; of `actions` under the policy that acted.
        cut_observations: pytree of `[K, B, ...]`; the true successors of the steps whose next row
            is not their successor, in order of time: the truncated ones and, unless the record
            holds whole episodes, the last row. Rows beyond a lane's number of cuts are unused.
        cut_times: `[K, B]`; the times of those successors.
        carry: pytree of `[1, B, ...]`, what a policy with memory begins the first row with;
            the empty tuple for a policy without memory.
        whole_episodes: True where every column is one episode from its start to its end.
        group_size: k, if the episodes start in groups of k from the same reset: columns 0 to k − 1
            are the first group, columns k to 2k − 1 the second, and so on. 1 without groups.
        infos: `[T, B, N]`, the numbers in the infos that compiled programs read, by the names of
            the source's `info_names`, not finite where there is none; None without such numbers.
            Other collectors return theirs from `Collector.infos`.
        greedy: the greedy episodes from the same starts; None if they were not collected.
        mostly_padding: True where most rows may be no transitions. The networks are then computed
            on the others only, at the price of picking them out. Every column of such a record is
            an episode, `valid` from its first row to its end; or empty, and then counts nowhere.
    """

    observations: PyTree
    actions: PyTree
    rewards: Float[Array, "T B"]
    terminated: Bool[Array, "T B"]
    truncated: Bool[Array, "T B"]
    valid: Bool[Array, "T B"]
    times: Int[Array, "T B"]
    log_probs: Float[Array, "T B"]
    cut_observations: PyTree
    cut_times: Int[Array, "K B"]
    carry: PyTree = ()
    whole_episodes: bool = field(default=False, metadata={"static": True})
    infos: Float[Array, "T B N"] | None = None
    group_size: int = field(default=1, metadata={"static": True})
    greedy: Greedy | None = None
    mostly_padding: bool = field(default=False, metadata={"static": True})


def require_whole_episodes(trajectories: Trajectories, what: str) -> None:
    """Raise ValueError if a record holds segments instead of whole episodes."""
    if not trajectories.whole_episodes:
        raise ValueError(
            f"{what} needs whole episodes, and this record holds segments of "
            f"{trajectories.rewards.shape[0]} steps; collect with batch_episodes"
        )


def groups_of(trajectories: Trajectories) -> Int[np.ndarray, " B"]:
    """`[B]`: the number of the group that each episode started in."""
    return np.arange(trajectories.rewards.shape[1]) // trajectories.group_size


def in_groups(values: Array, group_size: int) -> Array:
    """Numbers of N episodes `[..., N]` as `[..., N/k, k]`, one row a group.

    Raises:
        ValueError: N is no multiple of k.
    """
    episodes = values.shape[-1]
    if episodes % group_size:
        raise ValueError(
            f"{episodes} episodes are no whole number of groups of {group_size}; collect a "
            f"multiple of {group_size}"
        )
    return values.reshape(*values.shape[:-1], episodes // group_size, group_size)


def mean_of_units(rows: PyTree, size: int) -> PyTree:
    """Rows of episodes `[m, ...]` as means over the units of so many episodes: `[m/size, ...]`."""
    if size == 1:
        return rows
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]).mean(axis=1), rows)


def with_rewards(trajectories: Trajectories, change: Callable[[Array], Any]) -> Trajectories:
    """The record with other rewards `[T, B]`, also in its greedy episodes."""
    greedy = trajectories.greedy
    if greedy is not None:
        greedy = greedy._replace(rewards=change(greedy.rewards))
    return replace(trajectories, rewards=change(trajectories.rewards), greedy=greedy)


def greedy_steps(trajectories: Trajectories) -> Int[Array, ""]:
    """The steps of the greedy episodes, each counted once."""
    if trajectories.greedy is None:
        return jnp.int32(0)
    return jnp.sum(trajectories.greedy.valid[:, :: trajectories.group_size], dtype=jnp.int32)


def environment_steps(trajectories: Trajectories) -> Int[Array, ""]:
    """How many steps the environments made for the record."""
    return jnp.sum(trajectories.valid, dtype=jnp.int32) + greedy_steps(trajectories)


def cut_mask(trajectories: Trajectories) -> Bool[Array, "T B"]:
    """The rows that have a row in `cut_observations`: truncated steps, and a segment's last row."""
    truncated = trajectories.truncated & ~trajectories.terminated
    cuts = jnp.asarray(trajectories.valid & truncated)
    if trajectories.whole_episodes:
        return cuts
    return cuts.at[-1].set(True)


def lost_cuts(trajectories: Trajectories) -> Bool[Array, " B"]:
    """`[B]`: lanes with more cuts than `cut_observations` has rows, whose last successors are lost.

    A compiled rollout has as many rows as the environment's `time_limit` allows truncations in.
    """
    return jnp.sum(cut_mask(trajectories), axis=0) > len(trajectories.cut_times)


def cut_rows(trajectories: Trajectories) -> Int[Array, "K B"]:
    """`[K, B]`: the row of the step that each row of `cut_observations` is the successor of; the
    last row for those that are unused."""
    cuts = cut_mask(trajectories)
    steps, lanes = cuts.shape
    order = jnp.argsort(~cuts, axis=0, stable=True)
    used = jnp.arange(steps)[:, None] < jnp.sum(cuts, axis=0)
    # a lane may have fewer steps than the padded successors have rows
    unused = jnp.full((len(trajectories.cut_times), lanes), steps - 1)
    return jnp.concatenate([jnp.where(used, order, steps - 1), unused])[: len(unused)]


def successor_values(
    values: Float[Array, "T B"],
    cut_values: Float[Array, "K B"],
    trajectories: Trajectories,
) -> Float[Array, "T B"]:
    """The value of the true successor of every step.

    Args:
        values: `[T, B]`, of `trajectories.observations`.
        cut_values: `[K, B]`, of `trajectories.cut_observations`.

    Returns:
        `[T, B]`: `values[t + 1]`, or the next unused row of `cut_values` where step t is a cut.
        The entry of a terminated step is meaningless; no recursion reads it.
    """
    cuts = cut_mask(trajectories)
    rank = jnp.cumsum(cuts, axis=0) - 1
    at_cuts = jnp.take_along_axis(cut_values, jnp.clip(rank, 0, len(cut_values) - 1), axis=0)
    following = jnp.concatenate([values[1:], values[-1:]])
    return jnp.where(cuts, at_cuts, following)


def join_lanes(records: Sequence[Trajectories]) -> Trajectories:
    """Records of some lanes, or episodes, each, as the record of all: side by side along axis 1.

    Args:
        records: of equally many steps, or of whole episodes of any height. Arrays of NumPy or JAX.

    Returns:
        NumPy arrays. Whole episodes are padded to the highest of them with rows that are not
        `valid`, and successors to as many rows as any of the records has.
    """
    first = records[0]
    parts = [[np.asarray(x) for x in jax.tree.leaves(record)] for record in records]

    def join(*leaves: np.ndarray) -> np.ndarray:
        rows = max(len(x) for x in leaves)
        padded = [
            np.concatenate([x, np.zeros((rows - len(x), *x.shape[1:]), x.dtype)]) for x in leaves
        ]
        return np.concatenate(padded, axis=1)

    joined = [join(*leaves) for leaves in zip(*parts, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(first), joined)


def episodes_in(trajectories: Trajectories) -> Int[Array, ""]:
    """How many of the columns hold an episode: all, unless the record is `mostly_padding`."""
    if trajectories.mostly_padding:
        return jnp.sum(trajectories.valid[0], dtype=jnp.int32)
    return jnp.int32(trajectories.valid.shape[1])


def gradient_denominator(trajectories: Trajectories) -> Float[Array, ""]:
    """The denominator of the gradient: a sum over valid steps is divided by this number.

    Whole episodes: the number of episodes, so that the gradient is a sum over steps and a mean over
    episodes. Segments: the number of valid steps, so that it is a mean over steps
    (≈ ∇J / E[length]).
    """
    if trajectories.whole_episodes:
        return episodes_in(trajectories).astype(jnp.float32)
    return jnp.maximum(trajectories.valid.sum(), 1).astype(jnp.float32)

"""Whole episodes that somebody else collected, as a record."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PyTree

from policygrad.core.errors import UserError
from policygrad.core.trajectories import Trajectories
from policygrad.gradients.weights import Estimator
from policygrad.rollout.heights import padded_length


class Episode(NamedTuple):
    """One episode of T steps.

    Attributes:
        observations: `[T, ...]`, or a dictionary of them; what the policy saw before each action.
        actions: `[T, ...]`, as the policy sampled them.
        rewards: `[T]`.
        terminated: whether the task ended with the last step.
        last_observation: what followed the last step. Estimators that bootstrap need it of every
            episode that is not terminated; None where it is not read.
    """

    observations: PyTree
    actions: PyTree
    rewards: Float[np.ndarray, " T"]
    terminated: bool = True
    last_observation: PyTree = None


def record_of(episodes: Sequence[Episode]) -> Trajectories:
    """Episodes side by side, padded to one height.

    `cut_times` is −1 where there is no last observation.

    Raises:
        UserError: no episode, one without a step, or one whose arrays differ in length.
    """
    if not len(episodes):
        raise UserError("there is no episode to measure")
    lengths = np.array([len(x.rewards) for x in episodes])
    for i, (episode, steps) in enumerate(zip(episodes, lengths, strict=True)):
        given = {
            "observations": [len(x) for x in jax.tree.leaves(episode.observations)],
            "actions": [len(x) for x in jax.tree.leaves(episode.actions)],
        }
        if steps < 1 or any(n != steps for found in given.values() for n in found):
            raise UserError(
                f"episode {i} needs as many observations and actions as rewards, at least one; "
                f"got {steps} rewards and {given}"
            )
    rows = padded_length(int(lengths.max()))

    def side_by_side(parts: Sequence[PyTree]) -> PyTree:
        return jax.tree.map(lambda *x: _padded(x, rows), *parts)

    valid = np.arange(rows)[:, None] < lengths
    ends = np.arange(rows)[:, None] == lengths - 1
    terminated = np.array([bool(x.terminated) for x in episodes])
    given_last = np.array([x.last_observation is not None for x in episodes])
    last = [_last(x) for x in episodes]
    rewards = _padded([np.asarray(x.rewards, np.float32) for x in episodes], rows)
    found: Any = {
        "observations": side_by_side([x.observations for x in episodes]),
        "actions": side_by_side([x.actions for x in episodes]),
        "rewards": rewards,
        "terminated": ends & terminated,
        "truncated": ends & ~terminated,
        "valid": valid,
        "times": np.broadcast_to(np.arange(rows, dtype=np.int32)[:, None], valid.shape),
        "log_probs": np.zeros_like(rewards),  # nothing here reads them
        "cut_observations": jax.tree.map(lambda *x: np.stack(x)[None], *last),
        "cut_times": np.where(given_last, lengths, -1)[None].astype(np.int32),
    }
    return Trajectories(**found, whole_episodes=True)


def check_bootstraps(name: str, estimator: Estimator, record: Trajectories, first: int) -> None:
    """Refuse to bootstrap from a last observation that was not given.

    Args:
        name: of the estimator, for the message.
        estimator: what weighs the record's scores.
        record: of `record_of`, or any other.
        first: the number of its first episode.

    Raises:
        UserError: the estimator bootstraps where an episode is cut, and nothing is known there.
    """
    if estimator.critic is None or estimator.time_limit == "terminates":
        return
    cut = np.any(np.asarray(record.valid & record.truncated & ~record.terminated), axis=0)
    missing = np.flatnonzero(cut & np.any(np.asarray(record.cut_times) < 0, axis=0))
    if len(missing):
        raise UserError(
            f"episode {first + missing[0]} was cut before it terminated, and the estimator "
            f"{f'{name!r} ' if name else ''}adds the value of the observation that follows; pass "
            "Episode(..., last_observation=...), or terminated=True if the task ended there"
        )


def _last(episode: Episode) -> PyTree:
    if episode.last_observation is not None:
        return jax.tree.map(np.asarray, episode.last_observation)
    return jax.tree.map(lambda x: np.zeros_like(np.asarray(x)[0]), episode.observations)


def _padded(arrays: Sequence[Any], rows: int) -> np.ndarray:
    """`[rows, N, ...]`."""
    first = np.asarray(arrays[0])
    out = np.zeros((rows, len(arrays), *first.shape[1:]), first.dtype)
    for i, x in enumerate(arrays):
        out[: len(x), i] = x
    return out

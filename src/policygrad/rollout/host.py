"""The host rollout: Gymnasium lanes stepped by Python, actions drawn by one compiled call a step."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from policygrad.environments.lanes import Lanes
from policygrad.errors import PolicygradError
from policygrad.rollout.acting import act, act_greedily, max_cuts
from policygrad.rollout.compiled import padded_length
from policygrad.types import Trajectories, combine, split_arrays


class Actor:
    """Draws actions for B lanes with one compiled call, for policies of one structure."""

    def __init__(self, policy: Callable) -> None:
        arrays, static = split_arrays(policy)
        self._structure = jax.tree.structure(arrays)

        # the leaves as one flat tuple: flattening a module in Python at every step would cost more
        # than the forward pass
        def rebuild(leaves: tuple) -> Callable:
            return combine(jax.tree.unflatten(self._structure, leaves), static)

        @jax.jit
        def sample(leaves: tuple, key: PRNGKeyArray, step: Any, observations: PyTree) -> PyTree:
            return act(rebuild(leaves), key, step, observations)

        @jax.jit
        def greedy(leaves: tuple, observations: PyTree) -> PyTree:
            return act_greedily(rebuild(leaves), observations)

        self._sample, self._greedy = sample, greedy

    def sampler(self, policy: Callable, key: PRNGKeyArray) -> Callable[[int, Any], Any]:
        """(step, observations) -> actions and log-probabilities, `[B, ...]`; the key is consumed."""
        leaves = tuple(jax.tree.leaves(split_arrays(policy)[0]))
        return partial(self._sample, leaves, key)

    def chooser(self, policy: Callable) -> Callable[[int, Any], Any]:
        """(step, observations) -> modes, and zeros in place of log-probabilities."""
        leaves = tuple(jax.tree.leaves(split_arrays(policy)[0]))

        def choose(step: int, observations: Any) -> Any:
            actions = self._greedy(leaves, observations)
            return actions, np.zeros(len(jax.tree.leaves(actions)[0]), np.float32)

        return choose


def collect_segment(lanes: Lanes, draw: Callable[[int, Any], Any], steps: int) -> Trajectories:
    """T steps of B lanes, carried over from the segment before.

    Args:
        lanes: stepped, and left where the segment ends.
        draw: (step, observations) -> actions and log-probabilities, `[B, ...]`.
        steps: T.
    """
    rows, cuts = [], _Cuts(lanes.num_envs, max_cuts(steps, lanes.time_limit))
    for t in range(steps):
        observations, times = _copy(lanes.observations), lanes.times
        actions, log_probs = draw(t, observations)
        step = lanes.step(np.asarray(actions))
        last = np.full(lanes.num_envs, t == steps - 1)
        cut = (step.truncated & ~step.terminated) | last
        if cut.any():
            cuts.take(np.flatnonzero(cut), step.successors, times + 1)
        rows.append((observations, np.asarray(actions), *step[1:], times, log_probs))
    observations, actions, rewards, terminated, truncated, valid, times, log_probs = stack(rows)
    cut_observations, cut_times = cuts.stacked()
    rewards = np.where(valid, rewards, np.float32(0))
    return Trajectories(
        observations,
        actions,
        rewards,
        terminated,
        truncated,
        valid,
        times,
        log_probs,
        cut_observations,
        cut_times,
    )


def _copy(observations: Any) -> Any:
    # a synchronous vector environment writes its next observations over these
    return jax.tree.map(np.copy, observations)


def stack(rows: list) -> Any:
    """A list of T pytrees as one pytree of `[T, ...]`."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


class _Cuts:
    """Successors of cut steps, per lane and in order of time."""

    def __init__(self, num_envs: int, slots: int) -> None:
        self._slots = slots
        self._rows: list[list[Any]] = [[] for _ in range(num_envs)]
        self._times: list[list[int]] = [[] for _ in range(num_envs)]

    def take(self, lanes: np.ndarray, successors: Any, times: np.ndarray) -> None:
        for lane in lanes:
            self._rows[lane].append(jax.tree.map(lambda x, i=lane: x[i].copy(), successors))
            self._times[lane].append(int(times[lane]))

    def stacked(self) -> tuple[Any, np.ndarray]:
        """Padded to one number of rows, which grows by doubling where a lane had more."""
        slots = self._slots
        while slots < max(map(len, self._rows)):
            slots *= 2
        padded = [rows + [rows[-1]] * (slots - len(rows)) for rows in self._rows]
        columns = [stack(rows) for rows in padded]
        observations = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *columns)
        times = np.zeros((slots, len(self._times)), np.int32)
        for lane, values in enumerate(self._times):
            times[: len(values), lane] = values
        return observations, times


def collect_episodes(
    lanes: Lanes,
    draw: Callable[[int, Any], Any],
    seed: int,
    *,
    episodes: int,
    max_steps: int,
) -> tuple[Trajectories, np.ndarray]:
    """N episodes started, all run to their end: no bias towards the short ones.

    A lane that ends an episode begins the next one as long as fewer than N were begun. Whether an
    episode is among the N is settled before its first step, so it cannot depend on its length.

    Args:
        lanes: restarted with `seed`; fewer than N will do.
        draw: (step, observations) -> actions and log-probabilities, `[B, ...]`.
        seed: of the environments.
        episodes: N.
        max_steps: cap on an episode's length; an episode that reaches it is left unfinished.

    Returns:
        The record, a column an episode, and `[N]` flags of the unfinished ones.
    """
    lanes.start(seed)
    begun = min(lanes.num_envs, episodes)
    column = np.where(np.arange(lanes.num_envs) < episodes, np.arange(lanes.num_envs), -1)
    columns: list[list[Any]] = [[] for _ in range(episodes)]
    successors: list[Any] = [None] * episodes
    unfinished = np.zeros(episodes, bool)
    t = 0
    while (column >= 0).any():
        observations = _copy(lanes.observations)
        actions, log_probs = draw(t, observations)
        actions, log_probs = np.asarray(actions), np.asarray(log_probs)
        step = lanes.step(actions)
        t += 1
        for lane in np.flatnonzero(step.valid & (column >= 0)):
            episode = column[lane]
            row = (observations, actions, *step[1:4], log_probs)
            columns[episode].append(jax.tree.map(lambda x, i=lane: x[i], row))
            capped = len(columns[episode]) >= max_steps
            if step.terminated[lane] or step.truncated[lane] or capped:
                unfinished[episode] = not (step.terminated[lane] or step.truncated[lane])
                successors[episode] = jax.tree.map(lambda x, i=lane: x[i].copy(), step.successors)
                # a lane stopped in mid-episode by the cap cannot begin another by itself
                free = begun < episodes and not unfinished[episode]
                column[lane] = begun if free else -1
                begun += free
        if begun < episodes and not (column >= 0).any():
            raise PolicygradError(
                f"all {lanes.num_envs} environments ran past {max_steps} steps without ending an "
                f"episode, with {episodes - begun} episodes not begun; raise max_episode_steps, or "
                "wrap the environment in a TimeLimit"
            )
    return _episode_record(columns, successors), unfinished


def _episode_record(columns: list[list[Any]], successors: list[Any]) -> Trajectories:
    lengths = np.array([len(column) for column in columns], np.int32)
    rows = padded_length(int(lengths.max()))
    stacked = [stack(column) for column in columns]

    def pad(*leaves: np.ndarray) -> np.ndarray:
        out = np.zeros((rows, len(leaves), *leaves[0].shape[1:]), leaves[0].dtype)
        for episode, leaf in enumerate(leaves):
            out[: len(leaf), episode] = leaf
        return out

    observations, actions, rewards, terminated, truncated, log_probs = jax.tree.map(pad, *stacked)
    times = np.arange(rows, dtype=np.int32)[:, None]
    return Trajectories(
        observations,
        actions,
        rewards,
        terminated,
        truncated,
        times < lengths,
        np.broadcast_to(times, rewards.shape),
        log_probs,
        stack([jax.tree.map(lambda x: x[None], stack(successors))])[0],
        lengths[None],
        whole_episodes=True,
    )

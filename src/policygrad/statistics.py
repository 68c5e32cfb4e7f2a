"""What is read off a batch on the host: episodes, numbers that are not finite, intervals."""

import math
from collections import deque
from typing import Any

import jax
import numpy as np
from scipy.special import stdtrit

from policygrad.environments.spaces import ACTION_MASK
from policygrad.errors import NonFiniteError
from policygrad.types import Trajectories

WINDOW = 100


class EpisodeCounter:
    """Counts episodes and sums their returns, across batches.

    Attributes:
        episodes: how many have ended.
        recent: returns and lengths of the last 100 that ended, in the order in which they did.
    """

    def __init__(self, columns: int) -> None:
        self.episodes = 0
        self.recent: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        self._return = np.zeros(columns)
        self._length = np.zeros(columns, np.int64)

    def take(self, trajectories: Trajectories) -> int:
        """Take in a batch; the number of its transitions."""
        rewards, valid = np.asarray(trajectories.rewards), np.asarray(trajectories.valid)
        ended = np.asarray(trajectories.terminated) | np.asarray(trajectories.truncated)
        ended &= valid
        if trajectories.whole_episodes:
            totals, lengths = rewards.sum(axis=0, dtype=np.float64), valid.sum(axis=0)
            self._finish(totals, lengths)
            return int(valid.sum())
        for row, last, counts in zip(rewards, ended, valid, strict=True):
            self._return += row
            self._length += counts
            if last.any():
                self._finish(self._return[last], self._length[last])
                self._return[last] = 0.0
                self._length[last] = 0
        return int(valid.sum())

    def _finish(self, returns: np.ndarray, lengths: np.ndarray) -> None:
        self.episodes += len(returns)
        self.recent.extend(zip(returns.tolist(), lengths.tolist(), strict=True))

    @property
    def return_mean(self) -> float | None:
        """Mean return of the last 100 episodes that ended; None before the first."""
        return float(np.mean([r for r, _ in self.recent])) if self.recent else None

    @property
    def length_mean(self) -> float | None:
        """Mean length of the last 100 episodes that ended; None before the first."""
        return float(np.mean([n for _, n in self.recent])) if self.recent else None

    def running(self) -> dict[str, np.ndarray]:
        """Arrays of the episodes that are running."""
        return {"return": self._return, "length": self._length}

    def finished(self) -> dict[str, Any]:
        """Plain data of the episodes that have ended."""
        return {"episodes": self.episodes, "recent": list(self.recent)}

    def forget_running(self) -> None:
        """Begin afresh the episodes that are running, without counting them."""
        self._return[:], self._length[:] = 0.0, 0

    def restore(self, running: dict[str, np.ndarray], finished: dict[str, Any]) -> None:
        """Take back what `running` and `finished` gave."""
        self._return, self._length = running["return"].copy(), running["length"].copy()
        self.episodes = int(finished["episodes"])
        self.recent = deque(((r, n) for r, n in finished["recent"]), maxlen=WINDOW)


def check_finite(trajectories: Trajectories, update: int, env_steps: int) -> None:
    """Refuse a batch with NaN or infinity, or with a mask that permits no action.

    Raises:
        NonFiniteError: it names the source, the environment and the step.
    """
    valid = np.asarray(trajectories.valid)
    times = np.asarray(trajectories.times)

    def refuse(what: str, bad: np.ndarray, times: np.ndarray) -> None:
        row, lane = np.argwhere(bad)[0]
        column = "episode" if trajectories.whole_episodes else "environment"
        raise NonFiniteError(
            f"{what} of {column} {lane} at step {times[row, lane]} of its episode, in update "
            f"{update + 1} (environment steps {env_steps} to {env_steps + int(valid.sum())})"
        )

    for name, array, mask, times_of in _measurements(trajectories, valid, times):
        if not np.isfinite(array).all():
            bad = ~np.isfinite(array).reshape(*array.shape[:2], -1).all(axis=2) & mask
            if bad.any():
                value = array[tuple(np.argwhere(bad)[0])]
                value = value if value.ndim == 0 else value[~np.isfinite(value)][0]
                refuse(f"{value} in the {name}", bad, times_of)
    if isinstance(trajectories.observations, dict) and ACTION_MASK in trajectories.observations:
        mask = np.asarray(trajectories.observations[ACTION_MASK])
        nothing = ~(mask.reshape(*mask.shape[:2], -1) > 0).any(axis=2) & valid
        if nothing.any():
            refuse("the action mask permits no action in the observation", nothing, times)


def _measurements(
    trajectories: Trajectories, valid: np.ndarray, times: np.ndarray
) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Names, float arrays `[T, B, ...]` or `[K, B, ...]`, which entries count, and their times."""
    cut_times = np.asarray(trajectories.cut_times)
    bootstrapped = np.ones(cut_times.shape, bool)
    if trajectories.whole_episodes:
        ends = np.asarray(trajectories.truncated) & ~np.asarray(trajectories.terminated)
        bootstrapped = np.broadcast_to(ends.any(axis=0), cut_times.shape)
    found = [("reward", np.asarray(trajectories.rewards), valid, times)]
    for observations, mask, when in (
        (trajectories.observations, valid, times),
        (trajectories.cut_observations, bootstrapped, cut_times),
    ):
        leaves = map(np.asarray, jax.tree.leaves(observations))
        found += [
            ("observation", leaf, mask, when)
            for leaf in leaves
            if np.issubdtype(leaf.dtype, np.floating)
        ]
    return found


def mean_interval(values: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The mean, and its 95 % interval by Student's t; one value has no finite interval."""
    values = np.asarray(values, np.float64)
    mean, n = float(values.mean()), len(values)
    if n < 2:
        return mean, (-math.inf, math.inf)
    half = float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(n)
    return mean, (mean - half, mean + half)

"""What is read off a batch: episodes, numbers that are not finite; and intervals over returns."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.special import stdtrit

from policygrad.environments.spaces import ACTION_MASK
from policygrad.errors import NonFiniteError
from policygrad.types import Trajectories

WINDOW = 100


class EpisodeTally(NamedTuple):
    """Counts episodes and sums their returns, across batches. Arrays alone, so that it is kept
    where the batches are.

    Attributes:
        episodes: `[]`, how many have ended.
        recent_returns, recent_lengths: `[100]` each; of the last 100 that ended, the i-th of all in
            slot i mod 100.
        running_returns, running_lengths: `[B]` each; so far, of the episodes that are running.
    """

    episodes: Int[Array, ""]
    recent_returns: Float[Array, " 100"]
    recent_lengths: Int[Array, " 100"]
    running_returns: Float[Array, " B"]
    running_lengths: Int[Array, " B"]

    @classmethod
    def init(cls, columns: int) -> "EpisodeTally":
        """Nothing counted yet."""
        made = (np.int32(0), np.zeros(WINDOW, np.float32), np.zeros(WINDOW, np.int32))
        running = (np.zeros(columns, np.float32), np.zeros(columns, np.int32))
        return cls(*map(jnp.asarray, made + running))

    def update(self, trajectories: Trajectories) -> "EpisodeTally":
        """The tally after a batch. Pure."""
        counts = jnp.asarray(trajectories.valid)
        rewards = jnp.where(counts, trajectories.rewards, 0.0)
        if trajectories.whole_episodes:
            ended = jnp.ones_like(counts[:1])
            returns, lengths = jnp.sum(rewards, 0)[None], jnp.sum(counts, 0)[None]
            running = self.running_returns, self.running_lengths
        else:
            ended = (trajectories.terminated | trajectories.truncated) & counts

            def step(running: Any, row: Any) -> Any:
                reward, count, last = row
                total, length = running[0] + reward, running[1] + count
                return (jnp.where(last, 0.0, total), jnp.where(last, 0, length)), (total, length)

            start = self.running_returns, self.running_lengths
            running, (returns, lengths) = jax.lax.scan(step, start, (rewards, counts, ended))

        ended = ended.reshape(-1)
        number = jnp.cumsum(ended)  # of each episode that ended, in the order in which they did
        kept = ended & (number > number[-1] - WINDOW)
        slot = jnp.where(kept, (self.episodes + number - 1) % WINDOW, WINDOW)
        return EpisodeTally(
            self.episodes + number[-1],
            self.recent_returns.at[slot].set(returns.reshape(-1), mode="drop"),
            self.recent_lengths.at[slot].set(lengths.reshape(-1), mode="drop"),
            *running,
        )

    def forget_running(self) -> "EpisodeTally":
        """Begin afresh the episodes that are running, without counting them."""
        return self._replace(
            running_returns=jnp.zeros_like(self.running_returns),
            running_lengths=jnp.zeros_like(self.running_lengths),
        )


def recent_mean(recent: Any, episodes: int) -> float | None:
    """The mean over the last 100 episodes that ended; None before the first."""
    return float(np.mean(np.asarray(recent)[:episodes], dtype=np.float64)) if episodes else None


def is_sound(trajectories: Trajectories) -> Bool[Array, ""]:
    """`[]`: no NaN, no infinity, and no mask that permits no action. Pure; what it finds wanting,
    `check_finite` names."""
    found = [jnp.any(bad) for _, _, bad, _ in _unsound(trajectories)]
    return ~jnp.any(jnp.stack(found))


def check_finite(trajectories: Trajectories, update: int, env_steps: int) -> None:
    """Refuse a batch with NaN or infinity, or with a mask that permits no action.

    Raises:
        NonFiniteError: it names the source, the environment and the step.
    """
    for what, array, bad, times in _unsound(trajectories):
        bad = np.asarray(bad)
        if not bad.any():
            continue
        row, lane = np.argwhere(bad)[0]
        if array is not None:
            value = np.asarray(array)[row, lane]
            value = value if value.ndim == 0 else value[~np.isfinite(value)][0]
            what = f"{value} in the {what}"
        column = "episode" if trajectories.whole_episodes else "environment"
        steps = int(np.sum(trajectories.valid))
        raise NonFiniteError(
            f"{what} of {column} {lane} at step {int(times[row, lane])} of its episode, in update "
            f"{update + 1} (environment steps {env_steps} to {env_steps + steps})"
        )


def _unsound(trajectories: Trajectories) -> list[tuple[str, Any, Array, Any]]:
    """Names, arrays `[T, B, ...]` or `[K, B, ...]`, which of their entries are unsound, and the
    times of those."""
    valid, times, cut_times = trajectories.valid, trajectories.times, trajectories.cut_times
    bootstrapped = jnp.ones(cut_times.shape, bool)
    if trajectories.whole_episodes:
        ends = jnp.asarray(trajectories.truncated & ~trajectories.terminated)
        bootstrapped = jnp.broadcast_to(jnp.any(ends, axis=0), cut_times.shape)
    measured = [("reward", trajectories.rewards, valid, times)]
    for observations, mask, when in (
        (trajectories.observations, valid, times),
        (trajectories.cut_observations, bootstrapped, cut_times),
    ):
        measured += [
            ("observation", leaf, mask, when)
            for leaf in jax.tree.leaves(observations)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
        ]

    def entries(array: Any) -> Array:
        return jnp.asarray(array).reshape(*array.shape[:2], -1)

    found: list[tuple[str, Any, Array, Any]] = [
        (name, array, jnp.any(~jnp.isfinite(entries(array)), axis=2) & mask, when)
        for name, array, mask, when in measured
    ]
    if isinstance(trajectories.observations, dict) and ACTION_MASK in trajectories.observations:
        mask = trajectories.observations[ACTION_MASK]
        nothing = ~jnp.any(entries(mask) > 0, axis=2) & valid
        what = "the action mask permits no action in the observation"
        found.append((what, None, nothing, times))
    return found


def mean_interval(values: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The mean, and its 95 % interval by Student's t; one value has no finite interval."""
    values = np.asarray(values, np.float64)
    mean, n = float(values.mean()), len(values)
    if n < 2:
        return mean, (-math.inf, math.inf)
    half = float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(n)
    return mean, (mean - half, mean + half)


def interquartile_mean(values: Any) -> Any:
    """IQM: the mean over the middle half of the last axis; a quarter is cut off at either end,
    rounded down (Agarwal et al. 2021)."""
    ordered = np.sort(np.asarray(values, np.float64), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def iqm_interval(values: Any, resamples: int = 10_000) -> tuple[float, tuple[float, float]]:
    """The IQM over runs, and its 95 % percentile bootstrap interval, resampling runs.

    The resamples are the same every time. One value has no finite interval.

    >>> iqm_interval([1.0, 2.0, 3.0, 100.0])[0]
    2.5
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return float(values.mean()), (-math.inf, math.inf)
    rows = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(interquartile_mean(values[rows]), (0.025, 0.975))
    return float(interquartile_mean(values)), (float(low), float(high))

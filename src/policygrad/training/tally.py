"""Counts and returns of episodes, across batches."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from policygrad.core.counting import LongCount
from policygrad.core.trajectories import Trajectories

WINDOW = 100


class EpisodeTally(NamedTuple):
    """Counts episodes and sums their returns, across batches. It holds arrays only, so that it can
    stay on the device with the batches.

    Attributes:
        episodes: number of episodes that have ended.
        recent_returns, recent_lengths: `[100]` each; of the last 100 that ended, the i-th of all in
            slot i mod 100.
        running_returns, running_lengths: `[B]` each; so far, of the episodes that are running.
    """

    episodes: LongCount
    recent_returns: Float[Array, " 100"]
    recent_lengths: Int[Array, " 100"]
    running_returns: Float[Array, " B"]
    running_lengths: Int[Array, " B"]

    @classmethod
    def init(cls, columns: int) -> "EpisodeTally":
        """The tally before the first batch."""
        recent = (np.zeros(WINDOW, np.float32), np.zeros(WINDOW, np.int32))
        running = (np.zeros(columns, np.float32), np.zeros(columns, np.int32))
        return cls(LongCount.of(0), *map(jnp.asarray, recent + running))

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
        slot = jnp.where(kept, (self.episodes.rest + number - 1) % WINDOW, WINDOW)
        return EpisodeTally(
            self.episodes.plus(number[-1]),
            self.recent_returns.at[slot].set(returns.reshape(-1), mode="drop"),
            self.recent_lengths.at[slot].set(lengths.reshape(-1).astype(jnp.int32), mode="drop"),
            *running,
        )

    def forget_running(self) -> "EpisodeTally":
        """Reset the sums of the running episodes, without counting these episodes."""
        return self._replace(
            running_returns=jnp.zeros_like(self.running_returns),
            running_lengths=jnp.zeros_like(self.running_lengths),
        )


def recent_mean(recent: Any, episodes: int) -> float | None:
    """The mean over the last 100 episodes that ended; None before the first."""
    return float(np.mean(np.asarray(recent)[:episodes], dtype=np.float64)) if episodes else None

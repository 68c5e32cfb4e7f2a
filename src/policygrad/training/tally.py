"""Counts and returns of episodes, across batches."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from policygrad.core.counting import LongCount
from policygrad.core.trajectories import Trajectories
from policygrad.maths.long_sums import LongSum

WINDOW = 100


class EpisodeInfos(NamedTuple):
    """N numbers of the infos by episode, as `EpisodeTally` has returns and lengths.

    Attributes:
        recent_last, recent_sums: `[100, N]`; the last number and the sum of each of the last 100
            episodes, in the slots of their returns; NaN in episodes that had none.
        last, sums: `[B, N]`; so far, of the episodes that are running; NaN in `last` where there
            was none yet, and in `sums` where the episode's beginning is not known.
        repeated: `[N]`, whether the number came at other steps than the last of an episode.
    """

    recent_last: Float[Array, "100 N"]
    recent_sums: Float[Array, "100 N"]
    last: Float[Array, "B N"]
    sums: Float[Array, "B N"]
    repeated: Bool[Array, " N"]

    @classmethod
    def init(cls, columns: int, numbers: int) -> "EpisodeInfos":
        """Before the first batch."""
        none = jnp.full((WINDOW, numbers), jnp.nan, jnp.float32)
        return cls(none, none, *_begun(columns, numbers), jnp.zeros(numbers, bool))

    def update(
        self, trajectories: Trajectories, slot: Int[Array, " K"], ended: Bool[Array, "T B"]
    ) -> "EpisodeInfos":
        """After a batch.

        Args:
            trajectories: a batch.
            slot: for each of its steps, or of its whole episodes, where the episode that ended
                with it goes; 100 for none.
            ended: `[T, B]`, steps with which an episode ended.
        """
        infos, counts = jnp.asarray(trajectories.infos), jnp.asarray(trajectories.valid)
        there = counts[..., None] & jnp.isfinite(infos)

        def step(running: Any, row: Any) -> Any:
            number, there, over = row
            last = jnp.where(there, number, running[0])
            total = running[1] + jnp.where(there, number, 0.0)
            over = over[:, None]
            return (jnp.where(over, jnp.nan, last), jnp.where(over, 0.0, total)), (last, total)

        if trajectories.whole_episodes:
            start, ends = _begun(*infos.shape[1:]), jnp.zeros_like(ended)
            found, _ = jax.lax.scan(step, start, (infos, there, ends))
            running = self.last, self.sums
        else:
            running, found = jax.lax.scan(step, (self.last, self.sums), (infos, there, ended))
        last, sums = (x.reshape(-1, x.shape[-1]) for x in found)
        return EpisodeInfos(
            self.recent_last.at[slot].set(last, mode="drop"),
            self.recent_sums.at[slot].set(jnp.where(jnp.isnan(last), jnp.nan, sums), mode="drop"),
            *running,
            self.repeated | jnp.any(there & ~ended[..., None], axis=(0, 1)),
        )

    def means(self) -> Float[Array, "2 N"]:
        """The means of the last numbers and of the sums, over the last 100 episodes that had them;
        NaN where none had, and for sums of numbers that came with the last step alone."""
        means = jnp.stack([_finite_mean(self.recent_last), _finite_mean(self.recent_sums)])
        return means.at[1].set(jnp.where(self.repeated, means[1], jnp.nan))

    def forget_running(self, lanes: Bool[Array, " B"]) -> "EpisodeInfos":
        """Without the numbers of the running episodes of some lanes."""
        last, sums = _begun(*self.last.shape)
        which = lanes[:, None]
        return self._replace(
            last=jnp.where(which, last, self.last), sums=jnp.where(which, sums, self.sums)
        )

    def begun_before(self) -> "EpisodeInfos":
        """With running episodes whose beginnings are not known."""
        return self._replace(sums=jnp.full_like(self.sums, jnp.nan))


def _begun(columns: int, numbers: int) -> tuple[Float[Array, "B N"], Float[Array, "B N"]]:
    """The last numbers and the sums at the beginning of an episode."""
    shape = columns, numbers
    return jnp.full(shape, jnp.nan, jnp.float32), jnp.zeros(shape, jnp.float32)


def _finite_mean(rows: Float[Array, "100 N"]) -> Float[Array, " N"]:
    there = jnp.isfinite(rows)
    return jnp.sum(jnp.where(there, rows, 0.0), axis=0) / jnp.sum(there, axis=0)


class EpisodeTally(NamedTuple):
    """Counts episodes and sums their returns, across batches. It holds arrays only, so that it can
    stay on the device with the batches.

    Attributes:
        episodes: number of episodes that have ended.
        recent_returns, recent_lengths: `[100]` each; of the last 100 that ended, the i-th of all in
            slot i mod 100.
        running_returns, running_lengths: `[B]` each; so far, of the episodes that are running.
        infos: the numbers in their infos; None if there are none.
    """

    episodes: LongCount
    recent_returns: Float[Array, " 100"]
    recent_lengths: Int[Array, " 100"]
    running_returns: Float[Array, " B"]
    running_lengths: Int[Array, " B"]
    infos: EpisodeInfos | None = None

    @classmethod
    def init(cls, columns: int, numbers: int = 0) -> "EpisodeTally":
        """The tally before the first batch, of so many numbers in each info."""
        infos = EpisodeInfos.init(columns, numbers) if numbers else None
        recent = (np.zeros(WINDOW, np.float32), np.zeros(WINDOW, np.int32))
        running = (np.zeros(columns, np.float32), np.zeros(columns, np.int32))
        return cls(LongCount.of(0), *map(jnp.asarray, recent + running), infos=infos)

    def update(self, trajectories: Trajectories) -> "EpisodeTally":
        """The tally after a batch. Pure."""
        counts = jnp.asarray(trajectories.valid)
        rewards = jnp.where(counts, trajectories.rewards, 0.0)
        last_steps = (trajectories.terminated | trajectories.truncated) & counts
        if trajectories.whole_episodes:
            ended = counts[:1] if trajectories.mostly_padding else jnp.ones_like(counts[:1])
            returns, lengths = jnp.sum(rewards, 0)[None], jnp.sum(counts, 0)[None]
            running = self.running_returns, self.running_lengths
        else:
            ended = last_steps

            def step(running: Any, row: Any) -> Any:
                reward, count, last = row
                sums, length = running[0].plus(reward), running[1] + count
                begun = jax.tree.map(lambda x: jnp.where(last, 0.0, x), sums)
                return (begun, jnp.where(last, 0, length)), (sums.total, length)

            # what rounding takes is known within a batch, and forgotten at its end
            start = LongSum.of(self.running_returns), self.running_lengths
            running, (returns, lengths) = jax.lax.scan(step, start, (rewards, counts, ended))
            running = running[0].total, running[1]

        ended = ended.reshape(-1)
        number = jnp.cumsum(ended)  # of each episode that ended, in the order in which they did
        kept = ended & (number > number[-1] - WINDOW)
        slot = jnp.where(kept, (self.episodes.rest + number - 1) % WINDOW, WINDOW)
        infos = self.infos
        if infos is not None and trajectories.infos is not None:
            infos = infos.update(trajectories, slot, last_steps)
        return EpisodeTally(
            self.episodes.plus(number[-1]),
            self.recent_returns.at[slot].set(returns.reshape(-1), mode="drop"),
            self.recent_lengths.at[slot].set(lengths.reshape(-1).astype(jnp.int32), mode="drop"),
            *running,
            infos,
        )

    def forget_running(self, lanes: Bool[Array, " B"]) -> "EpisodeTally":
        """Reset the sums of the running episodes of some lanes, without counting these episodes."""
        return self._replace(
            running_returns=jnp.where(lanes, 0, self.running_returns),
            running_lengths=jnp.where(lanes, 0, self.running_lengths),
            infos=None if self.infos is None else self.infos.forget_running(lanes),
        )


def recent_mean(recent: Any, episodes: int) -> float | None:
    """The mean over the last 100 episodes that ended; None before the first."""
    return float(np.mean(np.asarray(recent)[:episodes], dtype=np.float64)) if episodes else None

"""The scale of rewards: they are divided by the typical size of the discounted sum of past rewards.

The sum looks back, so that it is known at every step. Where rewards come late, the return to go,
which looks ahead, is several times as large.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from policygrad.core.trajectories import Trajectories, with_rewards
from policygrad.maths.returns import Scalar


def with_signs(trajectories: Trajectories) -> Trajectories:
    """The batch with −1, 0 or 1 in place of each reward (Mnih et al. 2015).

    It changes the objective: what counts is how often something is paid, not how much.
    """
    return with_rewards(trajectories, jnp.sign)


class RewardScale(NamedTuple):
    """Running mean square of the discounted sum of past rewards.

    Attributes:
        steps_seen: `[]`, steps seen.
        mean_square: `[]`, of G_t = r_t + γ G_{t−1}, which starts at zero in every episode.
        running: `[B]`, G of the episodes that are running (zeros for whole episodes).
    """

    steps_seen: Float[Array, ""]
    mean_square: Float[Array, ""]
    running: Float[Array, " B"]

    @classmethod
    def init(cls, columns: int) -> "RewardScale":
        """The scale before the first batch: 1."""
        zero = jnp.zeros((), jnp.float32)
        return cls(zero, zero, jnp.zeros(columns, jnp.float32))

    def update(self, trajectories: Trajectories, discount: Scalar) -> "RewardScale":
        """The scale after seeing a batch. No reward of one episode reaches the next."""

        def step(running: Array, row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            reward, ended, valid = row
            total = jnp.where(valid, reward + discount * running, 0.0)
            return jnp.where(ended, 0.0, total), total

        ended = trajectories.terminated | trajectories.truncated | ~trajectories.valid
        rows = (trajectories.rewards, ended, trajectories.valid)
        start = jnp.zeros_like(trajectories.rewards[0])
        if not trajectories.whole_episodes:
            start = start + self.running
        running, totals = jax.lax.scan(step, start, rows)

        seen = jnp.sum(trajectories.valid)
        count = self.steps_seen + seen
        share = seen / jnp.maximum(count, 1)
        mean_square = jnp.sum(totals**2) / jnp.maximum(seen, 1)
        return RewardScale(
            count,
            (1 - share) * self.mean_square + share * mean_square,
            self.running if trajectories.whole_episodes else running,
        )

    def forget_running(self, lanes: Bool[Array, " B"]) -> "RewardScale":
        """Without the running episodes of some lanes, whose place fresh ones have taken."""
        return self._replace(running=jnp.where(lanes, 0, self.running))

    def known_by(self, updated: "RewardScale") -> "RewardScale":
        """The scale that a batch is weighed with: this one, which does not contain the batch.

        The first batch has none before it. It is weighed with the scale computed from itself.
        """
        first = self.steps_seen == 0
        return jax.tree.map(lambda new, old: jnp.where(first, new, old), updated, self)

    def scaled(self, trajectories: Trajectories) -> Trajectories:
        """The batch with its rewards multiplied by the factor."""
        return with_rewards(trajectories, lambda rewards: rewards * self.factor)

    @property
    def factor(self) -> Float[Array, ""]:
        """`[]`, what rewards are multiplied by: 1/√(mean G²), or 1 while every reward was zero.

        The mean square is about zero, not about the mean: a constant reward has no variance, but it
        does have a size.
        """
        silent = self.mean_square == 0
        return jnp.where(silent, 1.0, jax.lax.rsqrt(jnp.where(silent, 1.0, self.mean_square)))

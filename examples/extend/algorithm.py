"""An algorithm of one's own: SPO, a quadratic penalty where PPO clips (Xie et al. 2024).

max E[ρ Ψ − |Ψ| (ρ − 1)² / (2 ε)],  ρ = π_new / π_old
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax

import policygrad
from policygrad.algorithms import Algorithm, Improved, gradient_of_mean, take_step
from policygrad.core.settings import Count, Positive


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class SPO(Algorithm):
    ratio_bound: Positive = 0.2
    """ε: a ratio gains most at 1 ± ε."""
    step_size: Positive = 3e-3
    """Step size of Adam."""
    passes: Count = field(default=10, metadata={"static": True})
    """Gradient steps a batch."""

    def start(self, differentiated: Any) -> Any:
        return optax.adam(self.step_size).init(differentiated)

    def improve(self, key: Any, policy: Any, improver: Any, batch: Any) -> Improved:
        record, size = batch.trajectories, self.step_size * batch.remaining
        _, before = self.ascent(policy, batch)

        def gain(distribution, action, old_log_prob, psi):
            ratio = jnp.exp(distribution.log_prob(action) - old_log_prob)
            gained = ratio * psi - jnp.abs(psi) * (ratio - 1) ** 2 / (2 * self.ratio_bound)
            c = self.entropy_coefficient  # None if it is zero
            return gained if c is None else gained + c * distribution.entropy()

        def once(carry, _):
            policy, optimiser = carry
            given = record.actions, record.log_probs, batch.psi
            gradient = gradient_of_mean(gain, policy, record, *given)
            descent = jax.tree.map(jnp.negative, gradient)
            step, optimiser = optax.adam(size).update(descent, optimiser)
            return (take_step(policy, step), optimiser), optax.tree.norm(gradient)

        (policy, improver), norms = jax.lax.scan(once, (policy, improver), length=self.passes)
        return Improved(policy, improver, before, norms[0], size, {})


def main(total_steps: int = 60_000) -> float:
    """Train CartPole by SPO; the mean return of the last hundred episodes."""
    run = policygrad.train("CartPole-v1", algorithm=SPO(ratio_bound=0.3), total_steps=total_steps)
    return run.summary["return_mean"]


if __name__ == "__main__":
    print(main())

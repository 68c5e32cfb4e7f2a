"""Trust region policy optimisation: the natural step, halved until it is an improvement."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from policygrad.algorithms.base import STATIC, Batch, Improved
from policygrad.algorithms.natural import NaturalStep
from policygrad.algorithms.policy_change import mean_entropy, mean_kl, mean_over_steps
from policygrad.algorithms.step_size import global_norm, take_step
from policygrad.core.settings import Count, Positive
from policygrad.gradients.scores import log_probs_of
from policygrad.policies.meeting import Policy


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TRPO(NaturalStep):
    """Trust region policy optimisation: the natural step, with a line search along it.

    A step is taken if the surrogate E[Ψ π_new/π_old], with the entropy bonus if there is one, rises
    and KL(old ‖ new) stays below `kl_slack` δ. If this does not hold after `backtracks` halvings
    either, the policy stays as it is.

    Attributes:
        backtracks: greatest number of halvings of the step; static.
        kl_slack: the measured KL may be up to this many times δ.

    Other attributes: as in `NaturalStep`.

    Source: Schulman et al. 2015, appendix C.
    """

    backtracks: Count = field(default=10, metadata=STATIC)
    """Greatest number of halvings of a step."""
    kl_slack: Positive = 1.5
    """A step's measured KL may be up to this many times the target."""

    def improve(
        self, key: PRNGKeyArray, policy: Policy, improver: tuple[()], batch: Batch
    ) -> Improved:
        del key
        gradient, before = self.ascent(policy, batch)
        x, step_size = self.natural_step(policy, gradient, batch)
        limit = self.kl_slack * self.target_kl * batch.remaining

        def improves(size: Float[Array, ""]) -> Array:
            new = take_step(policy, jax.tree.map(lambda x: size * x, x))
            gain = self.surrogate_gain(policy, new, batch)
            return (gain > 0) & (mean_kl(policy, new, batch.trajectories) <= limit)

        def rejected(carry: tuple[Array, Array, Array]) -> Array:
            count, _, good = carry
            return ~good & (count < self.backtracks)

        def halve(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            count, size, _ = carry
            return count + 1, size / 2, improves(size / 2)

        start = (jnp.int32(0), step_size, improves(step_size))
        count, size, good = jax.lax.while_loop(rejected, halve, start)
        size = jnp.where(good, size, 0.0)
        policy = take_step(policy, jax.tree.map(lambda x: size * x, x))
        norm = global_norm(gradient)
        return Improved(policy, improver, before, norm, size, {"backtracks": count})

    def surrogate_gain(self, old: Policy, new: Policy, batch: Batch) -> Float[Array, ""]:
        """E[Ψ (π_new/π_old − 1)] over the batch's steps, and what the entropy bonus gains."""
        record = batch.trajectories
        log_ratio = log_probs_of(new, record) - record.log_probs
        gain = mean_over_steps(batch.psi * jnp.expm1(log_ratio), record)
        if self.entropy_coefficient is not None:
            more = mean_entropy(new, record) - mean_entropy(old, record)
            gain = gain + self.entropy_coefficient * more
        return gain

"""Proximal policy optimisation: several passes of minibatch steps on the clipped surrogate."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policygrad.algorithms.base import STATIC, Algorithm, Batch, Improved, Schedule
from policygrad.algorithms.optimisers import Adam, Optimiser, transformation
from policygrad.algorithms.step_size import (
    StepSize,
    adapt_step_size,
    clip_by_global_norm,
    start_step_size,
)
from policygrad.core.modules import combine, split
from policygrad.core.settings import Count, NonNegative, Positive
from policygrad.devices.chunks import sum_in_chunks
from policygrad.gradients.baselines.network import shuffled_minibatches
from policygrad.policies import meeting


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class PPO(Algorithm):
    """PPO: ascends E[min(ρ Ψ, clip(ρ, 1−ε, 1+ε) Ψ)], ρ = π_new/π_old, by minibatches.

    Means are over the valid steps of a minibatch. A policy with memory is given whole lanes.

    Attributes:
        optimiser: a record of `algorithms.optimisers`, or a direction-giving optax transformation
            of the (descent) gradient; static.
        step_size: initial step size.
        clip_ratio: ε.
        epochs: passes over the batch; static.
        minibatches: parts that each pass is cut into; static.
        target_kl: nats; the step size follows the KL of whole updates as in `Vanilla`; 0 leaves it.
        max_global_norm: each minibatch's gradient is shortened to this length; 0 for no limit.

    Bias: the first minibatch's gradient is the policy gradient; later ones are of samples that an
    older policy drew, and Ψ is not corrected for it.

    Source: Schulman et al. 2017, equation 7.
    """

    optimiser: Optimiser = field(default=Adam(), metadata=STATIC)
    step_size: Positive = 3e-4
    """Initial step size of the policy."""
    clip_ratio: Positive = 0.2
    """Bound on how far a probability ratio pays."""
    epochs: Count = field(default=10, metadata=STATIC | {"setting": "ppo_epochs"})
    """Passes over each batch."""
    minibatches: Count = field(default=32, metadata=STATIC | {"setting": "ppo_minibatches"})
    """Parts that each of the passes is cut into."""
    target_kl: NonNegative = 0.0
    """KL between old and new policy (nats) of one update, which the step size is adapted to hold;
    0: fixed step."""
    max_global_norm: NonNegative = 0.5
    """The gradient is shortened to this length; 0: no limit."""
    step_size_schedule: Schedule = field(default="linear", metadata=STATIC)
    """constant, or linear: steps shrink to zero over the run."""

    def start(self, differentiated: PyTree) -> StepSize:
        return start_step_size(transformation(self.optimiser), self.step_size, differentiated)

    def improve(self, key: PRNGKeyArray, policy: Any, improver: StepSize, batch: Batch) -> Improved:
        record, optimiser = batch.trajectories, transformation(self.optimiser)
        size = meeting.unit_size(policy, record)
        data = meeting.units(
            policy, record, record.actions, record.log_probs, batch.psi, jnp.asarray(record.valid)
        )
        differentiated, rest = split(policy)
        step_size = improver.step_size * batch.remaining

        def minibatch(carry: Any, rows: Int[Array, " m"]) -> tuple[Any, Array]:
            params, state = carry
            some = jax.tree.map(lambda x: x[rows], data)
            loss = partial(self.loss, rest)
            total = sum_in_chunks(lambda some: jax.grad(loss)(params, some), some, size)
            steps = jnp.maximum(jnp.sum(some[-1]), 1)
            gradient = jax.tree.map(lambda g: g / steps.astype(g.dtype), total)
            norm = optax.tree.norm(gradient)
            gradient = clip_by_global_norm(gradient, norm, self.max_global_norm)
            updates, state = optimiser.update(gradient, state, params)
            params = jax.tree.map(lambda p, u: p - step_size * u, params, updates)
            return (params, state), norm

        units = jax.tree.leaves(data)[0].shape[0]
        rows = shuffled_minibatches(key, units, self.epochs, self.minibatches)
        start = (differentiated, improver.optimiser)
        (params, state), norms = jax.lax.scan(minibatch, start, rows)
        return Improved(
            combine(params, rest),
            StepSize(state, improver.step_size),
            meeting.unit_distributions(policy, record),
            norms[0],
            step_size,
            {},
        )

    def loss(self, rest: PyTree, params: PyTree, rows: Any) -> Float[Array, ""]:
        """The clipped surrogate, summed over some units; a loss, for descent."""
        seen, actions, log_probs, psi, valid = rows
        policy = combine(params, rest)
        found = meeting.distributions_of(policy, seen)
        new: Array = meeting.over_steps(policy, lambda p, a: p.log_prob(a))(found, actions)
        ratio = jnp.exp(jax.lax.select(valid, new - log_probs, jnp.zeros_like(new)))
        clipped = jnp.clip(ratio, 1 - self.clip_ratio, 1 + self.clip_ratio)
        gain = jnp.minimum(ratio * psi, clipped * psi)
        if self.entropy_coefficient is not None:
            entropy = meeting.over_steps(policy, lambda p: p.entropy())(found)
            gain = gain + self.entropy_coefficient * entropy
        return -jnp.sum(jnp.where(valid, gain, 0.0))

    def adapt(
        self, improver: StepSize, kl: Float[Array, ""], remaining: Float[Array, ""]
    ) -> StepSize:
        return adapt_step_size(improver, kl, self.target_kl, remaining)

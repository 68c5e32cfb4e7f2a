"""Proximal policy optimisation: several passes of minibatch steps on the clipped surrogate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from policygrad.algorithms.base import STATIC, Algorithm, Batch, Improved, Schedule
from policygrad.algorithms.optimisers import Adam, Optimiser
from policygrad.algorithms.step_size import (
    StepSize,
    adapt_step_size,
    clip_by_global_norm,
    global_norm,
    size_of_own_steps,
    start_step_size,
    step_along,
    take_step,
)
from policygrad.core.modules import combine, split
from policygrad.core.settings import Count, NonNegative, Positive
from policygrad.devices.chunks import sum_in_chunks, total
from policygrad.gradients.minibatches import minibatches
from policygrad.policies import meeting
from policygrad.policies.meeting import Policy


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class PPO(Algorithm):
    """PPO: ascends E[min(ρ Ψ, clip(ρ, 1−ε, 1+ε) Ψ)], ρ = π_new/π_old, by minibatches.

    Means are over the valid steps of a minibatch. A policy with memory gets minibatches of whole
    lanes.

    Attributes:
        optimiser: as in `Vanilla`, for each minibatch; static.
        step_size: initial step size.
        clip_ratio: ε.
        epochs: passes over the batch; static.
        minibatches: number of minibatches in each pass; static.
        target_kl: nats; the step size adapts to the KL of whole updates, as in `Vanilla`; 0: it
            does not adapt.
        max_global_norm: greatest length of each minibatch's gradient; a longer one is shortened to
            it. 0: no limit.

    Bias: the gradient of the first minibatch is the policy gradient. Later minibatches use samples
    of an older policy, and Ψ is not corrected for that.

    Source: Schulman et al. 2017, equation 7.
    """

    optimiser: Optimiser = field(default=Adam(), metadata=STATIC)
    step_size: Positive = 3e-4
    """Initial step size of the policy."""
    clip_ratio: Positive = 0.2
    """A probability ratio beyond 1 ± this number gives no further gain."""
    epochs: Count = field(default=10, metadata=STATIC | {"setting": "ppo_epochs"})
    """Passes over each batch."""
    minibatches: Count = field(default=32, metadata=STATIC | {"setting": "ppo_minibatches"})
    """Minibatches in each pass: of steps, or of lanes for a policy with memory."""
    target_kl: NonNegative = 0.0
    """KL between old and new policy of one update, in nats. The step size adapts to hold it; 0: it
    does not adapt."""
    max_global_norm: NonNegative = 0.5
    """The greatest length of the gradient; a longer one is shortened to it. 0: no limit."""
    step_size_schedule: Schedule = field(default="linear", metadata=STATIC)
    """constant, or linear: steps shrink to zero over the run."""

    fits_values: ClassVar[bool] = True
    suggests_for_pictures: ClassVar[Mapping[str, Any]] = MappingProxyType({
        "shared_trunk": True, "step_size": 5e-4, "ppo_epochs": 8, "ppo_minibatches": 4,
        "entropy_coefficient": 0.01,
    })  # fmt: skip

    def start(self, differentiated: PyTree) -> StepSize:
        return start_step_size(self.optimiser, self.step_size, differentiated)

    def improve(
        self, key: PRNGKeyArray, policy: Policy, improver: StepSize, batch: Batch
    ) -> Improved:
        record = batch.trajectories
        size, order = meeting.unit_size(policy, record), meeting.unit_order(policy, record)
        more, of_bonus = self.bonus(batch.values) or (None, ())
        data = meeting.units(policy, record, record.actions, record.log_probs, batch.psi, *of_bonus)
        filled = meeting.without_padding(data)
        differentiated, rest = split(policy)
        step_size = improver.now(batch.remaining)

        def minibatch(carry: PyTree, which: Any) -> tuple[PyTree, tuple]:
            params, state = carry
            rows, some = batches.take(which, data)
            gradient_of = jax.grad(partial(self.loss, rest, more))
            summed = sum_in_chunks(
                lambda rows: gradient_of(params, filled(rows)), rows, batches.size, some
            )
            steps = jnp.maximum(total(rows[0].valid, some), 1)
            gradient = jax.tree.map(lambda g: g / steps.astype(g.dtype), summed)
            norm = global_norm(gradient)
            gradient = clip_by_global_norm(gradient, norm, self.max_global_norm)
            step, state = step_along(self.optimiser, gradient, state, params, step_size)
            lengths = ()
            if step_size is None:
                lengths = global_norm(step), global_norm(gradient)
            return (take_step(params, step), state), (norm, lengths)

        units = jax.tree.leaves(data)[0].shape[0]
        batches = minibatches(key, units, self.epochs, self.minibatches, size, order)
        start = (differentiated, improver.optimiser)
        (params, state), (norms, lengths) = jax.lax.scan(minibatch, start, batches.which)
        if step_size is None:
            step_size = size_of_own_steps(state, *lengths)
        return Improved(
            combine(params, rest),
            improver._replace(optimiser=state),
            meeting.unit_distributions(policy, record),
            norms[0],
            step_size,
            {},
        )

    def loss(
        self, rest: PyTree, more: Callable | None, params: PyTree, rows: PyTree
    ) -> Float[Array, ""]:
        """The clipped surrogate and the bonus, summed over some units; a loss, for descent."""
        seen, actions, log_probs, psi, *of_bonus = rows
        policy = combine(params, rest)
        found = meeting.distributions_of(policy, seen)
        new: Array = meeting.over_steps(policy, lambda p, a: p.log_prob(a))(found, actions)
        ratio = jnp.exp(jax.lax.select(seen.valid, new - log_probs, jnp.zeros_like(new)))
        clipped = jnp.clip(ratio, 1 - self.clip_ratio, 1 + self.clip_ratio)
        gain = jnp.minimum(ratio * psi, clipped * psi)
        if more is not None:
            gain = gain + meeting.over_steps(policy, more)(found, *of_bonus)
        return -jnp.sum(jnp.where(seen.valid, gain, 0.0))

    def adapt(
        self,
        improver: StepSize,
        kl: Float[Array, ""],
        remaining: Float[Array, ""],
        held: Bool[Array, ""],
    ) -> StepSize:
        return adapt_step_size(improver, kl, self.target_kl, remaining, held)

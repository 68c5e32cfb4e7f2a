"""The vanilla policy gradient: one gradient step a batch, its size adapted to hold the KL."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from policygrad.algorithms.base import STATIC, Algorithm, Batch, Improved
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
from policygrad.core.modules import split
from policygrad.core.settings import NonNegative, Positive
from policygrad.policies.meeting import Policy


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Vanilla(Algorithm):
    """Vanilla policy gradient: θ ← θ + α · direction(ĝ), ĝ = mean Σ Ψ_t z_t.

    Attributes:
        optimiser: a record of `algorithms.optimisers`, or an optax transformation of the (descent)
            gradient; static. If it gives a direction, `step_size` multiplies it. If it takes steps
            of its own, these are taken, and `step_size`, its schedule and `target_kl` are not read.
        step_size: initial step size α.
        target_kl: nats; the step size is divided by 1.5 after an update whose KL exceeds twice the
            target, and multiplied by 1.5 after one below half of it. 0 leaves it as it is.
        max_global_norm: greatest length of the gradient; a longer one is shortened to it. 0: no
            limit.
    """

    optimiser: Optimiser = field(default=Adam(log_std_step=10.0), metadata=STATIC)
    step_size: Positive = 1e-3
    """Initial step size of the policy."""
    target_kl: NonNegative = 0.01
    """KL between old and new policy of one update, in nats. The step size adapts to hold it; 0: it
    does not adapt."""
    max_global_norm: NonNegative = 0.0
    """The greatest length of the gradient; a longer one is shortened to it. 0: no limit."""

    fits_values: ClassVar[bool] = True
    # steps that grow until the KL is met are lost where a policy of rectifiers is nearly certain
    suggests_for_pictures: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"target_kl": 0.0, "entropy_coefficient": 0.01}
    )

    def start(self, differentiated: PyTree) -> StepSize:
        return start_step_size(self.optimiser, self.step_size, differentiated)

    def improve(
        self, key: PRNGKeyArray, policy: Policy, improver: StepSize, batch: Batch
    ) -> Improved:
        del key
        gradient, before = self.ascent(policy, batch)
        norm = global_norm(gradient)
        ascent = clip_by_global_norm(gradient, norm, self.max_global_norm)
        descent = jax.tree.map(jnp.negative, ascent)
        differentiated, _ = split(policy)
        step_size = improver.now(batch.remaining)
        step, state = step_along(
            self.optimiser, descent, improver.optimiser, differentiated, step_size
        )
        if step_size is None:
            step_size = size_of_own_steps(state, global_norm(step), global_norm(ascent))
        after = improver._replace(optimiser=state)
        return Improved(take_step(policy, step), after, before, norm, step_size, {})

    def adapt(
        self,
        improver: StepSize,
        kl: Float[Array, ""],
        remaining: Float[Array, ""],
        held: Bool[Array, ""],
    ) -> StepSize:
        return adapt_step_size(improver, kl, self.target_kl, remaining, held)

"""The vanilla policy gradient: one gradient step a batch, its size adapted to hold the KL."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.algorithms.base import (
    STATIC,
    Algorithm,
    Batch,
    Info,
    StepSize,
    adapted,
    moved,
    shortened,
)
from policygrad.core.modules import split


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Vanilla(Algorithm):
    """Vanilla policy gradient: θ ← θ + α · direction(ĝ), ĝ = mean Σ Ψ_t z_t.

    Attributes:
        optimiser: direction-giving optax transformation of the (descent) gradient, without a step
            size of its own, such as `optax.scale_by_adam()`; static.
        step_size: initial step size α.
        target_kl: nats; the step size is divided by 1.5 after an update whose KL exceeds twice the
            target, and multiplied by 1.5 after one below half of it. 0 leaves it as it is.
        max_global_norm: the gradient is shortened to this length; 0 for no limit.
    """

    optimiser: optax.GradientTransformation = field(metadata=STATIC)
    step_size: float | Float[Array, ""] = 1e-3
    target_kl: float = field(default=0.01, metadata=STATIC)
    max_global_norm: float = field(default=0.0, metadata=STATIC)

    def start(self, differentiated: PyTree) -> StepSize:
        step_size = jnp.asarray(self.step_size, jnp.float32)
        return StepSize(jax.jit(self.optimiser.init)(differentiated), step_size)

    def improve(
        self, key: PRNGKeyArray, policy: Any, improver: StepSize, batch: Batch
    ) -> tuple[Any, StepSize, Info]:
        del key
        norm = optax.tree.norm(batch.gradient)
        ascent = shortened(batch.gradient, norm, self.max_global_norm)
        descent = jax.tree.map(jnp.negative, ascent)
        differentiated, _ = split(policy)
        updates, optimiser = self.optimiser.update(descent, improver.optimiser, differentiated)
        step_size = improver.step_size * batch.remaining
        policy = moved(policy, jax.tree.map(lambda u: -step_size * u, updates))
        info = {"gradient_norm": norm, "step_size": step_size}
        return policy, StepSize(optimiser, improver.step_size), info

    def adapt(
        self, improver: StepSize, kl: Float[Array, ""], remaining: Float[Array, ""]
    ) -> StepSize:
        step_size = adapted(improver.step_size, kl, self.target_kl, remaining)
        return improver._replace(step_size=step_size)

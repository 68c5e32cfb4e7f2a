"""Proximal policy optimisation: several passes of minibatch steps on the clipped surrogate."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policygrad.algorithms.base import STATIC, Algorithm, Batch, Info, StepSize, adapted, shortened
from policygrad.core.modules import combine, split
from policygrad.gradients.baselines.network import shuffled_minibatches


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class PPO(Algorithm):
    """PPO: ascends E[min(ρ Ψ, clip(ρ, 1−ε, 1+ε) Ψ)], ρ = π_new/π_old, by minibatches.

    Attributes:
        optimiser: direction-giving optax transformation of the (descent) gradient; static.
        step_size: initial step size.
        clip_ratio: ε.
        epochs: passes over the batch.
        minibatches: parts that each pass is cut into.
        target_kl: nats; the step size follows the KL of whole updates as in `Vanilla`; 0 leaves it.
        max_global_norm: each minibatch's gradient is shortened to this length; 0 for no limit.

    Bias: the first minibatch's gradient is the policy gradient; later ones are of samples that an
    older policy drew, and Ψ is not corrected for it.

    Source: Schulman et al. 2017, equation 7.
    """

    optimiser: optax.GradientTransformation = field(metadata=STATIC)
    step_size: float | Float[Array, ""] = 3e-4
    clip_ratio: float = field(default=0.2, metadata=STATIC)
    epochs: int = field(default=10, metadata=STATIC)
    minibatches: int = field(default=32, metadata=STATIC)
    target_kl: float = field(default=0.0, metadata=STATIC)
    max_global_norm: float = field(default=0.5, metadata=STATIC)

    def start(self, differentiated: PyTree) -> StepSize:
        step_size = jnp.asarray(self.step_size, jnp.float32)
        return StepSize(jax.jit(self.optimiser.init)(differentiated), step_size)

    def improve(
        self, key: PRNGKeyArray, policy: Any, improver: StepSize, batch: Batch
    ) -> tuple[Any, StepSize, Info]:
        record = batch.trajectories
        data = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]),
            (record.observations, record.actions, record.log_probs, batch.psi, record.valid),
        )
        differentiated, rest = split(policy)
        step_size = improver.step_size * batch.remaining

        def loss(params: PyTree, rows: Any) -> Float[Array, ""]:
            observations, actions, log_probs, psi, valid = rows
            distributions = jax.vmap(combine(params, rest))(observations)
            new: Array = jax.vmap(lambda p, a: p.log_prob(a))(distributions, actions)
            ratio = jnp.exp(jax.lax.select(valid, new - log_probs, jnp.zeros_like(new)))
            clipped = jnp.clip(ratio, 1 - self.clip_ratio, 1 + self.clip_ratio)
            gain = jnp.minimum(ratio * psi, clipped * psi)
            if self.entropy_coefficient:
                entropy = jax.vmap(lambda p: p.entropy())(distributions)
                gain = gain + self.entropy_coefficient * entropy
            return -jnp.sum(jnp.where(valid, gain, 0.0)) / jnp.maximum(jnp.sum(valid), 1)

        def minibatch(carry: Any, rows: Int[Array, " m"]) -> tuple[Any, Array]:
            params, optimiser = carry
            gradient = jax.grad(loss)(params, jax.tree.map(lambda x: x[rows], data))
            norm = optax.tree.norm(gradient)
            gradient = shortened(gradient, norm, self.max_global_norm)
            updates, optimiser = self.optimiser.update(gradient, optimiser, params)
            params = jax.tree.map(lambda p, u: p - step_size * u, params, updates)
            return (params, optimiser), norm

        rows = shuffled_minibatches(key, record.valid.size, self.epochs, self.minibatches)
        (params, optimiser), norms = jax.lax.scan(
            minibatch, (differentiated, improver.optimiser), rows
        )
        info = {"gradient_norm": norms[0], "step_size": step_size}
        return combine(params, rest), StepSize(optimiser, improver.step_size), info

    def adapt(
        self, improver: StepSize, kl: Float[Array, ""], remaining: Float[Array, ""]
    ) -> StepSize:
        step_size = adapted(improver.step_size, kl, self.target_kl, remaining)
        return improver._replace(step_size=step_size)

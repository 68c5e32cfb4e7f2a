"""The natural policy gradient, and TRPO's line search along it."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.algorithms.base import (
    STATIC,
    Algorithm,
    Batch,
    Info,
    mean_derivative,
    mean_kl,
    mean_over_valid,
    moved,
)
from policygrad.core.modules import combine, split
from policygrad.core.trajectories import Trajectories
from policygrad.gradients.scores import log_probs_of


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Natural(Algorithm):
    """Natural policy gradient: θ ← θ + β x, x = F⁻¹ĝ, β = √(2 δ / xᵀFx).

    F is the Fisher information of the policy, the Hessian of KL(old ‖ new) at the old policy, so
    that the step is the steepest one whose KL is δ, to second order. Conjugate gradients solve for
    x from products Fv alone.

    Attributes:
        target_kl: δ, nats: the size of the step.
        cg_iterations: at most so many products Fv.
        damping: added to F's diagonal; keeps directions that the batch says nothing of in bounds.
        fisher_share: F is estimated on this share of the batch's rows.

    Source: Kakade 2001; conjugate gradients as in Schulman et al. 2015, appendix C.
    """

    target_kl: float = field(default=0.03, metadata=STATIC)
    cg_iterations: int = field(default=10, metadata=STATIC)
    damping: float = field(default=0.1, metadata=STATIC)
    fisher_share: float = field(default=1.0, metadata=STATIC)

    def start(self, differentiated: PyTree) -> tuple[()]:
        return ()

    def improve(
        self, key: PRNGKeyArray, policy: Any, improver: Any, batch: Batch
    ) -> tuple[Any, Any, Info]:
        del key
        direction, step_size = self.natural_step(policy, batch)
        step_size, accepted = self.accept(policy, direction, step_size, batch)
        policy = moved(policy, jax.tree.map(lambda x: step_size * x, direction))
        norm = optax.tree.norm(batch.gradient)
        return policy, improver, {"gradient_norm": norm, "step_size": step_size, **accepted}

    def accept(
        self, policy: Any, direction: PyTree, step_size: Float[Array, ""], batch: Batch
    ) -> tuple[Float[Array, ""], Info]:
        """The step size that is taken, and what to log of it: the full one."""
        del policy, direction, batch
        return step_size, {}

    def natural_step(self, policy: Any, batch: Batch) -> tuple[PyTree, Float[Array, ""]]:
        """x = (F + damping)⁻¹ ĝ, and β."""
        rows = every(max(1, round(1 / self.fisher_share)), batch.trajectories)
        differentiated, rest = split(policy)

        def kl(params: PyTree, observation: PyTree) -> Float[Array, ""]:
            return policy(observation).kl(combine(params, rest)(observation))

        def product(v: PyTree) -> PyTree:
            along = lambda f: jax.jvp(jax.grad(f), (differentiated,), (v,))[1]  # noqa: E731
            fisher = mean_derivative(along, kl, rows)
            return jax.tree.map(lambda f, x: f + self.damping * x, fisher, v)

        x, _ = cg(product, batch.gradient, tol=1e-6, maxiter=self.cg_iterations)
        curvature = optax.tree.vdot(x, product(x))
        delta = self.target_kl * batch.remaining
        return x, jnp.sqrt(2 * delta / jnp.maximum(curvature, 1e-12))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TRPO(Natural):
    """Trust region policy optimisation: the natural step, halved until it keeps what it promised.

    A step is taken if the surrogate E[Ψ π_new/π_old] rises and KL(old ‖ new) stays below
    `kl_slack` δ; if none of `backtracks` halvings does, the policy stays as it is.

    Attributes:
        backtracks: how often the step is halved at most.
        kl_slack: by how much the measured KL may exceed δ.

    Source: Schulman et al. 2015, appendix C.
    """

    backtracks: int = field(default=10, metadata=STATIC)
    kl_slack: float = field(default=1.5, metadata=STATIC)

    def accept(
        self, policy: Any, direction: PyTree, step_size: Float[Array, ""], batch: Batch
    ) -> tuple[Float[Array, ""], Info]:
        limit = self.kl_slack * self.target_kl * batch.remaining

        def improves(size: Float[Array, ""]) -> Array:
            new = moved(policy, jax.tree.map(lambda x: size * x, direction))
            gain = surrogate_gain(new, batch)
            return (gain > 0) & (mean_kl(policy, new, batch.trajectories) <= limit)

        def rejected(carry: tuple[Array, Array, Array]) -> Array:
            count, _, good = carry
            return ~good & (count < self.backtracks)

        def halve(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            count, size, _ = carry
            return count + 1, size / 2, improves(size / 2)

        start = (jnp.int32(0), step_size, improves(step_size))
        count, size, good = jax.lax.while_loop(rejected, halve, start)
        return jnp.where(good, size, 0.0), {"backtracks": count}


def surrogate_gain(new: Any, batch: Batch) -> Float[Array, ""]:
    """E[Ψ (π_new/π_old − 1)] over the batch."""
    log_ratio = log_probs_of(new, batch.trajectories) - batch.trajectories.log_probs
    return mean_over_valid(batch.psi * jnp.expm1(log_ratio), batch.trajectories)


def every(stride: int, trajectories: Trajectories) -> Trajectories:
    """Rows of every `stride`-th step, shifted from lane to lane so that all times are seen."""
    steps, lanes = trajectories.valid.shape
    kept = max(1, steps // stride)
    rows = (jnp.arange(kept)[:, None] * stride + jnp.arange(lanes) % stride) % steps

    def pick(x: Array) -> Array:
        index = rows.reshape(kept, lanes, *[1] * (x.ndim - 2))
        return jnp.take_along_axis(x, index, axis=0)

    return replace(
        trajectories,
        observations=jax.tree.map(pick, trajectories.observations),
        valid=pick(trajectories.valid),
    )

"""The natural policy gradient."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.algorithms.base import STATIC, Algorithm, Batch, Improved, Schedule
from policygrad.algorithms.policy_change import fisher_product, thin
from policygrad.algorithms.step_size import global_norm, take_step
from policygrad.core.settings import Count, In, NonNegative, Positive
from policygrad.policies.meeting import Policy


@dataclass(frozen=True, kw_only=True)
class NaturalStep(Algorithm):
    """A step along x = (F + damping)⁻¹ ĝ whose length a KL target sets.

    F is the Fisher information of the policy, the Hessian of KL(old ‖ new) at the old policy.
    Conjugate gradients solve for x from products Fv alone.

    Attributes:
        target_kl: δ, nats: the size of the step.
        cg_iterations: at most so many products Fv; static.
        damping: added to F's diagonal. It limits the step in directions about which the batch says
            nothing.
        fisher_share: F is estimated on this share of the batch's rows; static. Every n-th row is
            taken, n being 1 / share, rounded.

    Source: Kakade 2001; conjugate gradients as in Schulman et al. 2015, appendix C.
    """

    target_kl: Positive = 0.03
    """KL between old and new policy of one update, in nats. It sets the size of the step."""
    cg_iterations: Count = field(default=10, metadata=STATIC)
    """Iterations of conjugate gradients."""
    damping: NonNegative = 0.1
    """Added to the Fisher information's diagonal."""
    fisher_share: Annotated[float, In(0, 1, open_low=True)] = field(default=1.0, metadata=STATIC)
    """Share of a batch's steps from which the Fisher information is estimated: every n-th step, n
    being 1 / share, rounded. A smaller share is faster and noisier."""
    step_size_schedule: Schedule = field(default="linear", metadata=STATIC)
    """constant, or linear: the square of the step shrinks to zero over the run."""

    sized_by_kl: ClassVar[bool] = True
    suggests: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"discount": 0.995, "critic_epochs": 20, "clipped_gaussian": True, "log_std": "shared"}
    )

    def start(self, differentiated: PyTree) -> tuple[()]:
        return ()

    def natural_step(
        self, policy: Policy, gradient: PyTree, batch: Batch
    ) -> tuple[PyTree, Float[Array, ""]]:
        """x, and β = √(2 δ / xᵀ(F + damping)x), by which the step θ + β x has the size δ."""
        rows = thin(policy, max(1, round(1 / self.fisher_share)), batch.trajectories)
        g, as_tree = ravel_pytree(gradient)

        def product(v: Float[Array, " k"]) -> Float[Array, " k"]:
            fisher, _ = ravel_pytree(fisher_product(policy, as_tree(v), rows))
            return fisher + self.damping * v

        x, residual = conjugate_gradients(product, g, self.cg_iterations)
        curvature = x @ (g - residual)
        delta = self.target_kl * batch.remaining
        known = curvature > 0  # else no step of the batch has a weight, and x is 0
        size = jnp.sqrt(2 * delta / jnp.where(known, curvature, 1.0))
        return as_tree(x), jnp.where(known, size, 0.0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Natural(NaturalStep):
    """Natural policy gradient: θ ← θ + β x, x = (F + damping)⁻¹ ĝ, β = √(2 δ / xᵀ(F + damping)x).

    Without damping it is, to second order, the steepest step whose KL is δ. Damping is counted as
    curvature too, and so keeps the KL below δ.

    Attributes, source: as in `NaturalStep`.
    """

    def improve(
        self, key: PRNGKeyArray, policy: Policy, improver: tuple[()], batch: Batch
    ) -> Improved:
        del key
        gradient, before = self.ascent(policy, batch)
        x, step_size = self.natural_step(policy, gradient, batch)
        policy = take_step(policy, jax.tree.map(lambda x: step_size * x, x))
        return Improved(policy, improver, before, global_norm(gradient), step_size, {})


Vector = Float[Array, " k"]


def conjugate_gradients(
    product: Callable[[Vector], Vector], b: Vector, iterations: int, tolerance: float = 1e-6
) -> tuple[Vector, Vector]:
    """x with A x ≈ b, and the residual r = b − A x; one product A p an iteration.

    From x = 0, r = p = b, until |r| ≤ tolerance |b|:

        α = rᵀr / pᵀAp,  x ← x + α p,  r' = r − α A p,  p ← r' + (r'ᵀr' / rᵀr) p.

    Args:
        product: p -> A p; A is symmetric and positive definite.
        b: `[k]`.
        iterations: at most so many.
        tolerance: see above.

    Source: Hestenes & Stiefel 1952.

    >>> x, r = conjugate_gradients(lambda p: jnp.array([1.0, 4.0]) * p, jnp.ones(2), 2)
    >>> [round(float(each), 4) for each in x]
    [1.0, 0.25]
    """
    enough = tolerance**2 * (b @ b)

    def goes_on(carry: tuple[Vector, Vector, Vector, Array, Array]) -> Array:
        *_, square, count = carry
        return (square > enough) & (count < iterations)

    def iterate(carry: tuple[Vector, Vector, Vector, Array, Array]) -> Any:
        x, r, p, square, count = carry
        image = product(p)
        size = square / (p @ image)
        r = r - size * image
        smaller = r @ r
        return x + size * p, r, r + smaller / square * p, smaller, count + 1

    start = jnp.zeros_like(b), b, b, b @ b, jnp.int32(0)
    x, r, *_ = jax.lax.while_loop(goes_on, iterate, start)
    return x, r

"""A step along an optimiser's direction, with a step size that follows the KL."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from policygrad.core.modules import combine, split
from policygrad.devices.compiled_code import compiled
from policygrad.policies.meeting import Policy

Number = float | Float[Array, ""]


class StepSize(NamedTuple):
    """The state of an optimiser, and the step size that multiplies its direction.

    Attributes:
        optimiser: state of the optax transformation.
        step_size: `[]`, of the next update.
    """

    optimiser: optax.OptState
    step_size: Float[Array, ""]


def start_step_size(
    optimiser: optax.GradientTransformation, step_size: Number, differentiated: PyTree
) -> StepSize:
    """The state before the first step."""
    return StepSize(compiled(optimiser.init)(differentiated), jnp.asarray(step_size, jnp.float32))


def take_step(policy: Policy, step: PyTree) -> Policy:
    """The policy after a step of its differentiated leaves."""
    differentiated, rest = split(policy)
    return combine(jax.tree.map(lambda p, s: (p + s).astype(p.dtype), differentiated, step), rest)


def clip_by_global_norm(
    gradient: PyTree, norm: Float[Array, ""], max_global_norm: Number
) -> PyTree:
    """The gradient, shortened to a length; 0 for no limit."""
    limit = jnp.where(jnp.asarray(max_global_norm) > 0, max_global_norm, jnp.inf)
    factor = jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12))
    return jax.tree.map(lambda g: g * factor.astype(g.dtype), gradient)


def adapt_step_size(
    improver: StepSize, kl: Float[Array, ""], target: Number, remaining: Float[Array, ""]
) -> StepSize:
    """The step size of the next update: ×1.5 below half the target KL, /1.5 above twice it.

    A target of 0 leaves it as it is. The KL is proportional to the square of the step. If the step
    shrinks over the run, the target therefore shrinks with the square of what remains. Otherwise
    the adaptation would undo the schedule.
    """
    target_now = target * remaining**2
    factor = jnp.where(kl > 2 * target_now, 1 / 1.5, jnp.where(kl < target_now / 2, 1.5, 1.0))
    adapted = jnp.clip(improver.step_size * factor, 1e-7, 1.0)
    step_size = jnp.where(jnp.asarray(target) > 0, adapted, improver.step_size)
    return improver._replace(step_size=step_size)

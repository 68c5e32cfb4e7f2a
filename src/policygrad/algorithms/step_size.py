"""A step along an optimiser's direction, with a step size that follows the KL."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from policygrad.algorithms.optimisers import Optimiser, transformation, updated
from policygrad.algorithms.probe import takes_own_steps
from policygrad.core.modules import combine, split
from policygrad.devices.compiled_code import compiled
from policygrad.policies.meeting import Policy

Number = float | Float[Array, ""]


class StepSize(NamedTuple):
    """The state of an optimiser, and the step size that multiplies its direction.

    Attributes:
        optimiser: state of the optax transformation.
        step_size: `[]`, of the next update; None if the optimiser takes steps of its own.
    """

    optimiser: optax.OptState
    step_size: Float[Array, ""] | None

    def now(self, remaining: Float[Array, ""]) -> Float[Array, ""] | None:
        """The step size of this update; None if the optimiser takes steps of its own."""
        return None if self.step_size is None else self.step_size * remaining


def start_step_size(optimiser: Optimiser, step_size: Number, differentiated: PyTree) -> StepSize:
    """The state before the first step."""
    own = takes_own_steps(optimiser, differentiated)
    start = compiled(transformation(optimiser).init)(differentiated)
    return StepSize(start, None if own else jnp.asarray(step_size, jnp.float32))


def step_along(
    optimiser: Optimiser,
    gradient: PyTree,
    state: optax.OptState,
    differentiated: PyTree,
    step_size: Float[Array, ""] | None,
) -> tuple[PyTree, optax.OptState]:
    """The step that an optimiser makes of a descent gradient, and its next state.

    Args:
        optimiser: a record or an optax transformation.
        gradient: points downhill.
        state: of the optimiser.
        differentiated: the parameters.
        step_size: what multiplies the direction; None for an optimiser that takes steps of its own.
    """
    updates, state = updated(transformation(optimiser), gradient, state, differentiated)
    if step_size is None:
        return updates, state
    return jax.tree.map(lambda u: -step_size * u, updates), state


def size_of_own_steps(
    state: optax.OptState, steps: Float[Array, "*n"], gradients: Float[Array, "*n"]
) -> Float[Array, ""]:
    """The step size that is logged for an optimiser that takes steps of its own.

    The learning rate of the last step where its state tells it, as that of
    `optax.inject_hyperparams` does. Else the length of the steps over the length of the gradients,
    which for SGD is the learning rate.

    Args:
        state: after the steps.
        steps, gradients: the length of each step, and of the gradient that the optimiser was given.
    """
    told = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if [_name(key) for key in path[-2:]] == ["hyperparams", "learning_rate"]
    ]
    if len(told) == 1 and jnp.shape(told[0]) == ():
        return jnp.asarray(told[0], jnp.float32)
    length = jnp.sum(gradients)
    share = jnp.sum(steps) / jnp.where(length > 0, length, 1.0)
    return jnp.where(length > 0, share, 0.0).astype(jnp.float32)


def _name(key: object) -> object:
    return getattr(key, "name", getattr(key, "key", None))


def take_step(policy: Policy, step: PyTree) -> Policy:
    """The policy after a step of its differentiated leaves."""
    differentiated, rest = split(policy)
    return combine(jax.tree.map(lambda p, s: (p + s).astype(p.dtype), differentiated, step), rest)


def global_norm(tree: PyTree) -> Float[Array, ""]:
    """The length of all numbers of a pytree as one vector. A sum for each leaf would be more to
    compile."""
    return jnp.linalg.norm(ravel_pytree(tree)[0])


def clip_by_global_norm(
    gradient: PyTree, norm: Float[Array, ""], max_global_norm: Number
) -> PyTree:
    """The gradient, shortened to a length; 0 for no limit."""
    limit = jnp.where(jnp.asarray(max_global_norm) > 0, max_global_norm, jnp.inf)
    factor = jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12))
    return jax.tree.map(lambda g: g * factor.astype(g.dtype), gradient)


def adapt_step_size(
    improver: StepSize,
    kl: Float[Array, ""],
    target: Number,
    remaining: Float[Array, ""],
    held: Bool[Array, ""],
) -> StepSize:
    """The step size of the next update: ×1.5 below half the target KL, /1.5 above twice it.

    A target of 0 leaves it as it is, and so does an optimiser that takes steps of its own. The KL
    is proportional to the square of the step. If the step shrinks over the run, the target
    therefore shrinks with the square of what remains. Otherwise the adaptation would undo the
    schedule. A step that is held does not grow: its KL stays small until a long step has replaced
    the network. No step grows beyond 1.
    """
    if improver.step_size is None:
        return improver
    target_now = target * remaining**2
    grown = jnp.where(held, 1.0, 1.5)
    factor = jnp.where(kl > 2 * target_now, 1 / 1.5, jnp.where(kl < target_now / 2, grown, 1.0))
    longest = jnp.maximum(improver.step_size, 1.0)
    adapted = jnp.clip(improver.step_size * factor, 1e-7, longest)
    step_size = jnp.where(jnp.asarray(target) > 0, adapted, improver.step_size)
    return improver._replace(step_size=step_size)

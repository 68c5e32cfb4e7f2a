"""Advantage estimates of one segment `[T]`: TD residuals and GAE. Callers `vmap`.

These are for code of your own. Training takes λ-returns less a baseline, in `gradients.weights`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from policygrad.core import checks
from policygrad.maths.returns import Discount, Scalar, as_floats, segment_ends, weighed

__all__ = ["gae", "td_residuals"]


def td_residuals(
    rewards: Float[Array, " T"],
    values: Float[Array, " T"],
    next_values: Float[Array, " T"],
    terminated: Bool[Array, " T"],
    *,
    discount: Discount,
) -> Float[Array, " T"]:
    """How much better a step turned out than the value function expected.

    δ_t = r_t + γ V(s_{t+1}) − V(s_t), with V(s_{t+1}) = 0 if step t terminated.  [E12, GAE]

    Args:
        rewards: `[T]`.
        values: `[T]`; value of each step's state.
        next_values: `[T]`; value of the true successor of each step, truncated or not.
        terminated: `[T]`.
        discount: γ in [0, 1], or `[T]`.

    Returns:
        `[T]`, in units of reward. Differentiable.

    Raises:
        ValueError: a discount out of range, or arrays of different shapes.

    Bias: an unbiased sample of the advantage A = Q − V when the values are the policy's true ones.

    Source: Schulman et al. 2016, eq. 10; E12.

    >>> td_residuals(jnp.array([1.0]), jnp.array([2.0]), jnp.array([4.0]),
    ...              jnp.array([False]), discount=0.5).tolist()
    [1.0]
    """
    checks.unit_interval("discount", discount)
    as_floats(rewards, terminated)  # for their shapes
    rewards, values, next_values, discount = as_floats(rewards, values, next_values, discount)
    ahead = jnp.where(jnp.asarray(terminated, bool), 0.0, discount * next_values)
    return rewards + ahead - values


def gae(
    rewards: Float[Array, " T"],
    values: Float[Array, " T"],
    next_values: Float[Array, " T"],
    terminated: Bool[Array, " T"],
    truncated: Bool[Array, " T"],
    *,
    discount: Discount,
    gae_lambda: Scalar,
) -> Float[Array, " T"]:
    """Generalised advantage estimation.

    Â_t = Σ_l (γλ)^l δ_{t+l}, computed as Â_t = δ_t + γλ Â_{t+1}. The sum stops at the end of an
    episode and at the last step.  [GAE]

    Args:
        rewards, values, next_values, terminated: `[T]`, as in `td_residuals`.
        truncated: `[T]`; a truncated step bootstraps from its successor, and the sum stops there.
        discount: γ in [0, 1], or `[T]`.
        gae_lambda: λ in [0, 1].

    Returns:
        `[T]`, in units of reward. Differentiable; as weights of scores they must be held constant.

    Raises:
        ValueError: a discount or λ out of range, or arrays of different shapes.

    Bias: none as an advantage when the values are the policy's true ones. None in the gradient's
    mean, whatever the values, if λ = 1 and no step bootstraps. Otherwise λ < 1 adds the values'
    error, and makes the sum shorter and less noisy.

    Source: Schulman et al. 2016, eq. 16; GAE.

    >>> r, v, no = jnp.ones(2), jnp.zeros(2), jnp.array([False, False])
    >>> gae(r, v, v, no, no, discount=1.0, gae_lambda=0.5).tolist()
    [1.5, 1.0]
    """
    checks.unit_interval("gae_lambda", gae_lambda)
    as_floats(rewards, terminated, truncated)  # for their shapes
    deltas = td_residuals(rewards, values, next_values, terminated, discount=discount)
    terminated, bootstraps = segment_ends(terminated, truncated)
    deltas, decay = as_floats(deltas, discount * jnp.asarray(gae_lambda, deltas.dtype))
    trace = jnp.where(terminated | bootstraps, 0.0, decay)

    def step(following: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, trace = row
        current = delta + weighed(trace, following)
        return current, current

    _, result = jax.lax.scan(step, jnp.zeros_like(deltas[0]), (deltas, trace), reverse=True)
    return result

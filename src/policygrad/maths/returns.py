"""Returns of one segment `[T]`: discounted, to go, n-step and λ. Callers `vmap` over environments.

Every recursion below cuts at the same places and in the same way. With d_t the discount, v'_t the
value of the true successor of step t, and G the quantity in question,

    terminated:                    d_t · 0             the task is over; no value exists beyond it
    truncated, or the last step:   d_t · v'_t          the task goes on; the record does not
    otherwise:                     d_t · (…G_{t+1}…)
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from policygrad.core import checks

__all__ = ["discounted_return", "lambda_returns", "n_step_returns", "returns_to_go"]

Scalar = float | Float[Array, ""]
Discount = float | Float[Array, ""] | Float[Array, " T"]


def discounted_return(rewards: Float[Array, " T"], discount: Discount) -> Float[Array, ""]:
    """The return of a trajectory. Its mean over trajectories is the objective.

    R(τ) = Σ_t γ^t r_t, and J(θ) = E R(τ).  [E0]

    Args:
        rewards: `[T]`; `rewards[t]` follows action t. Rows after the end must be zero.
        discount: γ in [0, 1], or `[T]`: `discount[t]` then multiplies everything after step t.

    Returns:
        `[]`, in units of reward. Differentiable in both arguments.

    Bias: none; J is its mean by definition.

    Source: the post, objective; E0.

    >>> float(discounted_return(jnp.array([1.0, 2.0, 4.0]), 0.5))
    3.0
    """
    return jnp.sum(discount_factors(rewards, discount) * rewards)


def discount_factors(like: Float[Array, " T"], discount: Discount) -> Float[Array, " T"]:
    """γ^t for t = 0…T−1; with a `[T]` discount, the product of its entries before step t.

    >>> discount_factors(jnp.zeros(3), 0.5).tolist()
    [1.0, 0.5, 0.25]
    """
    dtype = jnp.result_type(like, float)
    discount = jnp.broadcast_to(jnp.asarray(discount, dtype), jnp.shape(like))
    return jnp.concatenate([jnp.ones_like(discount[:1]), jnp.cumprod(discount[:-1])])


def as_floats(rewards: Array, *others: Array | float) -> tuple[Array, ...]:
    """`[T]` arrays of one floating-point type: that of the rewards, or float for integers."""
    dtype, shape = jnp.result_type(rewards, float), np.shape(rewards)
    for x in others:
        if np.shape(x) not in ((), shape):
            raise ValueError(
                f"every array must have the shape of the rewards, {list(shape)}, got "
                f"{list(np.shape(x))}; arrays are not broadcast"
            )
    return tuple(jnp.broadcast_to(jnp.asarray(x, dtype), shape) for x in (rewards, *others))


def segment_ends(
    terminated: Bool[Array, " T"], truncated: Bool[Array, " T"]
) -> tuple[Bool[Array, " T"], Bool[Array, " T"]]:
    """Which steps end the task, and which bootstrap from their successor instead of going on."""
    terminated = jnp.asarray(terminated, bool)
    bootstraps = jnp.asarray(truncated, bool).at[-1].set(True) & ~terminated
    return terminated, bootstraps


def weighed(weight: Array, x: Array) -> Array:
    """weight · x; 0 where the weight is 0, even if x is NaN or infinite and so 0 · x is NaN."""
    return weight * jnp.where((weight == 0) & ~jnp.isfinite(x), 0.0, x)


def returns_to_go(
    rewards: Float[Array, " T"],
    next_values: Float[Array, " T"],
    terminated: Bool[Array, " T"],
    truncated: Bool[Array, " T"],
    *,
    discount: Discount,
) -> Float[Array, " T"]:
    """The rewards that follow each action, discounted from that action on.

    G_t = Σ_{t'≥t} γ^{t'−t} r_{t'}, computed as G_t = r_t + γ G_{t+1}.  [E10; E5's sum at γ = 1]

    Args:
        rewards: `[T]`.
        next_values: `[T]`; value of the true successor of step t. It is read if the step is
            truncated or the last one, and not terminated. Zeros make a truncation an end.
        terminated: `[T]`.
        truncated: `[T]`.
        discount: γ in [0, 1], or `[T]`.

    Returns:
        `[T]`, in units of reward. Differentiable.

    Bias: an unbiased sample of Q_t at γ = 1 if no step bootstraps. γ < 1 is the post's biased
    approximation of the undiscounted gradient (E10). A bootstrap adds the error of its value.

    Source: the post, reward to go and discount; E5, E10.

    >>> r, no = jnp.array([1.0, 1.0, 1.0]), jnp.array([False, False, False])
    >>> returns_to_go(r, jnp.full(3, 8.0), no, no, discount=0.5).tolist()
    [2.75, 3.5, 5.0]
    """
    return lambda_returns(
        rewards, next_values, terminated, truncated, discount=discount, gae_lambda=1.0
    )


def n_step_returns(
    rewards: Float[Array, " T"],
    next_values: Float[Array, " T"],
    terminated: Bool[Array, " T"],
    truncated: Bool[Array, " T"],
    *,
    discount: Discount,
    n: int,
) -> Float[Array, " T"]:
    """The return of n rewards and the value of the state after them.

    G_t = r_t + γ r_{t+1} + … + γ^{n−1} r_{t+n−1} + γ^n V(s_{t+n}), cut at the segment's ends.
    Computed as G^(1)_t = r_t + γ v'_t and G^(k+1)_t = r_t + γ G^(k)_{t+1}.  [E13]

    Args:
        rewards, next_values, terminated, truncated: `[T]`, as in `returns_to_go`.
        discount: γ in [0, 1], or `[T]`.
        n: number of rewards, at least 1; T or more gives `returns_to_go`.

    Returns:
        `[T]`, in units of reward. Differentiable.

    Raises:
        ValueError: n is below 1.

    Bias: exact when `next_values` are the policy's true values; otherwise γ^n times their error.

    Source: the post, advantages with V in place of the tail; E13.

    >>> r, no = jnp.array([1.0, 1.0, 1.0]), jnp.array([False, False, False])
    >>> n_step_returns(r, jnp.full(3, 8.0), no, no, discount=0.5, n=1).tolist()
    [5.0, 5.0, 5.0]
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got n={n}")
    checks.unit_interval("discount", discount)
    as_floats(rewards, terminated, truncated)  # for their shapes
    rewards, next_values, discount = as_floats(rewards, next_values, discount)
    terminated, cut = segment_ends(terminated, truncated)
    one_step = rewards + jnp.where(terminated, 0.0, discount * next_values)

    def one_more_reward(_: Int[Array, ""], shorter: Float[Array, " T"]) -> Float[Array, " T"]:
        following = jnp.concatenate([shorter[1:], shorter[-1:]])
        return jnp.where(terminated | cut, one_step, rewards + discount * following)

    return jax.lax.fori_loop(1, min(n, len(rewards)), one_more_reward, one_step)


def lambda_returns(
    rewards: Float[Array, " T"],
    next_values: Float[Array, " T"],
    terminated: Bool[Array, " T"],
    truncated: Bool[Array, " T"],
    *,
    discount: Discount,
    gae_lambda: Discount,
) -> Float[Array, " T"]:
    """The geometric average of the n-step returns of every n.

    G_t = r_t + γ [(1 − λ) v'_t + λ G_{t+1}]; λ = 0 is one step, λ = 1 is `returns_to_go`.  [GAE]

    Args:
        rewards, next_values, terminated, truncated: `[T]`, as in `returns_to_go`.
        discount: γ in [0, 1], or `[T]`.
        gae_lambda: λ in [0, 1], or `[T]`, one for each step.

    Returns:
        `[T]`, in units of reward: `gae` plus the value of each step's state. Differentiable.

    Bias: exact when `next_values` are the policy's true values, or λ = 1 and no step bootstraps.

    Source: Schulman et al. 2016, eq. 16, with V added back; GAE.

    >>> r, no = jnp.array([1.0, 1.0, 1.0]), jnp.array([False, False, False])
    >>> lambda_returns(r, jnp.full(3, 8.0), no, no, discount=0.5, gae_lambda=0.0).tolist()
    [5.0, 5.0, 5.0]
    """
    checks.unit_interval("discount", discount)
    checks.unit_interval("gae_lambda", gae_lambda)
    as_floats(rewards, terminated, truncated)  # for their shapes
    rewards, next_values, discount, decay = as_floats(rewards, next_values, discount, gae_lambda)
    terminated, cut = segment_ends(terminated, truncated)

    def step(following: Array, row: tuple[Array, ...]) -> tuple[Array, Array]:
        reward, next_value, terminated, cut, discount, decay = row
        average = weighed(1 - decay, next_value) + weighed(decay, following)
        ahead = jnp.where(cut, next_value, average)
        current = reward + jnp.where(terminated, 0.0, discount * ahead)
        return current, current

    rows = (rewards, next_values, terminated, cut, discount, decay)
    _, result = jax.lax.scan(step, jnp.zeros_like(rewards[0]), rows, reverse=True)
    return result

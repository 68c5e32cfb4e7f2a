"""What is made of advantages and returns over a batch: normalisation, explained variance."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from policygrad.gradients.baselines.base import weighted_mean


def normalise(advantages: Float[Array, "T B"], valid: Array) -> Float[Array, "T B"]:
    """Centre the valid entries and scale them to unit variance; all zero where they are equal.

    This departs from the gradient: the mean that is subtracted contains each sample itself, and the
    scale, being one number a batch, changes the step and not the direction.
    """
    count = jnp.maximum(jnp.sum(valid), 1)
    # about one of them first: the rounded sum of many equal numbers is not many times the number
    one = jnp.max(jnp.where(valid, advantages, -jnp.inf), initial=-jnp.inf)
    shifted = jnp.where(valid, advantages - one, 0.0)
    centred = jnp.where(valid, shifted - jnp.sum(shifted) / count, 0.0)
    std = jnp.sqrt(jnp.sum(centred**2) / count)
    # below this the spread is rounding error, and dividing by it would invent an advantage
    resolution = 1e-5 * jnp.max(jnp.abs(jnp.where(valid, advantages, 0.0)))
    equal = std <= resolution
    return jnp.where(equal, 0.0, centred / jnp.where(equal, 1.0, std))


def explained_variance(
    targets: Float[Array, "T B"], predicted: Float[Array, "T B"], weights: Float[Array, "T B"]
) -> Float[Array, ""]:
    """1 − Var(targets − predicted) / Var(targets); 0 where the targets are all equal.

    1 is perfect, 0 what a constant reaches, and below 0 is worse than a constant.
    """

    def variance(x: Float[Array, "T B"]) -> Float[Array, ""]:
        mean = weighted_mean(x, weights)
        return weighted_mean((x - mean) ** 2, weights)

    total = variance(targets)
    equal = total <= 1e-12 * jnp.max(jnp.abs(targets)) ** 2
    unexplained = variance(targets - predicted) / jnp.where(equal, 1.0, total)
    return jnp.where(equal, 0.0, 1 - unexplained)

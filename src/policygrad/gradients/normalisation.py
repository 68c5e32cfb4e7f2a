"""Statistics over a batch: normalised advantages, and explained variance.

Advantages are normalised in one of two ways:

    standardise   (Ψ − mean Ψ) / std Ψ
    rescale       Ψ / √(mean Ψ²)

The mean is a baseline. So estimators without a baseline are rescaled, and the others standardised.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from policygrad.gradients.baselines.base import weighted_mean


def standardise(
    advantages: Float[Array, "T B"], valid: Array, returns: Float[Array, "T B"]
) -> Float[Array, "T B"]:
    """Centre the valid entries and scale them to unit variance; all zero if they are equal.

    This departs from the gradient: the mean that is subtracted contains each sample. The scale is
    one positive number for the batch, so the batch's gradient keeps its direction; it depends on
    the batch, so the mean over batches does not quite.
    """
    count = jnp.maximum(jnp.sum(valid), 1)
    # subtract one of them first: the rounded mean of many equal numbers may differ from the number
    one = jnp.max(jnp.where(valid, advantages, -jnp.inf), initial=-jnp.inf)
    shifted = jnp.where(valid, advantages - one, 0.0)
    centred = jnp.where(valid, shifted - jnp.sum(shifted) / count, 0.0)
    std = jnp.sqrt(jnp.sum(centred**2) / count)
    # a smaller spread is rounding error, and dividing by it would make advantages from noise
    sizes = jnp.maximum(jnp.abs(advantages), jnp.abs(returns))
    resolution = 1e-5 * jnp.max(sizes, initial=0.0, where=valid)
    equal = std <= resolution
    return jnp.where(equal, 0.0, centred / jnp.where(equal, 1.0, std))


def rescale(advantages: Float[Array, "T B"], valid: Array) -> Float[Array, "T B"]:
    """Divide the valid entries by their root mean square; all zero if they are zero.

    Nothing is subtracted. The scale is one positive number for the batch, so the batch's gradient
    keeps its direction; it depends on the batch, so the mean over batches does not quite.
    """
    advantages = jnp.where(valid, advantages, 0.0)
    largest = jnp.max(jnp.abs(advantages), initial=0.0)
    # by the largest first: the square of a very large or small number is beyond float32
    shares = advantages / jnp.where(largest > 0, largest, 1.0)
    square = jnp.sum(shares**2) / jnp.maximum(jnp.sum(valid), 1)
    return shares / jnp.where(largest > 0, jnp.sqrt(square), 1.0)


def explained_variance(
    targets: Float[Array, "T B"], predicted: Float[Array, "T B"], weights: Float[Array, "T B"]
) -> Float[Array, ""]:
    """1 − Var(targets − predicted) / Var(targets); 0 if the targets are all equal.

    1 is perfect, 0 is as good as a constant, and below 0 is worse than a constant. What has no
    weight may be NaN.
    """

    def variance(x: Float[Array, "T B"]) -> Float[Array, ""]:
        mean = weighted_mean(x, weights)
        return weighted_mean((x - mean) ** 2, weights)

    total = variance(targets)
    largest = jnp.max(jnp.abs(targets), initial=0.0, where=weights > 0)
    equal = total <= 1e-12 * largest**2
    unexplained = variance(targets - predicted) / jnp.where(equal, 1.0, total)
    return jnp.where(equal, 0.0, 1 - unexplained)

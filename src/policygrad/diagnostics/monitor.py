"""The noise of the gradient that an update was made from, measured during training.

The device computes moments only, adding one column after the other. The host computes the ratios
that follow from them, in 64 bits.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from policygrad.core.trajectories import Trajectories, episodes_in
from policygrad.diagnostics.moments import norm_by_variance, variance_and_norm
from policygrad.gradients.scores import column_moments


class GradientMoments(NamedTuple):
    """Moments of the gradients of a batch's N columns: whole episodes, groups of them that start
    from the same reset, or lanes of segments.

    Attributes:
        columns: `[]`, N.
        square: `[]`, ‖Ḡ‖² of their mean, the batch's gradient.
        mean_square: `[]`, the mean of ‖ĝ_n‖².
        product: `[]`, Ḡ · G', with G' the last monitored gradient.
        last_square: `[]`, ‖G'‖²; 0 before the first.
    """

    columns: Array
    square: Float[Array, ""]
    mean_square: Float[Array, ""]
    product: Float[Array, ""]
    last_square: Float[Array, ""]

    def variance_and_norm(self) -> tuple[float, float]:
        """trΣ of one column's gradient, and ‖G‖². Both are unbiased, so ‖G‖² may be negative."""
        square, mean_square, n = map(float, (self.square, self.mean_square, self.columns))
        variance, norm2 = variance_and_norm(square, mean_square, n)  # type: ignore[arg-type]
        return float(variance), float(norm2)


def gradient_moments(
    policy: Any, trajectories: Trajectories, weights: Float[Array, "T B"], last: PyTree
) -> tuple[PyTree, GradientMoments]:
    """The batch's gradient, and its moments.

    Args:
        policy, trajectories, weights: as `policy_gradient` takes them.
        last: the last monitored gradient; zeros before the first.

    Bias: columns count as independent and identically distributed. Whole episodes are, and so are
    groups of them. Lanes of segments begin in different states, and their differences count as
    noise. The dependence between columns that normalised advantages or leave-one-out over the whole
    batch cause is left out.

    Source: McCandlish et al. 2018.
    """
    gradient, mean_square = column_moments(policy, trajectories, weights)
    return gradient, GradientMoments(
        episodes_in(trajectories) // trajectories.group_size,
        jnp.asarray(optax.tree.vdot(gradient, gradient)),
        mean_square,
        jnp.asarray(optax.tree.vdot(gradient, last)),
        jnp.asarray(optax.tree.vdot(last, last)),
    )


def nothing_measured() -> GradientMoments:
    """Moments for an update that is not monitored: all zero."""
    zero = jnp.zeros((), jnp.float32)
    return GradientMoments(jnp.int32(0), zero, zero, zero, zero)


NOISE_METRICS = ("signal_to_noise", "noise_scale", "gradient_cosine")


def noise_metrics(moments: GradientMoments, steps: int) -> dict[str, float | None]:
    """What a monitored update logs.

    Args:
        moments: of its batch.
        steps: transitions in the batch.

    Returns:
        `signal_to_noise`, ‖G‖/√(trΣ/N); `noise_scale`, trΣ/‖G‖² in environment steps; and
        `gradient_cosine`, of this and the last monitored gradient. None for a number that is
        infinite or not defined: the noise scale if ‖G‖² is not positive, and the first cosine.
    """
    variance, norm2 = moments.variance_and_norm()
    n = float(moments.columns)
    ratio = float(norm_by_variance(norm2, variance))
    lengths = math.sqrt(float(moments.square)) * math.sqrt(float(moments.last_square))
    return {
        "signal_to_noise": math.sqrt(max(n * ratio, 0.0)) if ratio < math.inf else None,
        "noise_scale": steps / (n * ratio) if ratio > 0 else None,
        "gradient_cosine": float(moments.product) / lengths if lengths > 0 else None,
    }

"""How noisy the gradient is: variance, signal to noise, noise scale, and episodes needed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from policygrad.core.plain import to_json
from policygrad.core.trajectories import Trajectories
from policygrad.diagnostics.along import share_along
from policygrad.diagnostics.cosines import (
    CosineCurve,
    cosine_curve,
    episodes_for,
    signal_needed,
)
from policygrad.diagnostics.intervals import (
    GROUPS,
    GroupSums,
    Means,
    Measured,
    concentration,
    squares_of_sums,
)
from policygrad.diagnostics.lengths import LengthClasses, class_of
from policygrad.diagnostics.moments import norm_by_variance, variance_and_norm
from policygrad.diagnostics.sketch_error import EXACT, SketchError
from policygrad.diagnostics.streaming import (
    ROWS,
    Classed,
    Episodes,
    Part,
    Rows,
    by_part,
    flatten,
    parts_of,
    stream,
    weights_of,
)
from policygrad.gradients import scores
from policygrad.gradients.weights import Estimator, EstimatorState

COSINES = (0.5, 0.9)


@dataclass(frozen=True)
class Noise:
    """The noise of ONE episode's gradient estimate, over all parameters or one group of them.

    Episodes that start in groups depend on each other. Of them it is the noise of a group's mean
    gradient, times their number: what a batch of N episodes divides by N.

    Attributes:
        parameters: d.
        squared_norm: ‖G‖², G = E ĝ. The estimate is unbiased, so it may be below zero.
        norm: ‖G‖.
        variance: trΣ, the trace of the covariance. A batch of N divides it by N.
        signal_to_noise: ‖G‖/√trΣ. A batch of N multiplies it by √N.
        noise_scale: B = trΣ/‖G‖², episodes; infinite if the estimate of the norm is zero.
        along: share of trΣ along G. This share changes the estimate's length and not its direction.
            Its interval is from 0 to 1 if G may be zero.
        episodes_for: cosine -> episodes that a batch needs to have this cosine with G on average.
    """

    parameters: int
    squared_norm: Measured
    norm: Measured
    variance: Measured
    signal_to_noise: Measured
    noise_scale: Measured
    along: Measured
    episodes_for: Mapping[float, Measured]


@dataclass(frozen=True)
class GradientNoise:
    """The noise of a gradient estimate, measured from N per-episode gradients.

    Attributes:
        episodes: N.
        total: over all parameters.
        parts: by parameter group.
        cosines: measured and predicted, against the size of the batch.
        mean: `[d]`, the mean gradient; not part of the JSON.
    """

    episodes: int
    total: Noise
    parts: Mapping[str, Noise]
    cosines: CosineCurve
    mean: Float[np.ndarray, " d"] = field(metadata={"json": False})

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return to_json(self)


def gradient_noise(
    policy: Any,
    estimator: Estimator,
    state: EstimatorState,
    episodes: Episodes,
    *,
    groups: int = GROUPS,
    rows: int = ROWS,
) -> GradientNoise:
    """Variance, signal to noise and noise scale of an estimator, from whole episodes.

    trΣ = E‖ĝ − G‖², B = trΣ/‖G‖², cos(N) ≈ (1 + B/N)^(−1/2).

    Args:
        policy: observation -> distribution, at the parameters that acted.
        estimator: what weighs each score.
        state: what the estimator has fitted, on other episodes than these.
        episodes: whole episodes, or an iterable of batches of them; one batch at a time is in
            memory.
        groups: K of the jackknife; memory holds 2·K gradients.
        rows: steps that are differentiated at a time. If all steps fit, only one shape is compiled.

    Returns:
        `GradientNoise`; every quantity with its 95 % interval over episodes.

    Raises:
        UserError: segments, or fewer than two episodes.

    Bias: none in `variance` and `squared_norm`; ratios have the bias of a quotient, O(1/N). With a
    leave-one-out baseline the episodes of a batch depend on each other; this is left out.

    Source: McCandlish et al. 2018, with ‖G‖² less its own noise.
    """

    summed = noise_rows(estimator, state)
    sums = stream(policy, episodes, summed, groups=groups, rows=rows)
    return noise_of_sums(sums, parts_of(policy))


def noise_rows(estimator: Estimator, state: EstimatorState) -> Rows:
    """What `noise_of_sums` needs to be summed."""

    def weigh(batch: Any) -> Any:
        return weights_of(estimator, state, batch).psi

    return Rows(weigh, reduce_gradients, by_unit=True)


def reduce_gradients(policy: Any, episodes: Trajectories, psi: Array) -> dict[str, Any]:
    """For every unit ĝ, ‖ĝ‖² by part, and ĝ/‖ĝ‖; and ĝ and ‖ĝ‖² by class of length."""
    tree = scores.unit_gradients(policy, episodes, psi)
    return rows_of_noise(flatten(tree), by_part(tree), jnp)


def rows_of_noise(flat: Any, squares: Any, xp: Any) -> dict[str, Any]:
    """What is summed for the noise, from gradients `[m, d]` and their squares by part `[m, P]`.

    Args:
        flat, squares: arrays of NumPy or JAX.
        xp: NumPy or JAX's NumPy.
    """
    square = squares.sum(axis=1)
    length = xp.sqrt(square)
    of = class_of(square, xp)
    inverse = xp.where(length > 0, 1 / xp.where(length > 0, length, 1.0), 0.0)
    return {
        "gradient": flat,
        "square": squares,
        "direction": flat * inverse[:, None].astype(flat.dtype),
        "directed": 1.0 * (length > 0),
        "counts by length": Classed(of, xp.ones_like(square)),
        "gradient by length": Classed(of, flat),
        "square by length": Classed(of, square),
    }


def noise_of_sums(
    sums: GroupSums, parts: tuple[Part, ...], sketch: SketchError = EXACT
) -> GradientNoise:
    """The result, from group sums of `gradient`, `square`, `direction` and `directed`.

    Args:
        sums: of the rows of `rows_of_noise`.
        parts: columns of the gradients.
        sketch: what a sketch adds to the intervals, if the gradients are sketched.
    """
    sums = sums.folded()
    gradient, squares = sums.sums["gradient"], sums.sums["square"]
    products = with_total(products_of(gradient, parts))
    second = with_total(squares.T).T
    means = GroupSums(sums.counts, {"square": second}).means()
    whole = Part("total", 0, parts[-1].stop)
    alike = [
        concentration(x, sums.counts, p.stop - p.start)
        for x, p in zip(products, (whole, *parts), strict=True)
    ]
    along = [
        sketch.share_along(share_along(sums.counts, x, p.stop - p.start), c)
        for x, p, c in zip(products, (whole, *parts), alike, strict=True)
    ]
    needed = signal_needed(
        np.array(COSINES), np.array([x for f in along for x in (f.value, f.low, f.high)])
    ).reshape(len(along), 3, len(COSINES))
    total, *of_parts = [
        _noise(means, i, p.stop - p.start, products[i], alike[i], along[i], needed[i], sketch)
        for i, p in enumerate((whole, *parts))
    ]
    classes = LengthClasses(
        *(sums.classes[f"{x} by length"] for x in ("counts", "gradient", "square"))
    )
    curve = cosine_curve(sums, products[0], classes, total.signal_to_noise, total.along, sketch)
    return GradientNoise(
        episodes=sums.episodes,
        total=_of_episodes(total, sums.size),
        parts={p.name: _of_episodes(x, sums.size) for p, x in zip(parts, of_parts, strict=True)},
        cosines=replace(curve, episodes=curve.episodes * sums.size),
        mean=gradient.sum(axis=0) / sums.counts.sum(),
    )


def _of_episodes(noise: Noise, size: int) -> Noise:
    """The noise of units of so many episodes each, as numbers that a batch of N episodes divides
    by N, or multiplies by √N."""
    if size == 1:
        return noise

    def times(x: Measured, factor: float) -> Measured:
        return x.map(lambda value: value * factor)

    return replace(
        noise,
        variance=times(noise.variance, size),
        signal_to_noise=times(noise.signal_to_noise, size**-0.5),
        noise_scale=times(noise.noise_scale, size),
        episodes_for={c: times(x, size) for c, x in noise.episodes_for.items()},
    )


def products_of(
    gradient: Float[np.ndarray, "K d"], parts: tuple[Part, ...]
) -> Float[np.ndarray, "P K K"]:
    """Inner products of the groups' sums, part by part."""
    columns = (gradient[:, p.start : p.stop] for p in parts)
    return np.stack([x @ x.T for x in columns])


def with_total(parts: Float[np.ndarray, "P ..."]) -> Float[np.ndarray, "1+P ..."]:
    """The sum over all parts, followed by the parts."""
    return np.concatenate([parts.sum(axis=0, keepdims=True), parts])


def _noise(
    means: Means,
    part: int,
    d: int,
    products: np.ndarray,
    alike: float,
    along: Measured,
    needed: np.ndarray,
    sketch: SketchError,
) -> Noise:
    squared = squares_of_sums(products) / means.n**2
    variance, norm2 = variance_and_norm(squared, means["square"][:, part], means.n)
    ratio = norm_by_variance(norm2, variance)
    snr2 = means.squared_norm(ratio, 1 / means.n[0], alike, divisor=variance)
    snr = sketch.ratio(snr2, alike, along.value).map(_root)
    if means["square"][0, part] == 0:  # all gradients are zero: neither signal nor noise is known
        snr = Measured(0.0, 0.0, float("inf"))
    squared_norm = sketch.squared_norm(means.squared_norm(norm2, variance[0] / means.n[0], alike))
    return Noise(
        parameters=d,
        squared_norm=squared_norm,
        norm=squared_norm.map(_root),
        variance=sketch.variance(means.interval(variance, "positive"), alike),
        signal_to_noise=snr,
        noise_scale=Measured(_scale(snr.value), _scale(snr.high), _scale(snr.low)),
        along=along if snr.low > 0 else replace(along, low=0.0, high=1.0),
        episodes_for={
            c: episodes_for(Measured(*x), snr) for c, x in zip(COSINES, needed.T, strict=True)
        },
    )


def _root(x: float) -> float:
    return float(np.sqrt(max(x, 0.0)))


def _scale(signal_to_noise: float) -> float:
    return signal_to_noise**-2 if signal_to_noise > 0 else float("inf")

"""The cosine of gradient estimates with the truth and with each other, against the batch's size.

Measured. For unit vectors û of independent batches E[û·û'] = ‖E û‖², whatever their distribution.
The mean over pairs of disjoint batches is therefore estimated like any other squared norm. If E û
points along G, its root is the mean cosine with the true gradient.

Predicted. Noise along G changes an estimate's length, not its direction. Let f be the share of trΣ
that lies along G. A batch of N then has the component x ~ N(‖G‖, f·trΣ/N) along G, and a component
of squared length (1 − f)·trΣ/N across it, so that

    cos(N) = E[x / √(x² + (1 − f)·trΣ/N)].

At f = 0 this is (1 + B/N)^(−1/2) of McCandlish et al. 2018, B = trΣ/‖G‖². With one parameter f = 1,
and the cosine is a sign. The noise is assumed to be normal. If few episodes hold most of the
variance, the prediction of `lengths` is better.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from policygrad.diagnostics.combining import errors_of_both
from policygrad.diagnostics.intervals import (
    GroupSums,
    Measured,
    concentration,
    squares_of_sums,
)
from policygrad.diagnostics.lengths import LengthClasses, cosines_by_length
from policygrad.diagnostics.sketch_error import EXACT, SketchError

LEAST_BATCHES = 16
_MIDDLES = (np.arange(400) + 0.5) / 400
_NORMAL = ndtri(_MIDDLES)
_TANGENT = np.tan(np.pi * (_MIDDLES - 0.5))
_COSINE = np.cos(np.pi * (_MIDDLES - 0.5))
_COSINE /= _COSINE.sum()
_LITTLE = 0.3  # the share f below which the mean over x is the more accurate form


@dataclass(frozen=True)
class CosineCurve:
    """Cosines against the size of the batch. Every attribute holds one entry for each size.

    Attributes:
        episodes: `[n]`, the sizes: one episode, N / K, and then twice as many each time, to N / 16.
        between: the cosine of two independent batches, measured as a mean over disjoint pairs.
        between_by_length: `[n]`, the same, predicted from the lengths of the episodes' gradients
            (`lengths`); it has no interval.
        between_predicted: the same, predicted with normal noise: the square of
            `with_truth_predicted`.
        with_truth: the cosine of a batch with the true gradient: the root of `between`.
        with_truth_predicted: the same, predicted from norm and variance alone, with normal noise.
            Its interval follows from those of their ratio and of the share along G.
    """

    episodes: Float[np.ndarray, " n"]
    between: Measured
    between_by_length: Float[np.ndarray, " n"]
    between_predicted: Measured
    with_truth: Measured
    with_truth_predicted: Measured


def cosine_curve(
    sums: GroupSums,
    products: Float[np.ndarray, "K K"],
    classes: LengthClasses,
    signal_to_noise: Measured,
    along: Measured,
    sketch: SketchError = EXACT,
) -> CosineCurve:
    """The curve measured from disjoint batches, each of several groups, and predicted.

    Args:
        sums: group sums of `direction` and `directed`.
        products: inner products of the groups' summed gradients.
        classes: of all episodes, by length of gradient.
        signal_to_noise: of one episode.
        along: f, the share of trΣ along G.
        sketch: what a sketch adds to the intervals.
    """
    directions = sums.sums["direction"]
    of = partial(_mean_product, dimension=directions.shape[1], sketch=sketch)
    sizes = [1.0]
    found = [of(directions @ directions.T, sums.counts, sums.sums["directed"])]
    counts = sums.counts
    while len(counts) >= LEAST_BATCHES:
        sizes.append(float(counts.mean()))
        # the sum of every batch, scaled to a unit vector
        length = np.sqrt(np.diagonal(products))
        inverse = np.where(length > 0, 1 / np.where(length > 0, length, 1.0), 0.0)
        unit = products * inverse * inverse[:, None]
        found.append(of(unit, np.ones(len(counts)), 1.0 * (length > 0)))
        counts, products = _paired(counts[:, None])[:, 0], _paired(_paired(products).T)
    episodes = np.array(sizes)
    between = Measured(
        *(np.array([getattr(f, e) for f in found]) for e in ("value", "low", "high"))
    )
    predicted = predicted_curve(signal_to_noise, along, episodes)
    by_length = cosines_by_length(classes, signal_to_noise.value, along.value, episodes)
    return CosineCurve(
        episodes,
        between,
        by_length,
        predicted.map(np.square),
        between.map(lambda x: np.sqrt(np.maximum(x, 0.0))),
        predicted,
    )


def predicted_cosine(signal_to_noise: Any, episodes: Any, along: Any = 0.0) -> np.ndarray:
    """The mean cosine of a batch with the true gradient. Arguments are broadcast.

    Args:
        signal_to_noise: ‖G‖/√trΣ of one episode.
        episodes: sizes of the batch.
        along: f, the share of trΣ along G; 0 gives (1 + B/N)^(−1/2).

    >>> predicted_cosine(1.0, 3.0).round(3).item()
    0.866
    """
    if not np.all(np.isfinite(signal_to_noise)):
        return np.ones(np.shape(episodes))
    snr = np.asarray(signal_to_noise * np.sqrt(episodes), np.float64)[..., None]
    along = np.asarray(along, np.float64)[..., None]
    across = np.sqrt(1 - along)
    x = snr + np.sqrt(along) * _NORMAL
    little = np.mean(x / np.maximum(np.hypot(x, across), 1e-300), axis=-1)
    # integrated by parts: E[2Φ((snr − across·t)/√f) − 1], with t of density (t² + 1)^(−3/2)/2. If
    # nearly all noise lies along G this is as steep as a sign, which the mean over x cannot follow
    signs = 2 * ndtr((snr - across * _TANGENT) / np.sqrt(np.maximum(along, _LITTLE))) - 1
    return np.where(along[..., 0] < _LITTLE, little, signs @ _COSINE)


def predicted_curve(
    signal_to_noise: Measured, along: Measured, episodes: Float[np.ndarray, " n"]
) -> Measured:
    """`predicted_cosine` at these sizes, with an interval from those of both arguments."""
    s, f = signal_to_noise, along
    value = predicted_cosine(s.value, episodes, f.value)
    return errors_of_both(
        value,
        [predicted_cosine(x, episodes, f.value) for x in (s.low, s.high)],
        [predicted_cosine(s.value, episodes, x) for x in (f.low, f.high)],
    ).map(lambda x: np.clip(x, 0.0, 1.0))


def signal_needed(
    cosines: Float[np.ndarray, " C"], along: Float[np.ndarray, " P"]
) -> Float[np.ndarray, "P C"]:
    """N·SNR² at which a batch has this cosine with the true gradient, on average.

    Args:
        cosines: above 0 and below 1.
        along: f, of several groups of parameters.
    """

    def lacking(log_signal: np.ndarray, cosine: np.ndarray, share: np.ndarray) -> np.ndarray:
        return predicted_cosine(np.exp(log_signal / 2), 1.0, share) - cosine

    # the solutions for f = 0 and for f = 1; those for other f lie between them, or nearly
    ends = np.log([cosines**2 / (1 - cosines**2), ndtri((1 + cosines) / 2) ** 2])
    bracket = ends.min(axis=0) - 1, ends.max(axis=0) + 1
    from scipy.optimize.elementwise import find_root  # here: importing it takes 0.2 s

    found = find_root(lacking, bracket, args=(cosines, along[:, None]), tolerances={"xatol": 1e-9})
    return np.exp(found.x)


def episodes_for(needed: Measured, signal_to_noise: Measured) -> Measured:
    """The number of episodes N with N·SNR² = `needed`; at least 1.

    Args:
        needed: with the values at both ends of the interval of the share along G as `low` and
            `high`, in either order.
        signal_to_noise: of one episode.
    """

    def log_episodes(need: float, snr: float) -> float:
        return float(np.log(need) - 2 * np.log(snr)) if snr > 0 else float("inf")

    m, s = needed, signal_to_noise
    value = log_episodes(m.value, s.value)
    if not np.isfinite(value):  # no noise, or no signal that can be told from the noise
        ends = log_episodes(m.value, s.high), log_episodes(m.value, s.low)
        found = Measured(value, *ends)
    else:
        found = errors_of_both(
            value,
            [log_episodes(m.value, x) for x in (s.low, s.high)],
            [log_episodes(x, s.value) for x in (m.low, m.high)],
        )
    return found.map(lambda x: float(max(np.exp(x), 1.0)))


def _paired(x: Float[np.ndarray, "K n"]) -> Float[np.ndarray, "K/2 n"]:
    """Sums of pairs of rows, k with k + K/2; with an odd number, the last row is left out."""
    half = len(x) // 2
    return x[:half] + x[half : 2 * half]


def _mean_product(
    products: Float[np.ndarray, "K K"],
    counts: np.ndarray,
    directed: np.ndarray,
    dimension: int,
    sketch: SketchError,
) -> Measured:
    """‖E û‖² of unit vectors, by pairs: (‖Σû‖² − Σ‖û‖²)/(n(n − 1)), from 0 to 1.

    Args:
        products: inner products of sums over groups.
        counts: `[K]`, the number of unit vectors in each group.
        directed: `[K]`, how many of them are not zero.
        dimension: d.
        sketch: what a sketch adds to the interval.
    """
    means = GroupSums(counts, {"directed": directed}).means()
    n = means.n
    squared = squares_of_sums(products) / n**2
    value = (squared * n - means["directed"]) / np.maximum(n - 1, 1)
    if dimension == 1:
        return _of_signs(float(value[0]), float(np.sqrt(squared[0])), float(n[0]))
    alike = concentration(products, counts, dimension)
    found = means.squared_norm(value, float(squared[0] - value[0]), alike)
    return sketch.mean_cosine(found.map(lambda x: float(np.clip(x, 0.0, 1.0))), alike)


def _of_signs(value: float, mean: float, n: float) -> Measured:
    """(2p − 1)² of signs, by Wilson's interval of p. Equal signs do not prove that p = 1."""
    t2 = float(ndtri(0.975)) ** 2
    centre = mean / (1 + t2 / n)
    half = np.sqrt(t2 / n * (1 - mean**2 + t2 / n)) / (1 + t2 / n)
    low, high = centre - half, centre + half
    squares = min(low**2, high**2) if low * high > 0 else 0.0
    return Measured(max(value, 0.0), float(squares), float(max(low**2, high**2)))

"""The share f of a gradient's variance that lies along the gradient.

f = GᵀΣG / (‖G‖² trΣ) is the number at which GᵀM_f G = 0, M_f = Σ/trΣ − f. With the mean Ḡ of the
sample and its covariance S = Cov(Ḡ),

    D(f) = ḠᵀM_f Ḡ − tr(M_f S) = d₀ − f d₁

has the mean zero at the true f. The estimate is d₀/d₁. Its own distribution is of little use: d₁ is
an estimate of ‖G‖², which may be as large as its error. D(f) has no such divisor, and its variance
is quadratic in f. So the interval holds every f with D(f)² ≤ t² Var D(f) (Fieller 1954), and is
from 0 to 1 if G may be zero. The variance has two parts:

    of Ḡ    4 GᵀM S M G + 2 tr((M S)²)
    of Σ    that of the groups' contributions to Σ

The first term of Ḡ is measured at Ḡ in place of G, which adds 4 tr((M S)²) on average. This is
subtracted again, but the second term stays: where Ḡ happens to lie across the noise, the first one
is measured far too small, and the estimate of f is too. Σ has a relative error, about √(2/K) for K
groups however many episodes they hold. So it is taken of what Σ would be at f, not of what was
found: an f that was found too small would otherwise claim to be known best.
"""

import math

import numpy as np
from jaxtyping import Float

from policygrad.diagnostics.intervals import Measured, concentration, student


def share_along(counts: np.ndarray, products: Float[np.ndarray, "K K"], dimension: int) -> Measured:
    """f = GᵀΣG / (‖G‖² trΣ), from 0 to 1.

    Args:
        counts: `[K]`, episodes of each group.
        products: of sums over groups, of the parameters in question.
        dimension: d.
    """
    if dimension == 1:
        return Measured(1.0, 1.0, 1.0)  # with one parameter, all variance lies along G
    k = len(counts)
    means = products / counts / counts[:, None]
    centre = np.eye(k) - 1 / k
    about = centre @ means @ centre  # y_j · y_k of the groups' means, each less Ḡ
    total = float(np.trace(about)) / (k - 1)  # trΣ of a group's mean
    if total <= 0:
        return Measured(0.0, 0.0, 1.0)
    squared, noise = float(means.mean()), total / k  # ‖Ḡ‖², trS
    along = centre @ means.mean(axis=1)  # y_k · Ḡ
    seen = float(along @ along) / (k - 1) / total  # ḠᵀΣḠ/trΣ
    more = concentration(products, counts, dimension) * noise  # tr(ΣS)/trΣ
    d = seen - more, squared - noise
    if d[1] <= 0:
        return Measured(min(max(seen / squared, 0.0), 1.0), 0.0, 1.0)

    # what each group adds to D(f) = d₀ − f d₁, by Ḡ and by Σ; ḠᵀΣḠ/trΣ is `more` + f d₁ at f
    relative = along**2 / total / seen if seen > 0 else np.zeros(k)
    by_mean = 2 * (about @ along) / (k - 1) / total, 2 * along
    by_covariance = (
        relative * more - 2 * (about**2).sum(axis=1) / (k - 1) / k / total,
        np.diagonal(about) / total * (squared - 2 * noise) - relative * d[1],
    )
    added = np.add(by_mean, by_covariance)
    added -= added.mean(axis=1, keepdims=True)
    first = added @ added.T / (k * (k - 1))
    # 2 tr((M S)²) = second₀₀ − 2 f second₀₁ + f² second₁₁
    square = about @ about / (k - 1) ** 2
    two, three, four = np.trace(square), np.sum(square * about) / (k - 1), np.sum(square**2)
    second = 2 / k**2 * np.array([[four / total**2, three / total], [three / total, two]])
    t2 = float(student(k - 1)) ** 2
    value = d[0] / d[1]
    ends = [value, *_within(d, t2 * (first - second)), *_within(d, t2 * second)]
    return Measured(value, min(ends), max(ends)).map(lambda x: float(np.clip(x, 0.0, 1.0)))


def _within(d: tuple[float, float], v: Float[np.ndarray, "2 2"]) -> tuple[float, ...]:
    """The least and the largest f with (d₀ − f d₁)² ≤ v₀₀ − 2 f v₀₁ + f² v₁₁, if there are any."""
    a, b, c = (float(x) for x in (d[1] ** 2 - v[1, 1], d[0] * d[1] - v[0, 1], d[0] ** 2 - v[0, 0]))
    if a <= 0:
        return -math.inf, math.inf
    if b**2 < a * c:
        return ()
    root = math.sqrt(b**2 - a * c)
    return (b - root) / a, (b + root) / a

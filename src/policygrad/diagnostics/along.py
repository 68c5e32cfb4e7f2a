"""The share f of a gradient's variance that lies along the gradient.

f = GᵀΣG / (‖G‖² trΣ) is the number at which GᵀM_f G = 0, M_f = Σ/trΣ − f. With the mean Ḡ of the
sample and its covariance S,

    D(f) = ḠᵀM_f Ḡ − tr(M_f S) = d₀ − f d₁

has the mean zero at the true f. The estimate is d₀/d₁. Its own distribution is of little use: d₁ is
an estimate of ‖G‖², which may be as large as its error. D(f) has no such divisor. So the interval
holds every f with D(f)² ≤ t² Var D(f) (Fieller 1954). With m_i = GᵀΣⁱG/(trΣ)ⁱ the variance
is

    of Ḡ    4 trS (m₃ − 2 f m₂ + f² m₁) + 2 tr((M_f S)²)
    of Σ    that of the groups' contributions to D(f)

Both are what they would be if f were the true one, where m₁ = f d₁. Only m₂/m₁, m₃/m₁ and the
relative error of Σ, about √(2/K) for K groups however many episodes they hold, are taken from the
sample. What is measured at Ḡ is far too small where Ḡ happens to lie across the noise; the estimate
of f is too small there, and would claim to be known best.
"""

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
    total = float(np.trace(centre @ means)) / (k - 1)  # trΣ of a group's mean
    if total <= 0:
        return Measured(0.0, 0.0, 1.0)
    means = means / total  # f does not depend on the scale: from here on trΣ = 1
    about = centre @ means @ centre  # y_j · y_k of the groups' means, each less Ḡ
    along = centre @ means.mean(axis=1)  # y_k · Ḡ
    squared, seen = float(means.mean()), float(along @ along) / (k - 1)  # ‖Ḡ‖², ḠᵀΣḠ
    more = concentration(products, counts, dimension) / k  # tr(ΣS)
    d = seen - more, squared - 1 / k
    if d[1] <= 0:
        return Measured(min(seen / squared, 1.0) if squared > 0 else 0.0, 0.0, 1.0)

    # what each group adds to D(f) by Σ, c₀ − f c₁; at f, ḠᵀΣḠ is `more` + f d₁
    relative = along**2 / seen if seen > 0 else np.zeros(k)
    added = np.stack([
        relative * more - 2 * (about**2).sum(axis=1) / (k - 1) / k,
        np.diagonal(about) * (squared - 2 / k) - relative * d[1],
    ])  # fmt: skip
    added -= added.mean(axis=1, keepdims=True)
    # 2 tr((M_f S)²) from tr Σ², tr Σ³ and tr Σ⁴
    square = about @ about / (k - 1) ** 2
    two, three, four = np.trace(square), np.sum(square * about) / (k - 1), np.sum(square**2)
    turned = 2 / k**2 * np.array([[four, three], [three, two]])
    v = turned + added @ added.T / (k * (k - 1))
    across = about @ along / (k - 1)
    ratios = (np.stack([along, across]) @ across) / (k - 1)
    m2, m3 = ratios / seen if seen > 0 else (0.0, 0.0)  # m₂/m₁, m₃/m₁
    mean = 4 / k * d[1] * np.array([1.0, -2 * m2, m3, 0.0])
    variance = mean + np.array([0.0, v[1, 1], -2 * v[0, 1], v[0, 0]])
    apart = np.array([0.0, d[1] ** 2, -2 * d[0] * d[1], d[0] ** 2])
    found = np.roots(apart - float(student(k - 1)) ** 2 * variance)
    roots = found.real[np.abs(found.imag) < 1e-12].tolist()
    # far from the estimate, m₂/m₁ and m₃/m₁ of the sample say nothing
    value = min(max(d[0] / d[1], 0.0), 1.0)
    low = max((x for x in roots if 0 < x <= value), default=0.0)
    high = min((x for x in roots if value <= x < 1), default=1.0)
    return Measured(value, low, high)

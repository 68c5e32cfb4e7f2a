"""A prediction of the cosine for the case that few episodes hold most of the variance.

Episodes are classified by the length of their gradient: a class holds those whose ‖ĝ‖² lies within
the same factor of two. Three numbers of every class c are used: its share p_c of the episodes, the
mean μ_c of its gradients, and their mean squared length q_c. A batch of N draws n_c episodes of
each class. Given the n_c, its mean gradient is assumed to be normal around M = Σ n_c μ_c / N, with
the variances

    Σ n_c v_c / N²  along M,    Σ n_c (q_c − ‖μ_c‖² − v_c) / N²  across it.

v_c is proportional to q_c, such that all classes together have the share f of trΣ along G. The mean
direction of such a batch points along M. Two independent batches have, on average, the cosine

    ‖E û‖²,   û = M/‖M‖ · E[x / √(x² + across)],   x ~ N(‖M‖, along).

For a single episode û = ĝ/√q_c, and nothing is assumed to be normal.

Most batches hold none of the few long gradients. Such batches point better than trΣ predicts. The
mean of the short gradients need not lie along G, to which the long ones contribute most.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

CLASSES = 64  # 63 by powers of two (modulo 63), and one for gradients of zero
DRAWS = 2000
_NORMAL = ndtri((np.arange(16) + 0.5) / 16)


def class_of(square: Any, xp: Any) -> Any:
    """The class of every ‖ĝ‖². `xp` is NumPy or JAX's NumPy."""
    return xp.where(square > 0, xp.frexp(square)[1] % (CLASSES - 1), CLASSES - 1)


class LengthClasses(NamedTuple):
    """Sums over the episodes of each class of length.

    Attributes:
        counts: `[L]`, the number of episodes.
        gradient: `[L, d]`, the sum of ĝ.
        square: `[L]`, the sum of ‖ĝ‖².
    """

    counts: Float[np.ndarray, " L"]
    gradient: Float[np.ndarray, "L d"]
    square: Float[np.ndarray, " L"]


class _Terms(NamedTuple):
    """For each class: p, q, the products μ·μ' with all classes, v, and the variance across M."""

    shares: Float[np.ndarray, " L"]
    square: Float[np.ndarray, " L"]
    products: Float[np.ndarray, "L L"]
    along: Float[np.ndarray, " L"]
    across: Float[np.ndarray, " L"]


def cosines_by_length(
    classes: LengthClasses,
    signal_to_noise: float,
    along: float,
    sizes: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """E[û·û'] of two independent batches.

    It is a mean over 2,000 draws of the classes in a batch. The draws are the same in every call;
    their error is below 0.01.

    Args:
        classes: of all episodes.
        signal_to_noise: ‖G‖/√trΣ; if it is 0, so are the cosines.
        along: f, the share of trΣ along G.
        sizes: 1, then some N, and twice as many each time.
    """
    if signal_to_noise <= 0 or not np.isfinite(signal_to_noise):
        return np.full(len(sizes), 1.0 if signal_to_noise > 0 else 0.0)
    terms = _terms(classes, signal_to_noise, along)
    rng = np.random.default_rng(0)
    length = np.sqrt(terms.square)
    unit = terms.shares / np.where(length > 0, length, 1.0)
    found = [float(unit @ terms.products @ unit)]
    n = max(round(float(sizes[1])), 1) if len(sizes) > 1 else 0
    drawn = rng.multinomial(n, terms.shares, size=DRAWS)
    for _ in sizes[1:]:
        found.append(_squared_mean(terms, drawn))
        drawn = drawn + rng.permutation(drawn)
    return np.clip(found, 0.0, 1.0)


def _terms(classes: LengthClasses, signal_to_noise: float, along: float) -> _Terms:
    counts, gradient, square = (x[classes.counts > 0] for x in classes)
    n = counts.sum()
    p, q = counts / n, square / counts
    variance = p @ q / (1 + signal_to_noise**2)
    norm = signal_to_noise * np.sqrt(variance)
    total = gradient.sum(axis=0)
    # from pairs of different episodes, whose noise is independent: with G, and between classes
    component = (gradient @ total - square) / counts / max(n - 1, 1) / norm
    products = gradient @ gradient.T / counts / counts[:, None]
    own = (np.diagonal(products) * counts - q) / np.maximum(counts - 1, 1)
    # ‖μ_c‖² from pairs within the class (none for one episode); at least its component along G
    np.fill_diagonal(products, np.clip(own, np.minimum(component**2, q), q))
    inside, between = along * variance, p @ (component - norm) ** 2
    v = q * (max(inside - between, 0.0) / (p @ q))
    across = np.maximum(q - np.diagonal(products) - v, 0.0)
    return _Terms(p, q, products, v, across)


def _squared_mean(terms: _Terms, drawn: Float[np.ndarray, "R L"]) -> float:
    """‖E û‖² over rows; each row holds the numbers of a batch's episodes in every class."""
    share = drawn / drawn.sum(axis=1, keepdims=True)
    per_episode = share / drawn.sum(axis=1, keepdims=True)
    along, across = (per_episode @ v for v in (terms.along, terms.across))
    squared = np.sum(share @ terms.products * share, axis=1)
    norm = np.sqrt(np.maximum(squared, 1e-12 * (along + across)))
    x = norm[:, None] + np.sqrt(along)[:, None] * _NORMAL
    length = np.hypot(x, np.sqrt(across)[:, None])
    cosine = np.mean(x / np.where(length > 0, length, 1.0), axis=1)
    mean = (cosine / np.where(norm > 0, norm, 1.0)) @ share / len(drawn)
    return float(mean @ terms.products @ mean)

"""How much a mean over the newest episodes differs by chance, from how it changes row by row."""

import numpy as np
from jaxtyping import Float


def shared(counts: Float[np.ndarray, " U"], window: int, lag: int) -> Float[np.ndarray, " U-lag"]:
    """Cov(xₛ, xₜ)/σ² for t = s + lag, where xₜ is a mean over the newest episodes.

    Cov(xₛ, xₜ) = σ² |episodes in both| / (wₛ wₜ),  wₜ = min(nₜ, window).

    Args:
        counts: `[U]`, n: episodes that had ended by each row, not falling, greater than 0.
        window: episodes of a mean, once so many have ended.
        lag: rows between the two.
    """
    size = np.minimum(counts, window)
    early, late = slice(0, len(counts) - lag), slice(lag, None)
    both = np.maximum(counts[early] - np.maximum(counts - size, 0.0)[late], 0.0)
    return np.minimum(both, size[early]) / (size[early] * size[late])


def deviation_of_episodes(
    means: Float[np.ndarray, " U"], counts: Float[np.ndarray, " U"], window: int
) -> float:
    """σ, the standard deviation of one episode's return, from how the means change row by row.

    Such means change little from row to row and wander far: neighbours share most of their
    episodes. A change of the change, d = xₜ − 2xₜ₊₁ + xₜ₊₂, is free of a steady trend, and

    Var(d) = Cₜₜ + 4Cₜ₊₁ₜ₊₁ + Cₜ₊₂ₜ₊₂ − 4Cₜₜ₊₁ − 4Cₜ₊₁ₜ₊₂ + 2Cₜₜ₊₂,  σ² = mean of d²/(Var(d)/σ²),

    with C as in `shared`. Rows in which no episode ended change nothing, and do not count.

    Args:
        means: `[U]`, finite.
        counts: `[U]`, episodes that had ended by each row, not falling, greater than 0.
        window: episodes of a mean, once so many have ended.

    Returns:
        σ; 0 where there are too few rows to tell.
    """
    if len(means) < 3:
        return 0.0
    c0, c1, c2 = (shared(counts, window, lag) for lag in (0, 1, 2))
    expected = c0[:-2] + 4 * c0[1:-1] + c0[2:] - 4 * c1[:-1] - 4 * c1[1:] + 2 * c2
    told = expected > 1e-9 * c0[1:-1]
    if not told.any():
        return 0.0
    return float(np.sqrt(np.mean(np.diff(means, 2)[told] ** 2 / expected[told])))


def spread_of_rows(
    means: Float[np.ndarray, " U"], counts: Float[np.ndarray, " U"], window: int
) -> Float[np.ndarray, " U"]:
    """`[U]`, the standard deviation by chance of each mean, σ/√wₜ; arguments as above."""
    return deviation_of_episodes(means, counts, window) * np.sqrt(shared(counts, window, 0))


def spread_of_sum(
    counts: Float[np.ndarray, " U"], window: int, weights: Float[np.ndarray, " U"]
) -> float:
    """The standard deviation of Σ cₜ xₜ by chance, in units of σ, whatever the means share.

    Episode i has the weight aᵢ = Σₜ cₜ/wₜ over the means that hold it, and the variance is Σ aᵢ².

    Args:
        counts, window: as above.
        weights: `[U]`, c.
    """
    size = np.minimum(counts, window)
    edges, at = np.unique(np.concatenate([counts - size, counts]), return_inverse=True)
    changes = np.zeros(len(edges))
    np.add.at(changes, at, np.concatenate([weights / size, -weights / size]))
    each = np.cumsum(changes)[:-1]
    return float(np.sqrt(np.sum(each**2 * np.diff(edges))))

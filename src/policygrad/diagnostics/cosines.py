"""The cosine between two independent gradient estimates, against the size of their batches.

For unit vectors û of independent batches E[û·û'] = ‖E û‖², whatever their distribution, so that the
mean over pairs of disjoint batches is a squared norm like any other. Where E û points along G, its
root is the mean cosine with the true gradient.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from policygrad.diagnostics.intervals import GroupSums, Measured

LEAST_BATCHES = 16


@dataclass(frozen=True)
class CosineCurve:
    """Cosines against the size of the batch; arrays over sizes.

    Attributes:
        episodes: `[n]`, sizes: one episode, then doubling up to N / 16.
        between: of two independent batches, the mean over disjoint pairs.
        between_predicted: 1/(1 + B/N).
        with_truth: of a batch and the true gradient: the root of `between`.
        with_truth_predicted: (1 + B/N)^(−1/2).
    """

    episodes: Float[np.ndarray, " n"]
    between: Measured
    between_predicted: Measured
    with_truth: Measured
    with_truth_predicted: Measured


def cosine_curve(sums: GroupSums, signal_to_noise: Measured) -> CosineCurve:
    """Measured from disjoint batches, each of them some groups; predicted from the noise scale.

    Args:
        sums: of `gradient`, `direction` and `directed`.
        signal_to_noise: of one episode.
    """
    sizes, found = [1.0], [_mean_product(sums, "direction", "directed")]
    groups = sums
    while len(groups.counts) >= LEAST_BATCHES:
        sizes.append(float(groups.counts.mean()))
        found.append(_mean_product(_directions(groups), "direction", "directed"))
        groups = groups.merged(2)
    episodes = np.array(sizes)
    between = Measured(*(np.array([getattr(f, e) for f in found]) for e in ("value", "low", "high")))
    predicted = signal_to_noise.map(lambda s: predicted_cosine(s, episodes) ** 2)
    return CosineCurve(
        episodes,
        between,
        predicted,
        between.map(lambda x: np.sqrt(np.maximum(x, 0.0))),
        predicted.map(np.sqrt),
    )


def predicted_cosine(
    signal_to_noise: float, episodes: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """(1 + B/N)^(−1/2), B = 1/SNR²: the cosine of a batch of N with the true gradient."""
    if not np.isfinite(signal_to_noise):
        return np.ones_like(episodes)
    return np.sqrt(1 - 1 / (1 + episodes * signal_to_noise**2))


def _directions(groups: GroupSums) -> GroupSums:
    """Every group's sum as one unit vector: a batch is the group's episodes."""
    g = groups.sums["gradient"]
    length = np.linalg.norm(g, axis=1)
    unit = g / np.where(length > 0, length, 1.0)[:, None]
    sums = {"direction": unit, "directed": 1.0 * (length > 0)}
    return GroupSums(np.ones(len(g)), sums)


def _mean_product(sums: GroupSums, direction: str, directed: str) -> Measured:
    """‖E û‖² of unit vectors, by pairs: (‖Σû‖² − Σ‖û‖²)/(n(n − 1)), at most 1."""
    means = sums.means()
    n = means.n
    squared = np.sum(means[direction] ** 2, axis=1)
    value = (squared * n - means[directed]) / np.maximum(n - 1, 1)
    found = means.interval(value, "square", 0.5 / n[0])
    return found.map(lambda x: min(x, 1.0))

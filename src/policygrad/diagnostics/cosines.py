"""The cosine of gradient estimates with the truth and with each other, against the batch's size.

Measured. For unit vectors û of independent batches E[û·û'] = ‖E û‖², whatever their distribution:
the mean over pairs of disjoint batches is a squared norm like any other. Where E û points along G,
its root is the mean cosine with the true gradient.

Predicted. Noise along G changes an estimate's length, not its direction. With f the share of trΣ
that lies along G, a batch of N has the component x ~ N(‖G‖, f·trΣ/N) along G and (1 − f)·trΣ/N
squared across it, so that

    cos(N) = E[x / √(x² + (1 − f)·trΣ/N)].

At f = 0 this is (1 + B/N)^(−1/2) of McCandlish et al. 2018, B = trΣ/‖G‖²; with one parameter f = 1
and the cosine is that of a sign.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from policygrad.diagnostics.intervals import GroupSums, Measured, concentration

LEAST_BATCHES = 16
_NORMAL = ndtri((np.arange(400) + 0.5) / 400)


@dataclass(frozen=True)
class CosineCurve:
    """Cosines against the size of the batch; arrays over sizes.

    Attributes:
        episodes: `[n]`, sizes: one episode, N / K, and twice as many each time up to N / 16.
        between: of two independent batches, the mean over disjoint pairs.
        between_predicted: the square of `with_truth_predicted`.
        with_truth: of a batch and the true gradient: the root of `between`.
        with_truth_predicted: from norm and variance alone; its interval is that of their ratio.
    """

    episodes: Float[np.ndarray, " n"]
    between: Measured
    between_predicted: Measured
    with_truth: Measured
    with_truth_predicted: Measured


def cosine_curve(sums: GroupSums, signal_to_noise: Measured, along: float) -> CosineCurve:
    """Measured from disjoint batches, each of them some groups; predicted from the noise.

    Args:
        sums: of `gradient`, `direction` and `directed`.
        signal_to_noise: of one episode.
        along: f.
    """
    sizes, found = [1.0], [_mean_product(sums)]
    groups = sums
    while len(groups.counts) >= LEAST_BATCHES:
        sizes.append(float(groups.counts.mean()))
        found.append(_mean_product(_directions(groups)))
        groups = groups.merged(2)
    episodes = np.array(sizes)
    between = Measured(
        *(np.array([getattr(f, e) for f in found]) for e in ("value", "low", "high"))
    )
    predicted = signal_to_noise.map(lambda s: predicted_cosine(s, episodes, along))
    return CosineCurve(
        episodes,
        between,
        predicted.map(np.square),
        between.map(lambda x: np.sqrt(np.maximum(x, 0.0))),
        predicted,
    )


def predicted_cosine(
    signal_to_noise: float, episodes: Float[np.ndarray, " n"] | float, along: float = 0.0
) -> Float[np.ndarray, " n"]:
    """The mean cosine of a batch with the true gradient.

    Args:
        signal_to_noise: ‖G‖/√trΣ of one episode.
        episodes: sizes of the batch.
        along: f, the share of trΣ along G; 0 gives (1 + B/N)^(−1/2).

    >>> predicted_cosine(1.0, 3.0).round(3).item()
    0.866
    """
    snr = signal_to_noise * np.sqrt(np.asarray(episodes, np.float64))[..., None]
    if not np.isfinite(signal_to_noise):
        return np.ones(np.shape(episodes))
    x = snr + np.sqrt(along) * _NORMAL
    length = np.sqrt(x**2 + (1 - along))
    return np.mean(x / np.where(length > 0, length, 1.0), axis=-1)


def episodes_for(cosine: float, signal_to_noise: Measured, along: float) -> Measured:
    """Episodes whose mean has this cosine with the true gradient, on average; at least 1."""

    # it depends on N·SNR² alone, which is solved for once
    low, high = -12.0, 40.0  # of its logarithm
    for _ in range(45):
        middle = (low + high) / 2
        enough = predicted_cosine(1.0, np.exp(middle), along) >= cosine
        low, high = (low, middle) if enough else (middle, high)
    needed = float(np.exp(high))

    def solve(snr: float) -> float:
        return max(needed / snr**2, 1.0) if snr > 0 else float("inf")

    s = signal_to_noise
    return Measured(solve(s.value), solve(s.high), solve(s.low))


def share_along(counts: np.ndarray, gradient: Float[np.ndarray, "K d"]) -> float:
    """f = uᵀΣu / trΣ with u = G/‖G‖, each group projected on the mean of the others.

    Both from the same groups, whose luck cancels. Where noise dominates, u is not known and f is
    that of a random direction. No interval.

    Args:
        counts: `[K]`, episodes of each group.
        gradient: `[K, d]`, sums over groups, of the parameters in question.
    """
    if gradient.shape[1] == 1:
        return 1.0  # there is nowhere else
    means = gradient / counts[:, None]
    others = means.sum(axis=0) - means
    length = np.linalg.norm(others, axis=1)
    projected = np.sum(means * others, axis=1) / np.where(length > 0, length, 1.0)
    total = means.var(axis=0, ddof=1).sum()
    along = projected.var(ddof=1) / total if total > 0 else 0.0
    return float(np.clip(along, 0.0, 1.0))


def _directions(groups: GroupSums) -> GroupSums:
    """Every group's sum as one unit vector: a batch is the group's episodes."""
    g = groups.sums["gradient"]
    length = np.linalg.norm(g, axis=1)
    unit = g / np.where(length > 0, length, 1.0)[:, None]
    sums = {"direction": unit, "directed": 1.0 * (length > 0)}
    return GroupSums(np.ones(len(g)), sums)


def _mean_product(sums: GroupSums) -> Measured:
    """‖E û‖² of unit vectors, by pairs: (‖Σû‖² − Σ‖û‖²)/(n(n − 1)), from 0 to 1."""
    means = sums.means()
    n = means.n
    squared = np.sum(means["direction"] ** 2, axis=1)
    value = (squared * n - means["directed"]) / np.maximum(n - 1, 1)
    if sums.sums["direction"].shape[1] == 1:
        return _of_signs(float(value[0]), float(means["direction"][0, 0]), float(n[0]))
    own = sums.sums["direction"]
    alike = concentration(own @ own.T, sums.counts, own.shape[1])
    found = means.squared_norm(value, float(squared[0] - value[0]), alike)
    return found.map(lambda x: float(np.clip(x, 0.0, 1.0)))


def _of_signs(value: float, mean: float, n: float) -> Measured:
    """(2p − 1)² of signs, by Wilson's interval of p: all alike is no proof that p = 1."""
    t2 = float(ndtri(0.975)) ** 2
    centre = mean / (1 + t2 / n)
    half = np.sqrt(t2 / n * (1 - mean**2 + t2 / n)) / (1 + t2 / n)
    low, high = centre - half, centre + half
    squares = min(low**2, high**2) if low * high > 0 else 0.0
    return Measured(max(value, 0.0), float(squares), float(max(low**2, high**2)))

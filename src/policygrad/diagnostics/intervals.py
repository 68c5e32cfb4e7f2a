"""Sums over groups of episodes, and the 95 % intervals that follow from them.

Nothing here keeps a gradient. Episode i goes to group i mod K, and every quantity is a function θ
of sums over groups, so that leaving a group out costs a subtraction. The delete-a-group jackknife
is the bootstrap over episodes to first order; it needs no resampling, keeps K sums whatever N is,
and by Student's t with K − 1 degrees of freedom it is honest about how few groups there are.

What makes it cover is the scale on which an interval is symmetric:

    linear    θ ± t·se                               of means, and of what may have either sign
    log       θ·exp(± t·se/θ)                        of variances: positive, skewed by heavy tails
    square    (√(θ + c) ± t·se/(2√(θ + c)))² − c     of squared norms of means
    cosine    s = θ/√(1 − θ²), s ± t·se·(1 − θ²)^(−3/2)   of cosines; s is a signal-to-noise ratio

A squared norm ‖Ḡ‖² exceeds ‖G‖² by trΣ/N on average; θ is without that, and c is half of it. For
one parameter this is Student's interval of the mean, squared; where noise dominates in many
dimensions it is the linear one, which is right there since ‖Ḡ‖² is then nearly normal.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

Scale = Literal["linear", "log", "square", "cosine"]

RANGE: dict[str, tuple[float, float]] = {
    "linear": (-math.inf, math.inf),
    "log": (0.0, math.inf),
    "square": (0.0, math.inf),
    "cosine": (-1.0, 1.0),
}
GROUPS = 64
LEAST_GROUPS = 16
LEAST_EPISODES_A_GROUP = 8


@dataclass(frozen=True)
class Measured:
    """An estimate and its 95 % interval; floats, or arrays of one shape."""

    value: Any
    low: Any
    high: Any

    def map(self, increasing: Any) -> "Measured":
        """An increasing function of it; decreasing ones swap the ends themselves."""
        return Measured(increasing(self.value), increasing(self.low), increasing(self.high))

    def covers(self, truth: Any) -> Any:
        """Whether the interval contains a number, to rounding."""
        slack = 1e-6 * np.abs(truth)
        inside = (self.low - slack <= truth) & (truth <= self.high + slack)
        return bool(inside) if np.ndim(inside) == 0 else inside

    def to_json(self) -> Any:
        """Plain data; None stands for a number that is infinite or not defined."""
        return to_json(self)


def to_json(record: Any) -> Any:
    """Any record of the diagnostics as plain data; None for what is infinite or not defined."""
    if dataclasses.is_dataclass(record):
        return {
            f.name: to_json(getattr(record, f.name))
            for f in dataclasses.fields(record)
            if f.metadata.get("json", True)
        }
    if isinstance(record, Mapping):
        return {str(k): to_json(v) for k, v in record.items()}
    if isinstance(record, np.ndarray):
        return to_json(record.tolist())
    if isinstance(record, (tuple, list)):
        return [to_json(x) for x in record]
    if isinstance(record, (float, np.floating)):
        return float(record) if math.isfinite(record) else None
    return record.item() if isinstance(record, np.generic) else record


@dataclass(frozen=True)
class GroupSums:
    """Sums over the episodes of each of K groups.

    Attributes:
        counts: `[K]`, episodes.
        sums: name -> `[K, ...]`, float64.
    """

    counts: Float[np.ndarray, " K"]
    sums: Mapping[str, np.ndarray]

    @property
    def episodes(self) -> int:
        """N."""
        return int(self.counts.sum())

    def __add__(self, other: "GroupSums") -> "GroupSums":
        sums = {k: _add(v, other.sums[k]) for k, v in self.sums.items()}
        return GroupSums(self.counts + other.counts, sums)

    def folded(self) -> "GroupSums":
        """Half as many groups, while they are too small to be alike and many enough to halve."""
        groups = self
        while len(
            groups.counts
        ) >= 2 * LEAST_GROUPS and groups.episodes < LEAST_EPISODES_A_GROUP * len(groups.counts):
            groups = groups.merged(2)
        return groups

    def merged(self, times: int) -> "GroupSums":
        """Groups put together, `times` into one; those left over stay out."""
        size = len(self.counts) // times

        def merge(x: np.ndarray) -> np.ndarray:
            return x[: size * times].reshape(times, size, *x.shape[1:]).sum(axis=0)

        return GroupSums(merge(self.counts), {k: merge(v) for k, v in self.sums.items()})

    def means(self) -> "Means":
        """Means over all episodes, and over those outside each group."""
        n = self.counts.sum() - np.append(0.0, self.counts)

        def leave_out(x: np.ndarray) -> np.ndarray:
            left = np.concatenate([np.zeros_like(x[:1]), x])
            np.subtract(x.sum(axis=0), left, out=left)
            left /= n.reshape(-1, *[1] * (x.ndim - 1))
            return left

        return Means(n, {k: leave_out(v) for k, v in self.sums.items()})


@dataclass(frozen=True)
class Means:
    """Means: row 0 over all episodes, row k over those outside group k.

    Attributes:
        n: `[1 + K]`, episodes that each row is over.
        of: name -> `[1 + K, ...]`.
    """

    n: Float[np.ndarray, " R"]
    of: Mapping[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.of[name]

    def interval(self, values: np.ndarray, scale: Scale = "linear", c: Any = 0.0) -> Measured:
        """The interval of a quantity `[1 + K, ...]` computed from every row.

        Args:
            values: the quantity, row by row; row 0 is the estimate.
            scale: on which the interval is symmetric.
            c: of the square scale, `[...]`.
        """
        value, spread = values[0], standard_error(values, self.n)
        t = float(stdtrit(len(values) - 2, 0.975))
        with np.errstate(all="ignore"):
            low, high = _ends(value, t * spread, scale, c)
        unknown = ~np.isfinite(spread) | ~np.isfinite(value)
        least, most = RANGE[scale]
        low, high = np.where(unknown, least, low), np.where(unknown, most, high)
        if np.ndim(value) == 0:
            return Measured(float(value), float(low), float(high))
        return Measured(value, low, high)


def _add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b, the shorter of the two padded with zeros along its second axis."""
    if a.shape == b.shape:
        return a + b
    short, long = sorted((a, b), key=lambda x: x.shape[1])
    total = long.copy()
    total[:, : short.shape[1]] += short
    return total


def standard_error(values: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Of row 0, by leaving out groups of any sizes (Busing, Meijer & van der Leeden 1999).

    se² = (1/K) Σ_k (τ_k − τ̄)²/(h_k − 1), τ_k = h_k θ − (h_k − 1) θ_(k), h_k = N/n_k.
    """
    k = len(values) - 1
    if k < 2:
        return np.full(np.shape(values[0]), np.inf)
    rest = n[1:].reshape(-1, *[1] * (values.ndim - 1))
    sizes = n[0] - rest
    h = n[0] / sizes
    with np.errstate(all="ignore"):
        tau = h * values[0] - (h - 1) * values[1:]
        centre = k * values[0] - np.sum(rest / n[0] * values[1:], axis=0)
        return np.sqrt(np.mean((tau - centre) ** 2 / (h - 1), axis=0))


def _ends(value: np.ndarray, half: np.ndarray, scale: Scale, c: Any) -> tuple[Any, Any]:
    if scale == "linear":
        return value - half, value + half
    if scale == "cosine":
        inside = np.clip(value, -1 + 1e-9, 1 - 1e-9)
        rest = 1 - inside**2
        centre, step = inside / np.sqrt(rest), half * rest**-1.5
        low, high = centre - step, centre + step
        return low / np.sqrt(1 + low**2), high / np.sqrt(1 + high**2)
    if scale == "log":
        factor = np.where(half > 0, np.exp(half / np.abs(value)), 1.0)
        return np.where(value > 0, value / factor, 0.0), np.maximum(value, 0) * factor
    root = np.sqrt(np.maximum(value + c, 0.0))
    step = half / (2 * root)
    low = np.where(root > step, (root - step) ** 2 - c, 0.0)
    high = np.where(root > 0, (root + step) ** 2 - c, value + half)
    return np.maximum(low, 0.0), np.maximum(high, 0.0)

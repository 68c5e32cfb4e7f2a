"""Sums over groups of episodes, and the 95 % intervals that follow from them.

No single gradient is kept. Episode i goes to group i mod K. Every quantity is a function θ of sums
over groups, so that leaving a group out costs one subtraction. To first order the delete-a-group
jackknife is the bootstrap over episodes. It needs no resampling, and it keeps K sums whatever N is.

Three things make the intervals cover:

    few groups  Student's t, with the degrees of freedom of the standard error by Satterthwaite's
                (1946) rule. se² of K numbers of kurtosis κ has the relative variance (κ − 1)/K,
                hence 2K/(κ − 1) degrees of freedom, at most K − 1.
    skewness    Variances and products have long tails. The third moment of the pseudo-values goes
                into the ends by Hall's (1992) transformation of the studentised statistic.
    norms       X = ‖Ḡ‖² exceeds ‖G‖² by trS, where S is the covariance of Ḡ. X is a weighted sum of
                squares, and far from normal if noise dominates. The interval holds every θ = ‖G‖²
                at which X, of mean θ + trS and variance 2 trS² + 4 θ λ, is not improbable by Wilson
                and Hilferty's cube root. λ comes from the jackknife, trS² from the Gram matrix of
                the groups.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from policygrad.core.plain import to_json

Range = Literal["real", "positive"]

GROUPS = 64
LEAST_GROUPS = 16
LEAST_EPISODES_A_GROUP = 8


@dataclass(frozen=True)
class Measured:
    """An estimate and its 95 % interval; floats, or arrays of one shape.

    An unbiased estimate of what cannot be negative may be below zero. It is told as it is, since
    means of such estimates would be too large otherwise. Its interval holds possible numbers alone:
    it begins at 0, above the estimate.
    """

    value: Any
    low: Any
    high: Any

    def map(self, increasing: Any) -> "Measured":
        """The same after an increasing function. (For a decreasing one, swap the ends.)"""
        return Measured(increasing(self.value), increasing(self.low), increasing(self.high))

    def covers(self, truth: Any) -> Any:
        """Whether the interval contains a number, to rounding."""
        slack = 1e-6 * np.abs(truth)
        inside = (self.low - slack <= truth) & (truth <= self.high + slack)
        return bool(inside) if np.ndim(inside) == 0 else inside

    def to_json(self) -> Any:
        """Plain data; None in place of a number that is infinite or not defined."""
        return to_json(self)


@dataclass(frozen=True)
class GroupSums:
    """Sums over the episodes of each of K groups.

    Attributes:
        counts: `[K]`, the number of units in each group: of episodes, or of those that start
            together, where rows are of these.
        sums: name -> `[K, ...]`, float64.
        classes: name -> `[CLASSES, ...]`, sums over the units of each class of length.
        size: how many episodes a unit is of.
    """

    counts: Float[np.ndarray, " K"]
    sums: Mapping[str, np.ndarray]
    classes: Mapping[str, np.ndarray] = field(default_factory=dict)
    size: int = 1

    @property
    def units(self) -> int:
        """How many units there are."""
        return int(self.counts.sum())

    @property
    def episodes(self) -> int:
        """N."""
        return self.units * self.size

    def __add__(self, other: "GroupSums") -> "GroupSums":
        sums = {k: padded_sum(v, other.sums[k]) for k, v in self.sums.items()}
        classes = {k: v + other.classes[k] for k, v in self.classes.items()}
        return replace(self, counts=self.counts + other.counts, sums=sums, classes=classes)

    def placed(self, first: int, groups: int) -> "GroupSums":
        """The same among so many groups, from number `first` on. The others are empty."""

        def place(x: np.ndarray) -> np.ndarray:
            among = np.zeros((groups, *x.shape[1:]), x.dtype)
            among[first : first + len(x)] = x
            return among

        sums = {k: place(v) for k, v in self.sums.items()}
        return replace(self, counts=place(self.counts), sums=sums)

    def folded(self) -> "GroupSums":
        """The groups that are not empty, merged in pairs while they are many and small.

        Many: at least 32. Small: fewer than 8 units each on average.
        """
        present = self.counts > 0
        sums = {k: v[present] for k, v in self.sums.items()}
        groups = replace(self, counts=self.counts[present], sums=sums)
        while len(
            groups.counts
        ) >= 2 * LEAST_GROUPS and groups.units < LEAST_EPISODES_A_GROUP * len(groups.counts):
            groups = groups._halved()
        return groups

    def _halved(self) -> "GroupSums":
        """Group k merged with group k + K/2; if K is odd, the last group joins the first pair."""
        half = len(self.counts) // 2

        def merge(x: np.ndarray) -> np.ndarray:
            merged = x[:half] + x[half : 2 * half]
            merged[: len(x) - 2 * half] += x[2 * half :]
            return merged

        sums = {k: merge(v) for k, v in self.sums.items()}
        return replace(self, counts=merge(self.counts), sums=sums)

    def means(self) -> "Means":
        """Means over all episodes, and over the episodes outside each group."""
        n = self.counts.sum() - np.append(0.0, self.counts)

        def leave_out(x: np.ndarray) -> np.ndarray:
            left = np.concatenate([np.zeros_like(x[:1]), x])
            np.subtract(x.sum(axis=0), left, out=left)
            left /= n.reshape(-1, *[1] * (x.ndim - 1))
            return left

        return Means(n, {k: leave_out(v) for k, v in self.sums.items()})


@dataclass(frozen=True)
class Means:
    """Means: row 0 over all episodes, row k over the episodes outside group k.

    Attributes:
        n: `[1 + K]`, the number of episodes behind each row.
        of: name -> `[1 + K, ...]`.
    """

    n: Float[np.ndarray, " R"]
    of: Mapping[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.of[name]

    def interval(self, values: np.ndarray, over: Range = "real") -> Measured:
        """The interval of a quantity `[1 + K, ...]` computed from every row.

        Args:
            values: the quantity, row by row; row 0 is the estimate.
            over: its range; "positive" intervals do not go below 0.
        """
        value = values[0]
        spread, skew, t = standard_error(values, self.n)
        with np.errstate(all="ignore"):
            low = value - spread * _unskewed(t, skew)
            high = value - spread * _unskewed(-t, skew)
        least = 0.0 if over == "positive" else -math.inf
        return _measured(value, low, high, spread, least)

    def squared_norm(
        self,
        values: np.ndarray,
        noise: Any,
        concentration: Any,
        divisor: np.ndarray | None = None,
    ) -> Measured:
        """The interval of ‖E x‖², positive, from the squared norm of a mean.

        Args:
            values: `[1 + K]`, ‖x̄‖² less its noise, row by row, or a multiple of it.
            noise: trS, what was subtracted (in the same multiple).
            concentration: tr(S²)/(trS)², from one over the dimension to 1; see `concentration`.
            divisor: `[1 + K]`, what the values were divided by, if it has an error of its own.
        """
        value = float(values[0])
        spread, _, t = standard_error(values, self.n)
        x = max(value + noise, 0.0)
        if not np.all(np.isfinite([spread, value, noise, concentration])):
            return Measured(value, 0.0, math.inf)
        unit = float(unit_of(max(x, noise)))
        x, noise, spread = x / unit, noise / unit, spread / unit
        # λ is at most trS, but for the share of the divisor's error; if x is almost zero, the
        # quotient holds only rounding errors
        most = 4 * noise + x * self._relative_variance(divisor)
        along = min(float(spread) ** 2 / (4 * x), most) if x > 0 else 0.0
        square = concentration * noise**2
        low = unit * _where_improbable(x, t, noise, square, along)
        # if x is below the mean of pure noise, the lower tail would make the interval too short
        high = unit * _where_improbable(max(x, noise), -t, noise, square, along)
        return Measured(value, min(low, max(value, 0.0)), max(high, value))

    def _relative_variance(self, values: np.ndarray | None) -> float:
        """The squared standard error of row 0 over its square; 0 without values."""
        if values is None:
            return 0.0
        with np.errstate(all="ignore"):
            found = (standard_error(values, self.n)[0] / values[0]) ** 2
        return float(found) if np.isfinite(found) else 0.0


def squares_of_sums(products: Float[np.ndarray, "... K K"]) -> Float[np.ndarray, "... R"]:
    """‖·‖² of the sum over all groups, and of the sums over all but one; R = 1 + K.

    Args:
        products: x_j · x_k of sums over groups. The lengths of all gradients here follow from
            them, so that K² numbers suffice in place of K gradients.
    """
    total, of_group = products.sum(axis=(-2, -1)), products.sum(axis=-1)
    own = np.diagonal(products, axis1=-2, axis2=-1)
    left = total[..., None] - 2 * of_group + own
    return np.maximum(np.concatenate([total[..., None], left], axis=-1), 0.0)


def concentration(products: Float[np.ndarray, "K K"], counts: np.ndarray, dimension: int) -> float:
    """tr(S²)/(trS)² of the covariance S of a mean, from the products of its groups' sums.

    It is 1 if the noise has one direction, and 1/d if it is equal in d directions. What a finite
    number of groups adds is subtracted.

    Args:
        products: x_j · x_k of sums over groups.
        counts: `[K]`, episodes of each.
        dimension: d.
    """
    k = len(counts)
    if dimension == 1 or k < 3:
        return 1.0
    about = _about_the_mean(products, counts)
    about /= unit_of(np.trace(about))
    if np.trace(about) <= 0:
        return 1.0
    return float(np.clip(_product_of_covariances(about, about, about), 1 / dimension, 1.0))


def covariances_apart(
    one: Float[np.ndarray, "K d"], other: Float[np.ndarray, "K d"], counts: np.ndarray
) -> float:
    """‖S/trS − S'/trS'‖² of the covariances of two means, from the sums of their groups.

    Args:
        one, other: sums over the same groups.
        counts: `[K]`, episodes of each group.
    """
    if len(counts) < 3:
        return 2.0
    one, other = (x / unit_of(np.abs(x).max()) for x in (one, other))
    a, b, both = (
        _about_the_mean(x @ y.T, counts) for x, y in ((one, one), (other, other), (one, other))
    )
    if np.trace(a) <= 0 or np.trace(b) <= 0:
        return 2.0
    c, d, cross = (_product_of_covariances(x, *y) for x, *y in ((a, a, a), (b, b, b), (both, a, b)))
    return max(c + d - 2 * cross, 0.0)


def _about_the_mean(products: Float[np.ndarray, "K K"], counts: np.ndarray) -> np.ndarray:
    """Products of the groups' sums, each less its share of the whole."""
    share = counts / counts.sum()
    centre = np.eye(len(counts)) - share[:, None]
    return centre @ products @ centre.T


def _product_of_covariances(about: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """tr(S S')/(trS trS') from products about the mean: of both, of each with itself.

    What a finite number K of groups adds is subtracted: a group's product with itself.
    """
    k = len(about)
    scale = np.trace(one) * np.trace(other)
    itself = np.trace(about) ** 2 / scale / (k - 1)
    return float((np.sum(about**2) / scale - itself) * (k - 1) / k)


def student(degrees: Any) -> Any:
    """The half width of a 95 % interval, in standard errors, with so many degrees of freedom."""
    return stdtrit(np.maximum(degrees, 1), 0.975)


def _unskewed(t: float, skew: Any) -> Any:
    """The quantile of the studentised mean of numbers with this skewness; t without skewness.

    The inverse of g(T) = T + a/3·T² + a²/27·T³ + a/6 (Hall 1992), for a mean's own skewness a.
    """
    a = np.where(np.abs(skew) < 1e-6, 1e-6, skew)
    return 3 / a * (np.cbrt(1 + a * (t - a / 6)) - 1)


def _where_improbable(x: float, t: float, noise: float, square: float, along: float) -> float:
    """θ ≥ 0 at which x lies t deviations above its mean θ + noise; 0 if there is none."""

    def away(theta: float) -> float:
        mean, variance = theta + noise, 2 * square + 4 * theta * along
        if variance <= 0 or mean <= 0:
            return math.inf if x > mean else -math.inf
        r = variance / mean / mean
        return (math.cbrt(x / mean) - 1 + r / 9) * 3 / math.sqrt(r)

    if away(0.0) <= t:
        return 0.0
    far = 4 * x + 40 * t**2 * along + 40 * abs(t) * math.sqrt(square)
    from scipy.optimize import brentq  # here: it takes 0.2 s, and training measures no interval

    found: Any = brentq(lambda theta: away(theta) - t, 0.0, far, xtol=1e-12 * far)
    return float(found)


def _measured(value: Any, low: Any, high: Any, spread: Any, least: float) -> Measured:
    unknown = ~np.isfinite(spread) | ~np.isfinite(value)
    low = np.where(unknown, least, np.maximum(low, least))
    high = np.where(unknown, math.inf, np.maximum(high, least))
    if np.ndim(value) == 0:
        return Measured(float(value), float(low), float(high))
    return Measured(value, low, high)


def padded_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b, the shorter of the two padded with zeros along its second axis."""
    if a.shape == b.shape:
        return a + b
    short, long = sorted((a, b), key=lambda x: x.shape[1])
    total = long.copy()
    total[:, : short.shape[1]] += short
    return total


def standard_error(values: np.ndarray, n: np.ndarray) -> tuple[Any, Any, Any]:
    """The standard error of row 0, by leaving out groups of unequal sizes.

    se² = (1/K) Σ_k (τ_k − τ̄)²/(h_k − 1), τ_k = h_k θ − (h_k − 1) θ_(k), h_k = N/n_k.

    Returns:
        The standard error; the skewness of the estimate, which is that of the pseudo-values divided
        by √K; and the half width of the interval in standard errors.

    Source: Busing, Meijer & van der Leeden 1999.
    """
    k = len(values) - 1
    shape = np.shape(values[0])
    if k < 3:  # with two groups, one may hold a single episode, which has no variance
        return np.full(shape, np.inf), np.zeros(shape), np.full(shape, student(1))
    rest = n[1:].reshape(-1, *[1] * (values.ndim - 1))
    sizes = n[0] - rest
    h = n[0] / sizes
    with np.errstate(all="ignore"):
        tau = h * values[0] - (h - 1) * values[1:]
        centre = k * values[0] - np.sum(rest / n[0] * values[1:], axis=0)
        away = (tau - centre) / np.sqrt(h - 1)
        unit = unit_of(np.abs(away).max(axis=0))
        away = away / unit
        square = np.mean(away**2, axis=0)
        about = away - away.mean(axis=0)
        second, third, fourth = (np.mean(about**i, axis=0) for i in (2, 3, 4))
        skew = np.where(second > 0, third / second**1.5 / math.sqrt(k), 0.0)
        kurtosis = np.where(second > 0, fourth / second**2, 1.0)
        degrees = np.minimum(2 * k / np.maximum(kurtosis - 1, 1e-9), k - 1)
    return unit * np.sqrt(square), skew, student(degrees)


def unit_of(size: Any) -> Any:
    """A power of two above a size; 1 for 0. What is divided by it keeps its digits, and neither its
    fourth power nor that of the smallest gradients is beyond float64."""
    return np.where(size > 0, np.ldexp(1.0, np.frexp(size)[1]), 1.0)

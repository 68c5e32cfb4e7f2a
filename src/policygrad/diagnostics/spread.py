"""The distribution of a quantity, and the sums that it follows from."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """The distribution of a quantity. All NaN if nothing was seen."""

    mean: float
    std: float
    least: float
    most: float

    @classmethod
    def of(cls, x: np.ndarray) -> "Spread":
        """The distribution of the finite entries of x."""
        return Moments.of_finite(x).spread


@dataclass(frozen=True)
class Moments:
    """What has to be known of numbers to know their spread, and that of more of them.

    Attributes:
        count: n.
        mean: of the n numbers.
        squares: Σ (x − mean)².
        least, most: of the numbers.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = math.inf
    most: float = -math.inf

    @classmethod
    def of(cls, x: np.ndarray) -> "Moments":
        """Those of all entries of x, which may be NaN."""
        x = np.asarray(x, np.float64).ravel()
        if not x.size:
            return cls()
        mean = x.mean()
        squares = np.sum((x - mean) ** 2)
        return cls(x.size, float(mean), float(squares), float(x.min()), float(x.max()))

    @classmethod
    def of_finite(cls, x: np.ndarray) -> "Moments":
        """Those of the finite entries of x."""
        x = np.asarray(x, np.float64).ravel()
        return cls.of(x[np.isfinite(x)])

    def __add__(self, other: "Moments") -> "Moments":
        """Those of both. Source: Chan, Golub & LeVeque 1983."""
        if not (self.count and other.count):
            return self if self.count else other
        count, apart = self.count + other.count, other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * (other.count / count),
            self.squares + other.squares + apart**2 * (self.count * other.count / count),
            min(self.least, other.least),
            max(self.most, other.most),
        )

    @property
    def variance(self) -> float:
        """Mean squared distance from the mean; NaN of nothing."""
        return self.squares / self.count if self.count else math.nan

    @property
    def spread(self) -> Spread:
        """The distribution."""
        if not self.count:
            return Spread(math.nan, math.nan, math.nan, math.nan)
        return Spread(self.mean, math.sqrt(self.variance), self.least, self.most)

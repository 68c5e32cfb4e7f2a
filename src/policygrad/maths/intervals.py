"""Confidence intervals over returns: of a mean, and of an interquartile mean."""

import math
from typing import Any

import numpy as np


def mean_interval(values: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The mean, and its 95 % interval by Student's t. For one value the interval is infinite."""
    values = np.asarray(values, np.float64)
    mean, n = float(values.mean()), len(values)
    if n < 2:
        return mean, (-math.inf, math.inf)
    from scipy.special import stdtrit  # here: it takes 0.2 s, and training needs no interval

    half = float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(n)
    return mean, (mean - half, mean + half)


def interquartile_mean(values: Any) -> Any:
    """IQM: the mean over the middle half of the last axis. A quarter of the values, rounded down,
    is left out at each end (Agarwal et al. 2021)."""
    ordered = np.sort(np.asarray(values, np.float64), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def iqm_interval(values: Any, resamples: int = 10_000) -> tuple[float, tuple[float, float]]:
    """The IQM over runs, and its 95 % percentile bootstrap interval, resampling runs.

    The resamples are the same in every call. For one value the interval is infinite.

    >>> iqm_interval([1.0, 2.0, 3.0, 100.0])[0]
    2.5
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return float(values.mean()), (-math.inf, math.inf)
    rows = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(interquartile_mean(values[rows]), (0.025, 0.975))
    return float(interquartile_mean(values)), (float(low), float(high))

"""What follows from the length of a mean gradient and the mean length of the gradients in it."""

from typing import Any

import numpy as np


def variance_and_norm(
    squared: np.ndarray, second: np.ndarray, n: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Unbiased trΣ and ‖G‖² from ‖Ḡ‖² and the mean of ‖ĝ‖²; their sum is that mean."""
    variance = np.maximum(second - squared, 0.0) * n / np.maximum(n - 1, 1)
    return variance, squared - variance / n


def norm_by_variance(norm2: Any, variance: Any) -> Any:
    """‖G‖²/trΣ, one over the noise scale. Infinite without noise; 0 without noise and signal."""
    with np.errstate(all="ignore"):
        return np.where(variance > 0, np.divide(norm2, variance), np.where(norm2 > 0, np.inf, 0.0))

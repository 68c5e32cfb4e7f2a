"""A batch of groups: the episodes of a group were started from the same state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

AnyArray = Array | np.ndarray


class Groups(NamedTuple):
    """G groups of k episodes each, as group estimators read them. NumPy or JAX arrays.

    For a language model a group is k answers to one prompt, and a length is a number of tokens.

    Attributes:
        returns: `[..., G, k]`, R, the return of each episode.
        lengths: `[..., G, k]`, L, its number of steps, at least 1. None where nothing divides by
            it.
        greedy: `[..., G]`, the return of an episode in which the most probable action was taken
            each time, from the state of the group. None where no ReMax reads it.
        values: `[..., G]`, a value of the state of the group. None where nothing subtracts it.
    """

    returns: Float[AnyArray, "*batch G k"]
    lengths: Float[AnyArray, "*batch G k"] | None = None
    greedy: Float[AnyArray, "*batch G"] | None = None
    values: Float[AnyArray, "*batch G"] | None = None


def namespace(x: Any) -> Any:
    """`numpy` for NumPy arrays, `jax.numpy` for JAX's, traced or not."""
    return jnp if isinstance(x, jax.Array) else np


def mean(x: Any) -> Any:
    """`[..., 1]` of `[..., k]`: Σ_i x_i / k; exactly x where all are equal."""
    # from one of them: the rounded mean of equal numbers may differ from the number
    return x[..., :1] + (x - x[..., :1]).mean(-1, keepdims=True)


def standard_deviation(x: Any, ddof: int) -> Any:
    """`[..., 1]` of `[..., k]`: √(Σ_i (x_i − x̄)² / (k − ddof)); exactly 0 where all are equal."""
    centred = x - mean(x)
    squares = (centred**2).sum(-1, keepdims=True) / (x.shape[-1] - ddof)
    return namespace(x).sqrt(squares)


def mean_of_others(x: Any) -> Any:
    """`[..., k]`: Σ_{j≠i} x_j / (k − 1); exactly x where all are equal."""
    shifted = x - x[..., :1]
    return x[..., :1] + (shifted.sum(-1, keepdims=True) - shifted) / (x.shape[-1] - 1)


def standard_deviation_of_others(x: Any, ddof: int) -> Any:
    """`[..., k]`: the standard deviation of the k−1 others; 0 where they are equal, or one."""
    xp, k = namespace(x), x.shape[-1]
    # from one of the others, so that equal others are exactly equal: `[..., i, j]`
    shifted = x[..., None, :] - xp.roll(x, -1, axis=-1)[..., :, None]
    other = 1.0 - np.eye(k)
    centre = (other * shifted).sum(-1, keepdims=True) / (k - 1)
    squares = (other * (shifted - centre) ** 2).sum(-1) / max(k - 1 - ddof, 1)
    return xp.sqrt(squares)

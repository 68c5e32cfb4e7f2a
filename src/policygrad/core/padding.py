"""Rows of a record that are no steps, read as copies of one that is.

Padding is zeros, and zeros need not be an observation: a mask of zeros permits no action. Nor need
a row on which an environment resets itself hold one. A policy may give NaN for it, and a number
that is selected away afterwards still has the derivative 0 · NaN, which is NaN.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, PyTree


def without_padding(valid: Bool[Any, "..."], rows: PyTree) -> PyTree:
    """Rows with a copy of the first step among them in place of each that is none. Arrays of NumPy
    stay such."""
    xp = np if isinstance(valid, np.ndarray) else jnp
    return with_steps_alone(valid, rows, a_step(valid, rows, xp), xp)


def a_step(valid: Bool[Any, "..."], rows: PyTree, xp: Any = jnp) -> PyTree:
    """The first of some rows that is a step; if none is, the first.

    Args:
        valid: `[n]` or `[n, T]`, which rows are steps.
        rows: pytree of `[n, ...]` or `[n, T, ...]`.
        xp: `numpy` or `jax.numpy`.

    Returns:
        pytree of `[...]`.
    """
    at = xp.unravel_index(xp.argmax(valid), valid.shape)
    return jax.tree.map(lambda x: xp.asarray(x)[at], rows)


def with_steps_alone(valid: Bool[Any, "..."], rows: PyTree, step: PyTree, xp: Any = jnp) -> PyTree:
    """Rows with a copy of `step`, of `a_step`, in place of each that is none."""

    def one(x: Any, copy: Any) -> Any:
        kept = valid.reshape(*valid.shape, *[1] * (x.ndim - valid.ndim))
        return xp.where(kept, x, copy)

    return jax.tree.map(one, rows, step)

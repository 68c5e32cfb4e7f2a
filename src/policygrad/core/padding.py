"""Rows of a record that are no steps, read as copies of one that is.

Padding is zeros, and zeros need not be an observation: a mask of zeros permits no action. Nor need
a row on which an environment resets itself hold one. A policy may give NaN for it, and a number
that is selected away afterwards still has the derivative 0 · NaN, which is NaN.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree


def a_step(valid: Bool[Array, "..."], rows: PyTree) -> PyTree:
    """The first of some rows that is a step; if none is, the first.

    Args:
        valid: `[n]` or `[n, T]`, which rows are steps.
        rows: pytree of `[n, ...]` or `[n, T, ...]`.

    Returns:
        pytree of `[...]`.
    """
    at = jnp.unravel_index(jnp.argmax(valid), valid.shape)
    return jax.tree.map(lambda x: jnp.asarray(x)[at], rows)


def with_steps_alone(valid: Bool[Array, "..."], rows: PyTree, step: PyTree) -> PyTree:
    """Rows with a copy of `step`, of `a_step`, in place of each that is none."""

    def one(x: Array, copy: Array) -> Array:
        return jnp.where(valid.reshape(*valid.shape, *[1] * (x.ndim - valid.ndim)), x, copy)

    return jax.tree.map(one, rows, step)

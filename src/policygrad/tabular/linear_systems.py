"""The linear systems that an infinite horizon leads to."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

T = TypeVar("T")

# squaring a stable matrix 60 times (its power 2^60) gives zero
_DOUBLINGS = 60


def fixed_point(
    matrix: Float[Array, "S S"], constant: Float[Array, "S *d"]
) -> Float[Array, "S *d"]:
    """The X with X = matrix · X + constant."""
    flat = constant.reshape(len(constant), -1)
    solved = jnp.linalg.solve(jnp.eye(len(matrix)) - matrix, flat)
    return solved.reshape(constant.shape)


def nilpotent(apply: Callable[[T], T], zero: T, times: int) -> T:
    """The fixed point of an affine map whose linear part is zero at the power `times`."""
    return jax.lax.fori_loop(0, times, lambda _, x: apply(x), zero)


def stein(
    left: Float[Array, "n n"], right: Float[Array, "k k"], constant: Float[Array, "n k"]
) -> Float[Array, "n k"]:
    """X = Σ_t left^t · constant · (right^t)ᵀ, by doubling (Smith 1968)."""

    def unfinished(carry: tuple) -> Array:
        total, part, _, _, count = carry
        return (count < _DOUBLINGS) & (jnp.max(jnp.abs(part)) > 1e-17 * jnp.max(jnp.abs(total)))

    def double(carry: tuple) -> tuple:
        total, _, a, b, count = carry
        part = a @ total @ b.T
        return total + part, part, a @ a, b @ b, count + 1

    start = (constant, constant, left, right, 0)
    return jax.lax.while_loop(unfinished, double, start)[0]

"""Code that XLA compiles by itself, so that its results do not depend on the code around it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree


def zeros(shapes: PyTree, *_: Any) -> PyTree:
    """Arrays of these shapes and types."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def apart(
    compute: Callable,
    number: Int[Array, ""],
    *arguments: Any,
    otherwise: Callable[..., PyTree] = zeros,
) -> PyTree:
    """compute(*arguments), compiled so that XLA fuses none of it with the code around it.

    In fused code a product and a sum may become one operation, which rounds once instead of twice.
    What else reads the product decides whether they do. XLA fuses nothing across the border of a
    conditional branch. Here the branch is always taken, because no cosine is above 2, but XLA does
    not know that.

    Args:
        compute: of arrays.
        number: `[]`, one that XLA does not know, such as a loop's; it must not be vmapped.
        arguments: arrays.
        otherwise: (shapes and types of the result, *arguments) -> any arrays of those.
    """
    jaxpr, shapes = jax.make_jaxpr(compute, return_shape=True)(*arguments)
    structure = jax.tree.structure(shapes)

    def branch(*arguments: Any) -> PyTree:
        leaves = jax.extend.core.jaxpr_as_fun(jaxpr)(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(structure, leaves)

    def never(*arguments: Any) -> PyTree:
        return otherwise(shapes, *arguments)

    always = ~(jnp.cos(number.astype(jnp.float32)) > 2)
    return jax.lax.cond(always, branch, never, *arguments)

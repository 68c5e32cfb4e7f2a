"""Convolutions whose derivatives are as fast on a CPU as they are themselves.

On a CPU, XLA computes a convolution by matrix products, but not its derivatives: a gradient of the
network of Mnih et al. 2013 takes 70 times as long as the network, and three times would do
(docs/notes/convolutions-on-a-cpu.md). Here each derivative is written as a convolution of the same
kind, or as one matrix product. Elsewhere XLA's own are taken.
"""

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from policygrad.devices.compiled_code import compiled

LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolve(
    picture: Float[Array, "h w c"], kernel: Float[Array, "k k c f"], stride: int = 1
) -> Float[Array, "hh ww f"]:
    """The filters at every place of a picture that they fit into, `stride` pixels apart.

    Args:
        picture: height, width and channels.
        kernel: f filters of k×k pixels.
        stride: static.

    Returns:
        hh = ⌊(h − k)/stride⌋ + 1, and ww alike.
    """
    if jax.default_backend() != "cpu":
        strides = (stride, stride)
        return jax.lax.conv_general_dilated(
            picture[None], kernel, strides, "VALID", dimension_numbers=LAYOUT
        )[0]
    if stride > 1:
        picture, kernel = _coarse(picture, kernel, stride)
    found: Array = _convolution.bind(picture[None], kernel)
    return found[0]


def _coarse(picture: Array, kernel: Array, stride: int) -> tuple[Array, Array]:
    """The same convolution with a stride of 1: squares of stride×stride pixels become channels."""
    h, w, c = picture.shape
    k, _, _, f = kernel.shape
    squares = -(-k // stride)
    added = squares * stride - k
    kernel = jnp.pad(kernel, ((0, added), (0, added), (0, 0), (0, 0)))
    rows, columns = ((side - k) // stride + squares for side in (h, w))
    more = [(0, max(0, n * stride - side)) for n, side in ((rows, h), (columns, w))]
    picture = jnp.pad(picture, (*more, (0, 0)))[: rows * stride, : columns * stride]
    picture = picture.reshape(rows, stride, columns, stride, c).swapaxes(1, 2)
    kernel = kernel.reshape(squares, stride, squares, stride, c, f).swapaxes(1, 2)
    return (
        picture.reshape(rows, columns, stride * stride * c),
        kernel.reshape(squares, squares, stride * stride * c, f),
    )


# ----- the convolution of pictures [n, h, w, c] with stride 1, as a bilinear operation of its own


def _plain(pictures: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(pictures, kernel, (1, 1), "VALID", dimension_numbers=LAYOUT)


_convolution = Primitive("convolution_of_pictures")
_convolution.def_impl(compiled(_plain))
_convolution.def_abstract_eval(
    lambda x, k: x.update(
        shape=(x.shape[0], x.shape[1] - k.shape[0] + 1, x.shape[2] - k.shape[1] + 1, k.shape[3])
    )
)
mlir.register_lowering(_convolution, mlir.lower_fun(_plain, multiple_results=False))


def _of_pictures(cotangent: Array, pictures: ad.UndefinedPrimal, kernel: Array) -> Array:
    """The derivative by the pictures: a convolution of the padded cotangent."""
    k, m, _, _ = kernel.shape
    padded = jnp.pad(cotangent, ((0, 0), (k - 1, k - 1), (m - 1, m - 1), (0, 0)))
    return _convolution.bind(padded, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))


def _of_kernel(cotangent: Array, pictures: Array, kernel: ad.UndefinedPrimal) -> Array:
    """The derivative by the kernel: one product of two matrices.

    `[c, pixels] @ [pixels, k·k·f]`: the cotangent stands k·k times side by side, each time moved
    by the place in the kernel, so that the pictures need no copy.
    """
    k, m, channels, filters = kernel.aval.shape
    _, h, w, _ = pictures.shape
    _, rows, columns, _ = cotangent.shape
    moved = [
        jnp.pad(cotangent, ((0, 0), (i, h - rows - i), (j, w - columns - j), (0, 0)))
        for i in range(k)
        for j in range(m)
    ]
    right = jnp.concatenate(moved, axis=-1).reshape(-1, k * m * filters)
    found = pictures.reshape(-1, channels).T @ right
    return found.reshape(channels, k, m, filters).transpose(1, 2, 0, 3)


ad.defbilinear(_convolution, _of_pictures, _of_kernel)


def _batched(arguments: tuple[Array, Array], axes: tuple) -> tuple[Array, int]:
    """Under `vmap`: pictures of a batch go through at once, filters of a batch one by one."""
    (pictures, kernel), (of_pictures, of_kernel) = arguments, axes
    if of_kernel is None:
        x = jnp.moveaxis(pictures, of_pictures, 0)
        found = _convolution.bind(x.reshape(-1, *x.shape[2:]), kernel)
        return found.reshape(*x.shape[:2], *found.shape[1:]), 0
    kernels = jnp.moveaxis(kernel, of_kernel, 0)
    if of_pictures is None:
        return jax.lax.map(lambda kernel: _convolution.bind(pictures, kernel), kernels), 0
    both = jnp.moveaxis(pictures, of_pictures, 0), kernels
    return jax.lax.map(lambda one: _convolution.bind(*one), both), 0


batching.primitive_batchers[_convolution] = _batched

"""Convolutions with derivatives of our own, against XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.devices.convolution import LAYOUT, convolve

# height, width, channels, side of a filter, filters, stride
SHAPES = [(10, 11, 3, 3, 5, 1), (13, 17, 2, 3, 4, 2), (12, 16, 1, 8, 3, 5), (9, 9, 2, 5, 3, 3),
          (20, 20, 4, 8, 3, 4), (3, 5, 2, 3, 1, 7)]  # fmt: skip
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def plain(picture, kernel, stride):
    return jax.lax.conv_general_dilated(
        picture[None], kernel, (stride, stride), "VALID", dimension_numbers=LAYOUT
    )[0]


def drawn(shape, batch=()):
    h, w, c, k, f, stride = shape
    rng = np.random.default_rng(0)
    sizes = ((h, w, c), (k, k, c, f)) * 2
    found = [jnp.asarray(rng.normal(size=(*batch, *s)), jnp.float32) for s in sizes]
    return found[:2], found[2:], stride


def assert_alike(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        scale = max(float(jnp.abs(b).max()), 1e-6)
        np.testing.assert_allclose(a, b, atol=1e-5 * scale, rtol=0)


def loss(f, stride):
    return lambda picture, kernel: jnp.sum(jnp.sin(f(picture, kernel, stride)))


@pytest.mark.slow
@every_shape
def test_values_and_derivatives_are_those_of_xla(shape):
    point, direction, stride = drawn(shape)
    assert_alike(convolve(*point, stride), plain(*point, stride))
    found = []
    for f in (convolve, plain):
        gradient = jax.grad(loss(f, stride), argnums=(0, 1))
        forward = jax.jvp(loss(f, stride), tuple(point), tuple(direction))[1]
        of_gradient = jax.jvp(gradient, tuple(point), tuple(direction))[1]
        again = jax.grad(
            lambda *x, gradient=gradient: sum(map(jnp.vdot, gradient(*x), direction)),
            argnums=(0, 1),
        )
        found.append((gradient(*point), forward, of_gradient, again(*point)))
    assert_alike(*found)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)], ids=str)
def test_batches_of_pictures_and_of_filters(axes):
    point, _, stride = drawn(SHAPES[1], batch=(3,))
    given = [x if axis == 0 else x[0] for x, axis in zip(point, axes, strict=True)]
    found = [
        jax.vmap(jax.value_and_grad(loss(f, stride), argnums=(0, 1)), axes)(*given)
        for f in (convolve, plain)
    ]
    assert_alike(*found)


def test_elsewhere_than_on_a_cpu_xla_differentiates(monkeypatch):
    point, _, stride = drawn(SHAPES[1])
    ours = convolve(*point, stride)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    primitives = {e.primitive.name for e in jax.make_jaxpr(convolve)(*point).eqns}
    assert "conv_general_dilated" in primitives
    assert_alike(ours, convolve(*point, stride))

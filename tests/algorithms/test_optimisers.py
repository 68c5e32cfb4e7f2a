"""Optimisers by name: the direction of each, and how far a log standard deviation goes along it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from policygrad.algorithms.optimisers import SGD, Adam, RMSprop, transformation


class Parameters(NamedTuple):
    weight: jax.Array
    log_std: jax.Array


GRADIENT = Parameters(jnp.array([3.0, -0.5]), jnp.array([2.0]))


def direction(optimiser):
    """Of the first step."""
    built = transformation(optimiser)
    return built.update(GRADIENT, built.init(GRADIENT), GRADIENT)[0]


def test_first_directions():
    """Adam's is g/(|g| + ε), of RMSprop g/√(g²/10), of SGD g."""
    for epsilon in (1e-5, 1.0):
        ours = direction(Adam(epsilon=epsilon))
        for g, d in zip(GRADIENT, ours, strict=True):
            np.testing.assert_allclose(d, g / (abs(g) + epsilon), rtol=1e-5)
    for g, d in zip(GRADIENT, direction(RMSprop()), strict=True):
        np.testing.assert_allclose(d, np.sign(g) * np.sqrt(10), rtol=1e-4)
    for g, d in zip(GRADIENT, direction(SGD()), strict=True):
        np.testing.assert_array_equal(d, g)
    np.testing.assert_array_equal(direction(Adam()).weight, direction(Adam(epsilon=1e-5)).weight)


@pytest.mark.parametrize("times", [2.0, 10.0])
@pytest.mark.parametrize("optimiser", [Adam, RMSprop])
def test_log_std_alone_is_stepped_further(optimiser, times):
    plain, far = direction(optimiser()), direction(optimiser(log_std_step=times))
    np.testing.assert_allclose(far.log_std, times * plain.log_std, rtol=1e-6)
    np.testing.assert_array_equal(far.weight, plain.weight)


def test_a_transformation_takes_the_place_of_a_record_and_records_build_one_once():
    given = optax.identity()
    assert transformation(given) is given
    assert Adam(log_std_step=3.0).build() is Adam(log_std_step=3.0).build()

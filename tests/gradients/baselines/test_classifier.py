"""The critic that classifies returns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from policygrad import baselines
from policygrad.gradients.baselines import classifier
from policygrad.gradients.baselines.base import FitBatch
from tests.gradients.baselines.test_baselines import long_record

KEY = jax.random.key(0)
STATES = np.tile(np.array([0.0, 1.0]), (64, 8))  # [T, B], every other lane in each of two states


def fitted(targets, weights=None, fits=1, **settings):
    """`[2]`, the values of two states after fits to returns `[T, B]`."""
    record = long_record(STATES[..., None], np.zeros(STATES.shape, int))
    baseline = baselines.value_classifier((8,), **{"step_size": 3e-3, "epochs": 20, **settings})
    weights = np.ones(STATES.shape) if weights is None else weights
    rows = FitBatch(
        None, record, jnp.asarray(targets, jnp.float32), jnp.asarray(weights, jnp.float32), weights
    )
    state, fit = baseline.init(KEY, jnp.zeros(1)), jax.jit(baseline.fit)
    for i in range(fits):
        state = fit(state, jax.random.key(i), rows)
    time = jnp.zeros((), jnp.int32)
    return np.array([baseline.value(state, jnp.array([x]), time) for x in (0.0, 1.0)])


@pytest.mark.parametrize("place", [-8.7, -1.3, -0.02, 0.0, 0.6, 4.04, 8.9])
def test_the_mean_over_the_bins_is_the_return_itself(place):
    place = float(np.float32(place))  # as the bins see it
    p = np.asarray(classifier.smeared(jnp.asarray(place)), np.float64)
    edges = np.concatenate([[-np.inf], classifier.EDGES, [np.inf]])
    width = classifier.PLACES[1] - classifier.PLACES[0]
    np.testing.assert_allclose(p, np.diff(norm.cdf(edges, place, 0.75 * width)), atol=2e-7)
    assert p.sum() == pytest.approx(1, abs=1e-6)
    value = p @ classifier.CENTRES
    assert value == pytest.approx(np.sinh(place), rel=1e-4, abs=1e-5)


def test_values_are_the_means_of_skewed_returns():
    """A median, a mode or a bin's middle would be off by far more than the tolerance."""
    rng = np.random.default_rng(0)
    targets = np.exp(rng.normal(size=STATES.shape)) * (1 + 2 * STATES)
    weights = rng.random(STATES.shape)
    means = [np.average(targets[x == STATES], weights=weights[x == STATES]) for x in (0, 1)]
    medians = [np.median(targets[x == STATES]) for x in (0, 1)]
    values = fitted(targets, weights, fits=6, minibatches=4)
    np.testing.assert_allclose(values, means, rtol=0.06)
    assert np.all(np.abs(values - medians) > 0.3 * np.array(means))


def test_values_follow_the_scale_of_the_returns():
    targets = np.random.default_rng(1).normal(size=STATES.shape) + 3 * STATES
    near = fitted(targets)
    assert near[1] - near[0] > 1
    for scale, offset in ((1e4, 0.0), (1e-4, 0.0), (1.0, 50.0)):
        far = (fitted(scale * targets + offset) - offset) / scale
        np.testing.assert_allclose(far, near, atol=2e-3)


def test_one_far_return_is_not_cut():
    """The furthest that one of n returns can lie from the mean of all has a bin."""
    targets = np.zeros(STATES.shape)
    targets[0, 0] = 1e9
    state = classifier.RunningStatistics.init(()).update(
        jnp.asarray(targets.reshape(-1), jnp.float32), jnp.ones(targets.size, bool)
    )
    far = (1e9 - state.mean) / jnp.sqrt(state.variance)
    assert far == pytest.approx(np.sqrt(targets.size - 1), rel=1e-4)
    p = classifier.smeared(jnp.arcsinh(far))
    assert p @ classifier.CENTRES == pytest.approx(float(far), rel=1e-3)
    assert np.sqrt(1e8 - 1) <= classifier.FARTHEST


@pytest.mark.parametrize("value", [0.0, -7.25, 1e6])
def test_equal_returns_are_their_value(value):
    np.testing.assert_allclose(fitted(np.full(STATES.shape, value)), value, rtol=1e-6, atol=1e-12)


def test_before_any_fit_values_are_about_zero():
    assert np.abs(fitted(STATES, fits=0)).max() < 0.05

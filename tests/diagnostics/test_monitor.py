"""What a monitored update reports, against the diagnostics and against sums written out."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.diagnostics import noise_of_gradients
from policygrad.diagnostics.monitor import GradientMoments, gradient_moments, noise_metrics
from policygrad.gradients.scores import episode_gradients
from tests.records import random_episodes, random_segments
from tests.toy import Softmax


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def policy():
    return Softmax(jnp.asarray(np.random.default_rng(1).normal(size=(3, 2))))


def record_of(make):
    record = make(3)
    rng = np.random.default_rng(3)
    states, actions = rng.integers([3, 2], size=(*record.rewards.shape, 2)).transpose(2, 0, 1)
    object.__setattr__(record, "observations", jnp.asarray(states))
    object.__setattr__(record, "actions", jnp.asarray(actions))
    return record, jnp.asarray(rng.normal(size=record.rewards.shape) + 1)


def measured(policy, record, weights, last=None):
    last = jax.tree.map(jnp.zeros_like, policy) if last is None else last
    return jax.jit(gradient_moments)(policy, record, weights, last)


def test_whole_episodes_are_measured_as_the_diagnostics_do(policy):
    record, weights = record_of(random_episodes)
    gradient, moments = measured(policy, record, weights)
    each = episode_gradients(policy, record, weights).logits
    found = noise_of_gradients(each).total
    steps, n = int(record.valid.sum()), len(each)
    metrics = noise_metrics(moments, steps)
    expected = found.signal_to_noise.value * math.sqrt(n)
    assert expected > 0
    assert metrics["signal_to_noise"] == pytest.approx(expected, rel=1e-9)
    scale = found.noise_scale.value * steps / n
    assert metrics["noise_scale"] == pytest.approx(scale, rel=1e-9)
    np.testing.assert_allclose(gradient.logits, each.mean(axis=0), rtol=1e-9)


def test_groups_of_episodes_are_the_units(policy):
    record, weights = record_of(random_episodes)
    size = 2
    record, weights = jax.tree.map(lambda x: x[:, : 2 * (x.shape[1] // 2)], (record, weights))
    each = np.asarray(episode_gradients(policy, record, weights).logits)
    groups = np.stack([each[i : i + size].mean(axis=0) for i in range(0, len(each), size)])
    gradient, moments = measured(policy, replace(record, group_size=size), weights)
    assert int(moments.columns) == len(groups)
    np.testing.assert_allclose(gradient.logits, each.mean(axis=0), rtol=1e-9)
    expected = np.mean(np.sum(groups**2, axis=(1, 2)))
    assert float(moments.mean_square) == pytest.approx(expected, rel=1e-9)


def test_lanes_of_segments_are_the_units(policy):
    record, weights = record_of(random_segments)
    valid = np.asarray(record.valid)
    lanes, steps = valid.shape[1], int(valid.sum())
    pi = np.asarray(jax.nn.softmax(policy.logits))
    each = np.zeros((lanes, 3, 2))
    for t, b in np.argwhere(valid):
        s, a = int(record.observations[t, b]), int(record.actions[t, b])
        each[b, s] += float(weights[t, b]) * (np.eye(2)[a] - pi[s]) * lanes / steps
    mean = each.mean(axis=0)
    variance = float(((each - mean) ** 2).sum() / (lanes - 1))
    norm2 = float((mean**2).sum()) - variance / lanes
    _, moments = measured(policy, record, weights)
    assert moments.variance_and_norm() == pytest.approx((variance, norm2), rel=1e-6)
    scale = noise_metrics(moments, steps)["noise_scale"]
    assert scale == (
        pytest.approx(variance / norm2 * steps / lanes, rel=1e-5) if norm2 > 0 else None
    )


def test_cosine_is_that_of_the_two_gradients(policy):
    record, weights = record_of(random_episodes)
    first, moments = measured(policy, record, weights)
    assert noise_metrics(moments, 10)["gradient_cosine"] is None
    for factor in (2.0, -0.5):
        _, moments = measured(policy, record, factor * weights, first)
        cosine = noise_metrics(moments, 10)["gradient_cosine"]
        assert cosine == pytest.approx(np.sign(factor), rel=1e-9)


@pytest.mark.parametrize(
    ("square", "mean_square", "signal", "scale"),
    [
        (4.0, 4.0, None, 0.0),  # no noise
        (0.0, 0.0, 0.0, None),  # nothing
        (1.0, 9.0, 0.0, None),  # all noise: ‖Ḡ‖² is below trΣ/N
        (5.0, 9.0, 2.0, 2.5),  # trΣ = 4·5/4 = 5, ‖G‖² = 4: SNR² = 4·5/5, B = 5/4 columns of 2 steps
    ],
)
def test_what_is_infinite_or_undefined_is_none(square, mean_square, signal, scale):
    moments = GradientMoments(5, square, mean_square, 0.0, 0.0)  # type: ignore[arg-type]
    assert noise_metrics(moments, 10) == {
        "signal_to_noise": signal, "noise_scale": scale, "gradient_cosine": None,
    }  # fmt: skip

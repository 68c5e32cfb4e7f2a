"""The cosine predicted by length of gradient is that of batches drawn from the same episodes."""

import numpy as np
import pytest

from policygrad import diagnostics
from policygrad.diagnostics.cosines import predicted_cosine
from policygrad.diagnostics.lengths import CLASSES, LengthClasses, cosines_by_length

DIMENSION = 400


def classes_of(g):
    square = (g**2).sum(axis=1)
    of = np.frexp(square)[1] % CLASSES
    member = 1.0 * (of == np.arange(CLASSES)[:, None])
    return LengthClasses(member.sum(axis=1), member @ g, member @ square)


def moments_of(g):
    """SNR, and f by the component of every row along the mean of the others."""
    n, total = len(g), g.sum(axis=0)
    square = (g**2).sum(axis=1)
    norm2 = (total @ total - square.sum()) / (n * (n - 1))
    variance = square.mean() - norm2
    x = (g @ total - square) / np.linalg.norm(total - g, axis=1)
    return np.sqrt(norm2 / variance), x.var(ddof=1) / variance


def heavy(rng, n):
    """Two in a hundred are thirty times as long as the others, and point better."""
    scale = np.where(rng.random(n) < 0.02, 30.0, 1.0)
    g = rng.normal(size=(n, DIMENSION)) * scale[:, None]
    g[:, 0] += 6 * np.where(scale > 1, scale, 0.3)
    return g


@pytest.mark.parametrize("size", [16, 64])
def test_heavy_tails_as_drawn(size):
    # 4,000 batches: standard error of their mean below 0.006
    rng = np.random.default_rng(0)
    sample = heavy(rng, 20_000)
    snr, along = moments_of(sample)
    found = cosines_by_length(classes_of(sample), snr, along, np.array([1, size]))[1]
    truth = np.eye(DIMENSION)[0]
    means = np.stack([heavy(rng, size).mean(axis=0) for _ in range(4000)])
    drawn = np.mean(means @ truth / np.linalg.norm(means, axis=1)) ** 2
    assert found == pytest.approx(drawn, abs=0.02)
    assert abs(predicted_cosine(snr, float(size), along) ** 2 - drawn) > 0.05


def test_normal_noise_as_without_lengths():
    rng = np.random.default_rng(1)
    g = rng.normal(size=(4000, DIMENSION))
    g[:, 0] += 5.0
    snr, along = moments_of(g)
    sizes = np.array([1.0, 16.0, 32.0, 64.0])
    found = cosines_by_length(classes_of(g), snr, along, sizes)
    np.testing.assert_allclose(found, predicted_cosine(snr, sizes, along) ** 2, atol=0.01)


def test_no_signal_and_no_noise():
    sizes = np.array([1.0, 16.0])
    g = np.random.default_rng(2).normal(size=(64, 3))
    np.testing.assert_array_equal(cosines_by_length(classes_of(g), 0.0, 0.3, sizes), 0.0)
    np.testing.assert_array_equal(cosines_by_length(classes_of(g), np.inf, 0.3, sizes), 1.0)
    one = diagnostics.noise_of_gradients(np.random.default_rng(3).normal(1.0, 1.0, (200, 1)))
    assert np.all(one.cosines.between_by_length <= 1.0)

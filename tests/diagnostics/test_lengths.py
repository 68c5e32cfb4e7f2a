"""The cosine predicted by length of gradient is that of batches drawn from the same episodes."""

import numpy as np
import pytest

from policygrad import diagnostics
from policygrad.diagnostics.cosines import predicted_cosine
from policygrad.diagnostics.lengths import CLASSES, LengthClasses, class_of, cosines_by_length

DIMENSION = 400


def classes_of(g):
    square = (g**2).sum(axis=1)
    member = 1.0 * (class_of(square, np) == np.arange(CLASSES)[:, None])
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


def test_what_short_gradients_share_need_not_lie_along_the_mean():
    """The long ones make the mean, and most pairs are of short ones."""
    rng = np.random.default_rng(4)
    n = 20_000
    long = rng.random(n) < 0.1
    g = rng.normal(size=(n, DIMENSION)) * np.where(long, 30.0, 1.0)[:, None]
    g[long, 0] += 300.0
    g[~long, 1] += 10.0
    snr, along = moments_of(g)
    found = cosines_by_length(classes_of(g), snr, along, np.array([1.0]))[0]
    unit = g / np.linalg.norm(g, axis=1, keepdims=True)
    drawn = (np.sum(unit.sum(axis=0) ** 2) - n) / (n * (n - 1))
    assert found == pytest.approx(drawn, abs=0.005)
    assert drawn > 0.1 + (unit.mean(axis=0) @ g.mean(axis=0)) ** 2 / np.sum(g.mean(axis=0) ** 2)


def test_no_gradient_at_all_is_a_class_of_its_own():
    g = np.random.default_rng(5).normal(1.0, 1.0, (4000, 3))
    g[::2] = 0.0
    unit = g[1::2] / np.linalg.norm(g[1::2], axis=1, keepdims=True)
    found = cosines_by_length(classes_of(g), *moments_of(g), np.array([1.0, 64.0]))
    assert found[0] == pytest.approx(np.sum((unit.sum(axis=0) / len(g)) ** 2), abs=0.01)
    assert found[1] > 0.95


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

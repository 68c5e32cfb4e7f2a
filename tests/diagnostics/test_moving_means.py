"""Means over the newest episodes: how far they wander by chance."""

import numpy as np
import pytest

from policygrad.diagnostics.moving_means import shared, spread_of_rows, spread_of_sum

WINDOW = 100


def windows(counts):
    """Which episodes are in the mean of each row, one by one."""
    return [set(range(max(0, n - WINDOW), n)) for n in counts]


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_the_covariance_of_rows_is_the_share_of_their_episodes_in_common(lag):
    counts = np.cumsum([3, 40, 0, 90, 7, 60, 250, 30])
    rows = windows(counts)
    naive = [len(a & b) / (len(a) * len(b)) for a, b in zip(rows, rows[lag:], strict=False)]
    np.testing.assert_allclose(shared(counts.astype(float), WINDOW, lag), naive, rtol=1e-12)


def test_the_spread_of_a_sum_of_rows_is_that_of_its_episodes_weights():
    counts = np.cumsum([3, 40, 0, 90, 7, 60, 250, 30])
    rows = np.zeros((len(counts), counts[-1]))
    for row, window in zip(rows, windows(counts), strict=True):
        row[list(window)] = 1 / len(window)
    weights = np.random.default_rng(0).normal(size=len(counts))
    naive = np.linalg.norm(weights @ rows)
    assert spread_of_sum(counts.astype(float), WINDOW, weights) == pytest.approx(naive, rel=1e-12)


@pytest.mark.parametrize("new", [1, 3, 10, 40, 100, 250])
def test_the_spread_of_an_episode_is_found_however_many_are_new_in_a_row(new):
    """σ = 20: an estimate of 198 changes is within a fifth of it in 998 of 1000 cases or more."""
    rng = np.random.default_rng(new)
    counts = new * np.arange(1, 201)
    episodes = 100 + 20 * rng.standard_normal(counts[-1])
    means = np.array([episodes[list(row)].mean() for row in windows(counts)])
    spread = spread_of_rows(means, counts.astype(float), WINDOW)
    np.testing.assert_allclose(spread * np.sqrt(np.minimum(counts, WINDOW)), 20, rtol=0.2)
    trend = means + 3.0 * np.arange(200)
    np.testing.assert_allclose(spread_of_rows(trend, counts.astype(float), WINDOW), spread)


def test_rows_without_a_new_episode_do_not_count_and_few_rows_tell_nothing():
    counts = np.repeat([10.0, 20, 30, 40], 3)
    means = np.repeat([1.0, 3, 2, 4], 3)
    assert np.isfinite(spread_of_rows(means, counts, WINDOW)).all()
    np.testing.assert_array_equal(spread_of_rows(np.ones(6), np.full(6, 5.0), WINDOW), np.zeros(6))
    np.testing.assert_array_equal(spread_of_rows(np.ones(2), np.ones(2), WINDOW), [0, 0])

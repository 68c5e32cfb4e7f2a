"""Moments of parts add up to those of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from policygrad.diagnostics.spread import Moments, Spread

numbers = arrays.arrays(np.float64, st.integers(0, 30), elements=st.floats(-1e6, 1e6))


@given(numbers)
def test_one_part_is_what_numpy_says_bit_for_bit(x):
    if not len(x):
        assert Moments.of(x) == Moments()
        return
    expected = Spread(float(x.mean()), float(x.std()), float(x.min()), float(x.max()))
    assert Moments.of(x).spread == Spread.of(x) == expected


@given(st.lists(numbers, min_size=1, max_size=6))
def test_parts_add_up_to_the_whole(parts):
    total = sum(map(Moments.of, parts), Moments())
    whole = Moments.of(np.concatenate(parts))
    size = max(1.0, float(np.abs(np.concatenate(parts)).max(initial=0.0)))
    assert total.count == whole.count
    assert total.mean == pytest.approx(whole.mean, rel=1e-12, abs=1e-12 * size)
    assert total.squares == pytest.approx(
        whole.squares, rel=1e-12, abs=1e-12 * size**2 * max(whole.count, 1)
    )
    assert (total.least, total.most) == (whole.least, whole.most)


def test_a_small_spread_around_a_large_mean_is_kept():
    x = 1e9 + np.random.default_rng(0).normal(size=20_000)
    total = sum(map(Moments.of, np.split(x, 40)), Moments())
    assert total.spread.std == pytest.approx(float(x.std()), rel=1e-9)


def test_nothing_has_no_spread():
    assert all(np.isnan(v) for v in vars(Spread.of(np.array([np.nan, np.inf]))).values())
    assert np.isnan(Moments().variance)
    assert Moments() + Moments.of(np.ones(3)) == Moments.of(np.ones(3)) + Moments()


def test_what_is_not_finite_is_left_out_only_where_asked():
    x = np.array([1.0, np.nan, 3.0, np.inf])
    assert Moments.of_finite(x) == Moments.of(np.array([1.0, 3.0]))
    assert np.isnan(Moments.of(x).mean)

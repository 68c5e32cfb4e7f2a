"""Weights of group estimators, against the same rules one episode at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.gradients import groups
from policygrad.gradients.groups import ESTIMATORS, Groups
from tests.gradients.groups import naive

SHAPES = [(2, 2), (3, 4), (2, 5)]


def batch(shape, seed=0, *, success=None):
    """Groups of random or 0/1 returns, as NumPy float64."""
    rng = np.random.default_rng(seed)
    returns = rng.normal(size=shape)
    if success is not None:
        returns = (rng.random(shape) < success).astype(float)
    lengths = rng.integers(1, 9, size=shape).astype(float)
    return Groups(returns, lengths, rng.normal(size=shape[:-1]), rng.normal(size=shape[:-1]))


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("success", [None, 0.3])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_weights_are_those_of_the_plain_rule(name, success, shape):
    given = batch(shape, success=success)
    expected = naive.weights(name, *(x.tolist() for x in given))
    found = ESTIMATORS[name]().weights(given)
    assert found.shape == shape
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_jax_and_leading_axes_give_the_same(name):
    estimator = ESTIMATORS[name]()
    many = Groups(
        *(np.stack(x) for x in zip(*(batch((3, 4), seed) for seed in (1, 2)), strict=True))
    )
    expected = np.stack([estimator.weights(batch((3, 4), seed)) for seed in (1, 2)])
    np.testing.assert_allclose(estimator.weights(many), expected, rtol=1e-12, atol=1e-12)
    with jax.enable_x64(True):
        traced = jax.jit(lambda e, x: e.weights(x))(estimator, jax.tree.map(jnp.asarray, many))
        np.testing.assert_allclose(traced, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("number", [0.1, 0.35, 1.0])
def test_equal_returns_have_no_weight_where_the_mean_of_the_group_is_subtracted(number):
    equal = Groups(np.full((1, 7), number, np.float32), np.ones((1, 7), np.float32))
    for name in ("grpo", "rloo", "rloo-over-std-of-others", "reinforce++"):
        assert not np.any(ESTIMATORS[name]().weights(equal)), name


@pytest.mark.parametrize("number", [0.1, 1.0])
def test_without_epsilon_equal_returns_have_no_weight_either(number):
    mixed = np.array([[number] * 4, [0.0, 1.0, 1.0, 0.0]])
    for returns in (np.full((2, 4), number), mixed):
        given = Groups(returns, np.ones((2, 4)))
        for make in (groups.grpo, groups.dapo, groups.reinforce_plus_plus,
                     groups.reinforce_plus_plus_baseline):  # fmt: skip
            for x in (given, jax.tree.map(jnp.asarray, given)):
                weights = np.asarray(make(epsilon=0.0).weights(x))
                assert np.isfinite(weights).all(), make
                if make is not groups.reinforce_plus_plus:  # which subtracts no mean of a group
                    assert not weights[0].any(), make
                assert weights[1].any() == (returns is mixed), make


def test_one_success_among_failures_weighs_a_million():
    """NeMo-RL, issue 1518: leave-one-out and the deviation of the others, returns 1 0 0 0."""
    blown = groups.leave_one_out_over_deviation_of_others()
    one_success, one_failure = np.array([[1.0, 0, 0, 0]]), np.array([[0.0, 1, 1, 1]])
    # the weights of the rest: (0 − 1/3) / (std(1, 0, 0) + ε)
    rest = (1 / 3) / (np.sqrt(1 / 3) + 1e-6)
    np.testing.assert_array_equal(blown.weights(Groups(one_success))[0, 0], 1 / 1e-6)
    np.testing.assert_allclose(blown.weights(Groups(one_success))[0, 1:], -rest, rtol=1e-12)
    np.testing.assert_array_equal(blown.weights(Groups(one_failure))[0, 0], -1 / 1e-6)
    # instead: no division, or the deviation of the whole group, whose bound is (k − 1)/√k
    assert groups.rloo().weights(Groups(one_success))[0, 0] == 1
    whole = groups.grpo(epsilon=0.0, own_length=False).weights(Groups(one_success))[0, 0]
    np.testing.assert_allclose(whole, 3 / np.sqrt(4), rtol=1e-12)
    skipped = groups.leave_one_out_over_deviation_of_others(skip_equal=True)
    assert skipped.weights(Groups(one_success))[0, 0] == 1


def test_equal_others_in_float32_have_no_deviation_left_by_rounding():
    """NeMo-RL, pull request 4161: seven returns of 0.35 and one of 0.0."""
    returns = np.array([[0.0, *[0.35] * 7]], np.float32)
    skipped = groups.leave_one_out_over_deviation_of_others(skip_equal=True)
    for given in (returns, jnp.asarray(returns)):
        np.testing.assert_allclose(skipped.weights(Groups(given))[0, 0], -0.35, rtol=1e-6)


def test_what_does_not_fit_is_refused_in_one_line():
    small = Groups(np.zeros((1, 1)))
    with pytest.raises(ValueError, match="at least 2 episodes a group, got 1"):
        groups.rloo().weights(small)
    with pytest.raises(ValueError, match="at least 2 groups a batch, got 1"):
        groups.shrinkage().weights(Groups(np.zeros((1, 4))))
    with pytest.raises(ValueError, match="reads lengths, and the groups have none"):
        groups.grpo().weights(Groups(np.zeros((1, 4))))
    with pytest.raises(ValueError, match=r"greedy must have shape \(1,\), got \(2,\)"):
        groups.remax().weights(Groups(np.zeros((1, 4)), greedy=np.zeros(2)))
    with pytest.raises(ValueError, match=r"shape \[..., G, k\], got \(4,\)"):
        groups.rloo().weights(Groups(np.zeros(4)))
    with pytest.raises(ValueError, match="epsilon must be 0 or more, got epsilon=-1"):
        groups.grpo(epsilon=-1)
    with pytest.raises(ValueError, match="epsilon must be positive, got epsilon=0"):
        groups.leave_one_out_over_deviation_of_others(epsilon=0)
    with pytest.raises(ValueError, match="ddof must be 0 or 1, got ddof=2"):
        groups.grpo(ddof=2)
    with pytest.raises(ValueError, match="divisor must be positive"):
        groups.dr_grpo(divisor=0)

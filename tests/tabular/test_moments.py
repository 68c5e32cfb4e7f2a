"""Exact moments against enumeration, over random MDPs, policies, tables, γ and λ."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from policygrad import baselines, estimators
from policygrad.tabular import enumerate_trajectories, gallery, moments
from tests.tabular.oracle import (
    batches,
    brute_force,
    every_estimator,
    random_mdp,
    random_policy,
    random_tables,
    relative_error,
)

TOLERANCE = 1e-10
EDGES = (0.0, 0.3, 0.9, 1.0)
QUICK, ALL = 8, 208


def case(seed):
    """An MDP with its policy, tables, γ and λ; few shapes, so that little is compiled."""
    rng = np.random.default_rng([seed, 3])
    mdp = random_mdp(seed, noisy=seed % 2 == 0, absorbing=seed % 3 != 0, sparse=seed % 4 == 3)
    features = (None, 2)[seed % 2]
    policy = random_policy(seed, mdp, features=features, aliased=True)
    b, v = random_tables(seed, mdp)
    edge = rng.integers(len(EDGES), size=2)
    return mdp, policy, b, v, EDGES[edge[0]], EDGES[edge[1]]


def check(seed):
    mdp, policy, b, v, gamma, lam = case(seed)
    paths = enumerate_trajectories(mdp, policy)
    worst = {}
    for name, estimator in every_estimator(b, v, gamma, lam):
        exact = moments(mdp, policy, estimator, covariance=True)
        for field, want in brute_force(paths, mdp, policy, estimator).items():
            error = relative_error(getattr(exact, field), want)
            worst[name, field] = error
            assert error <= TOLERANCE, (seed, name, field, error, gamma, lam)
    return max(worst.values())


@pytest.mark.parametrize("seed", range(QUICK))
def test_moments_are_those_of_enumeration(seed):
    check(seed)


@pytest.mark.slow
def test_moments_are_those_of_enumeration_on_every_random_mdp():
    errors = [check(seed) for seed in range(ALL)]
    print(f"{len(errors)} random MDPs, largest relative error {max(errors):.1e}")
    assert max(errors) <= TOLERANCE


@pytest.mark.parametrize("k", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "form",
    [
        "total_return",
        "reward_to_go",
        "n_step",
        pytest.param("gae", marks=pytest.mark.slow),
        pytest.param("reward_indexed", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("kept", [False, True])
def test_leave_one_out_is_that_of_every_batch(form, kept, k):
    mdp = random_mdp(5, states=2, horizon=2, absorbing=False, noisy=False)
    if k == 2:
        mdp = random_mdp(6, states=3, horizon=2, noisy=False)
    policy = random_policy(7, mdp, features=2)
    _, v = random_tables(8, mdp)
    options = {"discount": 0.8, "baseline": baselines.leave_one_out()}
    if form not in ("total_return", "reward_indexed"):
        options["discounted_states"] = kept
        if form != "reward_to_go":
            options["critic"] = baselines.table(v)
        if form == "n_step":
            options["n"] = 2
        if form == "gae":
            options["gae_lambda"] = 0.6
    elif kept:
        pytest.skip("γ^t is part of this form")
    estimator = getattr(estimators, form)(**options)
    paths = enumerate_trajectories(mdp, policy)
    mean, covariance = batches(paths, mdp, policy, estimator, k)
    for with_covariance in (True, False):
        exact = moments(mdp, policy, estimator, covariance=with_covariance, episodes=k)
        assert relative_error(exact.mean, mean) <= TOLERANCE
        assert relative_error(exact.variance, np.trace(covariance)) <= TOLERANCE
        if with_covariance:
            assert relative_error(exact.covariance, covariance) <= TOLERANCE


@pytest.mark.parametrize("covariance", [False, True])
def test_numbers_of_single_precision_are_widened(covariance):
    # what JAX makes of any array outside the laboratory
    task = gallery.chain()
    narrow = jnp.asarray(np.random.default_rng(1).normal(size=np.shape(task.policy.theta)))
    assert narrow.dtype == jnp.float32
    estimator = estimators.gae(
        critic=baselines.table(jnp.arange(task.mdp.states, dtype=jnp.float32))
    )

    def of(theta):
        policy = replace(task.policy, theta=theta)
        return moments(task.mdp, policy, estimator, covariance=covariance)

    found, exact = of(narrow), of(np.asarray(narrow, np.float64))
    assert found.mean.dtype == np.float64
    np.testing.assert_array_equal(found.mean, exact.mean)
    assert found.variance == exact.variance

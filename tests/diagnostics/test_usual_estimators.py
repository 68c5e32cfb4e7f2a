"""The usual estimators: what they share when they are fitted together."""

import jax
import numpy as np
import pytest

from policygrad import diagnostics
from policygrad.diagnostics.streaming import weights_of
from policygrad.diagnostics.usual_estimators import fit, usual_estimators
from policygrad.gradients import baselines, estimators
from policygrad.gradients.forms import ResetAtRewards
from policygrad.tabular import gallery
from tests.diagnostics.sampling import sampler
from tests.records import random_episodes
from tests.worlds import MLPPolicy


@pytest.fixture(scope="module")
def fitted():
    task = gallery.chain()
    sample = sampler(task, 32)
    candidates = diagnostics.line_up(task.policy, sample(jax.random.key(0)), jax.random.key(1))
    return candidates, sample(jax.random.key(2))


@pytest.mark.slow
def test_every_usual_estimator_is_fitted_and_weighs(fitted):
    candidates, episodes = fitted
    assert list(candidates) == list(usual_estimators(1))
    for name, (estimator, state) in candidates.items():
        psi = np.asarray(weights_of(estimator, state, episodes).psi)
        assert np.isfinite(psi).all(), name
        assert psi[np.asarray(episodes.valid)].any(), name


@pytest.mark.slow
def test_all_of_them_reset_where_it_is_asked_for():
    plain, resets = usual_estimators(1), usual_estimators(1, resets_at_rewards=True)
    assert plain.keys() - resets.keys() == {"total return", "total return, constant"}
    for name, estimator in resets.items():
        assert estimator.form == ResetAtRewards(plain[name].form)
    task = gallery.chain()
    episodes = sampler(task, 8)(jax.random.key(0))
    critics = [
        diagnostics.line_up(
            task.policy, episodes, jax.random.key(1), lambdas=(0.9,), discounts=(), steps=(),
            epochs=1, resets_at_rewards=x,
        )["gae, λ=0.9"][1].critic
        for x in (False, True)
    ]  # fmt: skip
    # the critic is fitted to the returns that reset, which are others
    leaves = zip(*map(jax.tree.leaves, critics), strict=True)
    assert any(not np.array_equal(a, b) for a, b in leaves)


def test_one_critic_for_each_discount(fitted):
    candidates, episodes = fitted
    critics = {
        (float(e.discount), id(state.critic)) for e, state in candidates.values() if e.critic
    }
    assert sorted(discount for discount, _ in critics) == [0.9, 0.99, 1.0]
    # so that λ = 0 and one step, which are one estimator, differ in nothing
    psi = [weights_of(*candidates[name], episodes).psi for name in ("gae, λ=0", "1 step")]
    np.testing.assert_allclose(*psi, rtol=1e-5, atol=1e-6)


def test_a_policy_with_a_leaf_that_is_no_array_is_fitted_to_like_any_other():
    policy, episodes = MLPPolicy(2, 2), random_episodes()
    estimator = estimators.reward_to_go(baseline=baselines.variance_optimal())
    state = fit(estimator, policy, episodes, jax.random.key(0))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))

"""The sampled variance-optimal baseline reaches what the laboratory computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad import baselines, diagnostics, estimators
from policygrad.diagnostics.usual_estimators import fit
from policygrad.tabular import gallery, moments, optimal_baseline
from tests.diagnostics.sampling import sampler

EPISODES = 20_000


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def one_hot(states):
    def encode(s):
        return 10.0 * jax.nn.one_hot(s, states)  # beside which t, t², t³ weigh little

    return encode


@pytest.mark.slow
@pytest.mark.parametrize("cross_terms", [True, False], ids=["cross", "weighted"])
def test_it_reaches_the_optimum_of_its_class(cross_terms):
    # one logit for all states: V is worse than a constant here, and cross terms are what matters
    task = gallery.short_corridor()
    regression = baselines.linear_features(encode=one_hot(4))
    estimator = estimators.reward_to_go(
        baseline=baselines.variance_optimal(regression, cross_terms=cross_terms)
    )
    episodes = sampler(task, EPISODES)(jax.random.key(0))
    state = fit(estimator, task.policy, episodes, jax.random.key(1))
    values = [
        estimator.baseline.value(state.baseline, jnp.int32(s), jnp.int32(t))
        for s, t in ((0, 0), (1, 1), (2, 2))
    ]
    table = baselines.table([*map(float, values), 0.0])
    variance = moments(task.mdp, task.policy, estimators.reward_to_go(baseline=table)).variance
    best = optimal_baseline(task.mdp, task.policy, estimators.reward_to_go(), "state").variance
    constant = optimal_baseline(
        task.mdp, task.policy, estimators.reward_to_go(), "constant"
    ).variance
    if cross_terms:
        assert best <= variance < constant  # 820/3 against 830/3; V itself has 295
    else:
        assert variance == pytest.approx(295, rel=0.02)


@pytest.mark.slow
def test_network_class_lowers_the_variance_it_is_measured_by():
    task = gallery.random_mdp()
    network = baselines.value_network((16,), epochs=30, step_size=3e-3, encode=one_hot(4))
    optimal = estimators.reward_to_go(baseline=baselines.variance_optimal(network))
    sample = sampler(task, 4000)
    state = fit(optimal, task.policy, sample(jax.random.key(0)), jax.random.key(1))
    plain = estimators.reward_to_go()
    candidates = {"plain": (plain, plain.init(jax.random.key(0), 0)), "optimal": (optimal, state)}
    found = diagnostics.compare_estimators(
        task.policy, candidates, sample(jax.random.key(2)), batch_episodes=1, reference="plain"
    )
    ratio = found.estimators["optimal"].variance_ratio
    exact = optimal_baseline(task.mdp, task.policy, plain, "state").variance
    floor = exact / moments(task.mdp, task.policy, plain).variance
    assert ratio.high < 1
    assert ratio.value < floor + 0.1


def test_segments_are_refused_only_where_cross_terms_count():
    critic = baselines.value_network((4,))
    for cross_terms in (True, False):
        baseline = baselines.variance_optimal(cross_terms=cross_terms)
        estimator = estimators.gae(critic=critic, baseline=baseline)
        assert estimator.whole_episodes is cross_terms


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="got Table"):
        baselines.variance_optimal(baselines.table(np.ones(2)))


@pytest.mark.parametrize("make", [estimators.reward_to_go, estimators.total_return])
def test_a_fit_forgets_what_the_last_one_got_wrong(make):
    """Else an error is in the gradient, the gradient in the targets, and it grows to a NaN."""
    task = gallery.short_corridor()
    regression = baselines.linear_features(encode=one_hot(4))
    estimator = make(baseline=baselines.variance_optimal(regression))
    episodes = sampler(task, 64)(jax.random.key(0))
    fresh = estimator.init(jax.random.key(1), jnp.int32(0))
    wrong = fresh._replace(baseline=fresh.baseline._replace(intercept=jnp.asarray(1e9)))

    @jax.jit
    def fitted(state):
        returns = estimator.weights(state, episodes).returns
        return estimator.fit(state, jax.random.key(2), task.policy, episodes, returns)[0].baseline

    for a, b in zip(*(jax.tree.leaves(fitted(state)) for state in (fresh, wrong)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)

"""Optimal baselines: the parabola's identity, its minimum, and every family's projection."""

from dataclasses import replace

import numpy as np
import pytest

from policygrad import baselines, estimators
from policygrad.tabular import excess_variance, gallery, moments, optimal_baseline, solve
from tests.tabular.oracle import (
    every_estimator,
    random_mdp,
    random_policy,
    random_tables,
    relative_error,
)

SLOW = pytest.mark.slow
FORMS = (
    "total_return, table",
    "gae, b True",
    "n_step 2, b False",
    pytest.param("reward_indexed", marks=SLOW),
    pytest.param("reward_to_go, b True", marks=SLOW),
    pytest.param("gae, b False", marks=SLOW),
    pytest.param("n_step 2, b True", marks=SLOW),
)


def case(seed, form, horizon=3, timed=True):
    mdp = random_mdp(seed, horizon=horizon)
    policy = random_policy(seed, mdp, features=2)
    b, v = random_tables(seed, mdp, timed=timed)
    estimator = dict(every_estimator(b, v, 0.8, 0.6))[form]
    return mdp, policy, estimator, b * ~mdp.absorbing


def variance(mdp, policy, estimator, table):
    return moments(mdp, policy, replace(estimator, baseline=baselines.table(table))).variance


@pytest.mark.parametrize("horizon", [3, None])
@pytest.mark.parametrize("form", FORMS)
def test_variance_is_the_optimum_plus_the_weighted_squared_error(form, horizon):
    for seed in range(3):
        mdp, policy, estimator, b = case(seed, form, horizon, timed=horizon is not None)
        own = variance(mdp, policy, estimator, b)
        family = "state" if horizon is None else "state_time"
        best = optimal_baseline(mdp, policy, estimator, family)
        excess = np.sum(best.curvature * (b - best.values) ** 2)
        assert relative_error(best.variance + excess, own) <= 1e-10
        assert relative_error(excess_variance(mdp, policy, estimator), excess) <= 1e-10
        assert relative_error(variance(mdp, policy, estimator, best.values), best.variance) <= 1e-10
        rng = np.random.default_rng(seed)
        for size in (1e-3, 1.0):
            moved = best.values + size * rng.normal(size=best.values.shape)
            assert variance(mdp, policy, estimator, moved) > best.variance


@pytest.mark.parametrize("horizon", [3, None])
@pytest.mark.parametrize("form", FORMS[:2])
@pytest.mark.parametrize("family", ["constant", "time", "state", "linear"])
def test_every_family_holds_its_best_member(family, form, horizon):
    mdp, policy, estimator, b = case(1, form, horizon, timed=horizon is not None)
    rng = np.random.default_rng(9)
    features = rng.normal(size=(mdp.states, 2)) if family == "linear" else None
    if horizon is None and family == "time":
        with pytest.raises(ValueError, match="needs a horizon"):
            optimal_baseline(mdp, policy, estimator, family)
        return
    best = optimal_baseline(mdp, policy, estimator, family, features=features)
    assert relative_error(variance(mdp, policy, estimator, best.values), best.variance) <= 1e-10
    shape = np.shape(best.coefficients)
    directions = {
        "constant": lambda c: np.full(b.shape, c),
        "time": lambda c: np.broadcast_to(c[:, None], b.shape),
        "state": lambda c: np.broadcast_to(c, b.shape),
        "linear": lambda c: np.broadcast_to(features @ c, b.shape),
    }[family]
    for size in (1e-2, 1.0):
        moved = best.values + size * directions(rng.normal(size=shape))
        assert variance(mdp, policy, estimator, moved) > best.variance


@pytest.mark.parametrize("horizon", [3, None])
@pytest.mark.parametrize("form", FORMS[:3])
def test_per_parameter_is_the_best_constant_of_each_entry(form, horizon):
    mdp, policy, estimator, _ = case(3, form, horizon, timed=horizon is not None)
    best = optimal_baseline(mdp, policy, estimator, "per_parameter")
    total = 0.0
    for i, b in enumerate(best.coefficients):
        diagonals = []
        for c in (b, b + 0.1, b - 0.1):
            table = np.full(mdp.states, c)
            chosen = replace(estimator, baseline=baselines.table(table))
            diagonals.append(moments(mdp, policy, chosen, covariance=True).covariance[i, i])
        assert diagonals[0] <= min(diagonals[1:])
        above = np.array(diagonals[1:]) - diagonals[0]
        assert above == pytest.approx(best.curvature[i] * 0.1**2, abs=1e-10)
        total += diagonals[0]
    assert best.curvature.shape == best.values.shape
    assert relative_error(best.variance, total) <= 1e-10


def corridor(baseline=None):
    mdp, policy = gallery.short_corridor()
    return moments(mdp, policy, estimators.reward_to_go(baseline=baseline)).variance


def test_golden_short_corridor():
    mdp, policy = gallery.short_corridor()
    solution = solve(mdp, policy, discount=1.0)
    close = {"abs": 1e-9}
    assert solution.objective == pytest.approx(-12, **close)
    assert solution.values[:3] == pytest.approx([-12, -10, -6], **close)
    assert solution.gradient == pytest.approx([2.0], **close)

    def total(baseline=None):
        return moments(mdp, policy, estimators.total_return(baseline=baseline)).variance

    whole = estimators.total_return()
    assert total() == pytest.approx(1959, **close)
    assert total(baselines.constant(-12)) == pytest.approx(831, **close)
    best = optimal_baseline(mdp, policy, whole, "constant")
    assert float(best.coefficients) == pytest.approx(-65 / 3, **close)
    assert best.variance == pytest.approx(1652 / 3, **close)

    assert corridor() == pytest.approx(733, **close)
    assert corridor(baselines.table(solution.values)) == pytest.approx(295, **close)
    assert corridor(baselines.constant(-12)) == pytest.approx(277, **close)
    to_go = estimators.reward_to_go()
    best = optimal_baseline(mdp, policy, to_go, "constant")
    assert float(best.coefficients) == pytest.approx(-37 / 3, **close)
    assert best.variance == pytest.approx(830 / 3, **close)
    best = optimal_baseline(mdp, policy, to_go, "state")
    assert best.coefficients[:3] == pytest.approx([-40 / 3, -11, -12], **close)
    assert best.variance == pytest.approx(820 / 3, **close)
    assert corridor(best.baseline()) == pytest.approx(820 / 3, **close)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_golden_short_corridor_value(p):
    mdp, policy = gallery.short_corridor()
    policy = type(policy)(np.array([np.log(p / (1 - p))]), policy.features)
    expected = (2 * p - 4) / (p * (1 - p))
    assert solve(mdp, policy, discount=1.0).objective == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("logit", [-1.0, 0.0, 0.7])
def test_golden_bandit(logit):
    q1, q2 = 3.0, -1.0
    mdp, policy = gallery.two_armed_bandit(q1, q2)
    policy = type(policy)(np.array([[logit, 0.0], [0.0, 0.0]]))
    p = 1 / (1 + np.exp(-logit))
    for make in (estimators.reward_to_go, estimators.total_return):
        best = optimal_baseline(mdp, policy, make(), "constant")
        assert float(best.coefficients) == pytest.approx((1 - p) * q1 + p * q2, abs=1e-9)
        assert best.variance == pytest.approx(0.0, abs=1e-9)
        assert moments(mdp, policy, make(baseline=best.baseline())).variance < 1e-9
        value = baselines.constant(p * q1 + (1 - p) * q2)
        left = moments(mdp, policy, make(baseline=value)).variance
        assert left > 1e-2 if logit else left < 1e-9  # the two agree at p = ½ alone


@pytest.mark.parametrize("family", ["nothing", "linear"])
def test_bad_families_are_refused(family):
    mdp, policy = gallery.two_armed_bandit()
    with pytest.raises(ValueError, match="family"):
        optimal_baseline(mdp, policy, estimators.reward_to_go(), family)

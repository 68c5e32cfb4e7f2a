"""Without a horizon the linear systems equal the recursion over a long one."""

from dataclasses import replace

import numpy as np
import pytest

from policygrad import baselines, estimators
from policygrad.tabular import moments
from tests.tabular.oracle import (
    every_estimator,
    is_total,
    random_mdp,
    random_policy,
    random_tables,
    relative_error,
)

FIELDS = ("mean", "variance", "covariance", "diagonal", "cross", "approximation_ii", "gradient")
LONG = 400


def compare(mdp, policy, estimator, name=""):
    long = replace(mdp, horizon=LONG)
    one, other = (moments(m, policy, estimator, covariance=True) for m in (mdp, long))
    for field in FIELDS:
        error = relative_error(getattr(one, field), getattr(other, field))
        assert error <= 1e-9, (name, field, error)


@pytest.mark.parametrize("gamma", [pytest.param(0.0, marks=pytest.mark.slow), 0.9, 1.0])
@pytest.mark.parametrize("sparse", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_absorbing(gamma, sparse):
    mdp = random_mdp(1, horizon=None, sparse=sparse)
    policy = random_policy(2, mdp, features=2)
    b, v = random_tables(3, mdp)
    for name, estimator in every_estimator(b, v, gamma, 0.7):
        compare(mdp, policy, estimator, name)


def test_leave_one_out_of_the_total_return():
    mdp = random_mdp(4, horizon=None)
    policy = random_policy(5, mdp, features=2)
    for gamma in (0.8, 1.0):
        estimator = estimators.total_return(discount=gamma, baseline=baselines.leave_one_out())
        compare(mdp, policy, estimator)


def test_discounted_without_absorption():
    mdp = random_mdp(6, horizon=None, absorbing=False)
    policy = random_policy(7, mdp, features=2)
    b, v = random_tables(8, mdp)
    for _, estimator in every_estimator(b, v, 0.9, 0.7):
        if estimator.discounted_states and not is_total(estimator):
            compare(mdp, policy, estimator)
        else:  # its scores never fade, and neither does its variance
            with pytest.raises(ValueError, match="absorption"):
                moments(mdp, policy, estimator)


def test_time_dependent_baselines_are_refused():
    mdp = random_mdp(9, horizon=None)
    policy = random_policy(10, mdp)
    table = np.zeros((3, mdp.states))
    estimator = estimators.reward_to_go(baseline=baselines.table(table))
    with pytest.raises(ValueError, match="shape"):
        moments(mdp, policy, estimator)
    timed = estimators.reward_to_go(baseline=baselines.time_dependent(5))
    state = estimators.EstimatorState(np.arange(5.0), ())
    with pytest.raises(ValueError, match="must not depend on the time"):
        moments(mdp, policy, timed, state)
    with pytest.raises(ValueError, match="without a horizon"):
        moments(mdp, policy, estimators.reward_to_go(baseline=baselines.leave_one_out()))

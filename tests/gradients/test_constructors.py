"""What the named constructors make where nothing is said."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from policygrad import baselines, estimators
from policygrad.gradients.estimators import LambdaReturn, NStep, ResetAtRewards, TotalReturn
from policygrad.gradients.weights import Estimator, EstimatorState
from tests.records import FirstFeature, random_episodes

CRITIC = baselines.value_network()
NONE = baselines.none()
MADE = {
    estimators.total_return: Estimator(TotalReturn(), NONE, None, 1.0),
    estimators.reward_indexed: Estimator(LambdaReturn(1.0), NONE, None, 1.0, True),
    estimators.reward_to_go: Estimator(LambdaReturn(1.0), NONE, None, 1.0),
    estimators.n_step: Estimator(NStep(5), None, CRITIC, 0.99, False, "bootstraps"),
    estimators.td: Estimator(LambdaReturn(0.0), None, CRITIC, 0.99, False, "bootstraps"),
    estimators.gae: Estimator(LambdaReturn(0.95), None, CRITIC, 0.99, False, "bootstraps"),
}


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_defaults(make):
    assert make() == MADE[make]


RESETS = (estimators.reward_to_go, estimators.n_step, estimators.td, estimators.gae)


@pytest.mark.parametrize("make", RESETS, ids=lambda make: make.__name__)
def test_returns_reset_at_rewards_where_it_is_asked_for(make):
    usual = make(discount=0.9)
    assert make(discount=0.9, resets_at_rewards=False) == usual
    resets = replace(usual, form=ResetAtRewards(usual.form))
    assert make(discount=0.9, resets_at_rewards=True) == resets
    for value in (1, None, "yes"):
        with pytest.raises(ValueError, match="resets_at_rewards must be True or False"):
            make(resets_at_rewards=value)


def test_a_critic_is_also_what_is_subtracted():
    for make in (estimators.reward_to_go, estimators.n_step, estimators.td, estimators.gae):
        made = make(critic=FirstFeature())
        assert (made.baseline, type(made.critic)) == (None, FirstFeature)
        made = make(critic=FirstFeature(), baseline=baselines.constant())
        assert type(made.baseline) is type(baselines.constant())


def test_both_a_baseline_and_a_critic_read_through_the_encoder():
    def encode(observation):
        return observation

    bound = Estimator(
        LambdaReturn(), baselines.linear_features(), baselines.linear_features(), 0.9
    ).bind(encode)
    assert bound.baseline.encode is encode
    assert bound.critic.encode is encode


def test_padding_has_no_return():
    record = random_episodes(lengths=(2, 5))
    ours = estimators.gae(critic=FirstFeature(), discount=0.9)
    state = EstimatorState((), ours.critic.init(jax.random.key(0), record.observations[0, 0]))
    returns = np.asarray(ours.weights(state, record).returns)
    np.testing.assert_array_equal(returns[~np.asarray(record.valid)], 0)

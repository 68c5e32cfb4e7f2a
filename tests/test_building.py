"""From settings to values."""

import pytest

from policygrad.baselines.network import ValueNetwork
from policygrad.baselines.optimal import VarianceOptimal
from policygrad.building import build_estimator
from policygrad.config import TrainConfig
from policygrad.errors import UserError


@pytest.mark.parametrize("estimator", ["gae", "td", "n-step"])
def test_variance_optimal_on_segments_is_a_weighted_regression_beside_a_critic(estimator):
    config = TrainConfig(estimator=estimator, baseline="variance-optimal")
    built = build_estimator(config, None)
    assert isinstance(built.baseline, VarianceOptimal)
    assert not built.baseline.cross_terms
    assert isinstance(built.critic, ValueNetwork)
    assert not built.needs_whole_episodes


@pytest.mark.parametrize("estimator", ["reward-to-go", "total-return", "reward-indexed"])
@pytest.mark.parametrize("episodes", [8, "adaptive"])
def test_variance_optimal_on_episodes_counts_cross_terms(estimator, episodes):
    settings = {"estimator": estimator, "baseline": "variance-optimal"}
    built = build_estimator(TrainConfig(**settings, batch_episodes=episodes), None)
    assert isinstance(built.baseline, VarianceOptimal)
    assert built.baseline.cross_terms
    assert built.critic is None
    with pytest.raises(UserError, match="--baseline variance-optimal needs whole episodes"):
        TrainConfig(**settings)

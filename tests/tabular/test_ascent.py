"""The climb reaches the optimum."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from policygrad.tabular import ascend, from_gymnasium, gallery, solve
from policygrad.tabular.policy import SoftmaxPolicy


@pytest.mark.parametrize("method", ["gradient", "natural"])
def test_short_corridor_is_climbed_to_its_stochastic_optimum(method):
    mdp, policy = gallery.short_corridor()
    climb = ascend(mdp, policy, discount=1.0, method=method)
    p = 1 / (1 + np.exp(-climb.policy.theta[0]))
    assert p == pytest.approx(2 - np.sqrt(2), abs=1e-6)
    assert climb.objective == pytest.approx(-(6 + 4 * np.sqrt(2)), abs=1e-9)
    assert np.all(np.diff(climb.objectives) > 0)


@pytest.mark.parametrize(("scale", "step_size"), [(1.0, 100.0), (10.0, 1.0), (100.0, 1.0)])
@pytest.mark.parametrize("method", ["gradient", "natural"])
def test_a_step_to_where_no_episode_ends_is_halved(method, scale, step_size):
    mdp, policy = gallery.short_corridor()
    mdp = replace(mdp, rewards=scale * np.asarray(mdp.rewards))
    climb = ascend(mdp, policy, discount=1.0, method=method, step_size=step_size)
    assert climb.objective == pytest.approx(-scale * (6 + 4 * np.sqrt(2)), rel=1e-9)


@pytest.mark.parametrize("discount", [0.9, 0.99])
def test_frozen_lake_is_climbed_to_the_value_of_policy_iteration(discount):
    mdp = from_gymnasium(gymnasium.make("FrozenLake-v1"))
    policy = SoftmaxPolicy.of(np.zeros((mdp.states, mdp.actions)))
    best = ascend(mdp, policy, discount=discount, method="policy_iteration")
    assert best.converged
    climb = ascend(mdp, policy, discount=discount, method="natural")
    assert climb.converged
    assert climb.objective == pytest.approx(best.objective, abs=1e-8)
    values = np.zeros(mdp.states)  # value iteration, a third opinion
    for _ in range(5000):
        w, r = mdp.edges.weights, mdp.edges.rewards
        values = (w * (r + discount * values[mdp.successors])).sum(-1).max(axis=1)
    assert best.objective == pytest.approx(values[0], abs=1e-10)


def test_frozen_lake_undiscounted():
    """Its best stationary policy reaches the goal with probability 14/17."""
    mdp = from_gymnasium(gymnasium.make("FrozenLake-v1"))
    policy = SoftmaxPolicy.of(np.zeros((mdp.states, mdp.actions)))
    climb = ascend(mdp, policy, discount=1.0, method="natural")
    assert climb.objective == pytest.approx(14 / 17, abs=1e-6)


def test_the_usual_direction_leads_away_from_the_optimum():
    mdp, policy = gallery.discounted_counterexample()
    climb = ascend(mdp, policy, discount=0.5)
    assert climb.policy.theta[0] > 5
    solution = solve(mdp, policy, discount=0.5)
    assert solution.usual_direction[0] < 0 < solution.gradient[0]


def test_bad_input_is_refused():
    mdp, policy = gallery.chain()
    with pytest.raises(ValueError, match="method"):
        ascend(mdp, policy, discount=1.0, method="downhill")
    with pytest.raises(ValueError, match="horizon"):
        ascend(mdp, policy, discount=1.0, method="policy_iteration")

"""States that no episode comes to, and from which none would end, change nothing that is asked.

The expected numbers are those of the same task where the state without an end is absorbing, and
those of a long horizon.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad import baselines, estimators
from policygrad.tabular import (
    FiniteMDP,
    FunctionPolicy,
    SoftmaxPolicy,
    all_action,
    ascend,
    moments,
    optimal_baseline,
    solve,
)
from policygrad.tabular.exact_estimators import ExactEstimators
from tests.tabular.test_infinite import compare

MASK = np.zeros((4, 3))
MASK[0, 2] = -np.inf
AVOIDS = FunctionPolicy(
    jnp.array([[0.3, -0.2, 0.0], *[[0.0] * 3] * 3]), lambda t: jax.nn.softmax(t + MASK)
)


def task(reward=1.0):
    """0 → the end 1, at once or with probability ½ a step; but by action 2 → 2, which has no end
    and earns a reward. 3, where nobody comes, → 1 or 2. At reward 0 state 2 is absorbing."""
    p = np.zeros((4, 3, 4))
    p[0, 0, 1] = p[0, 2, 2] = p[3, 0, 1] = p[3, 1:, 2] = 1
    p[0, 1, :2] = 0.5
    p[1, :, 1] = p[2, :, 2] = 1
    return FiniteMDP(p, [[1, 0.2, 0], [0] * 3, [reward] * 3, [0] * 3], [1, 0, 0, 0])


@pytest.mark.parametrize("discount", [0.9, 1.0])
def test_what_is_visited_is_as_if_they_were_not_there(discount):
    found, wanted = (solve(task(reward), AVOIDS, discount=discount) for reward in (1.0, 0.0))
    assert found.objective == pytest.approx(wanted.objective, abs=1e-12)
    for name in ("gradient", "usual_direction", "occupancy", "discounted_visits"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=1e-12), name
    assert found.values[:2] == pytest.approx(wanted.values[:2], abs=1e-12)
    assert found.action_values[0, :2] == pytest.approx(wanted.action_values[0, :2], abs=1e-12)
    if discount == 1:
        assert np.isnan(found.values).tolist() == [False, False, True, True]
        assert np.isnan(found.action_values).tolist() == [
            [False, False, True], [False] * 3, [True] * 3, [False, True, True],
        ]  # fmt: skip
    else:  # 1/(1 − γ), and two thirds of it a step later
        assert found.values[2:] == pytest.approx([10, 6])
        assert found.action_values[0, 2] == pytest.approx(9)


def test_moments_are_those_of_a_long_horizon():
    table = baselines.table([0.7, 0.0, 2.0, 3.0])
    for estimator in (
        estimators.reward_to_go(discount=1.0, baseline=table),
        estimators.reward_to_go(discount=0.9, discounted_states=False, baseline=table),
        estimators.total_return(discount=1.0),
        estimators.gae(discount=1.0, gae_lambda=0.6, critic=table),
        all_action(discount=1.0),
    ):
        compare(task(), AVOIDS, estimator, str(estimator))


def test_exact_baselines_and_critics_are_zero_there():
    exact = ExactEstimators(task(), AVOIDS)
    for name, baseline in (("td", "value"), ("reward-to-go", "value")):
        found = moments(task(), AVOIDS, exact.estimator(name, baseline))
        assert np.isfinite(found.variance), name
        assert found.bias == pytest.approx(0, abs=1e-12), name
    best = optimal_baseline(task(), AVOIDS, estimators.reward_to_go(), "state")
    assert best.values[1:].tolist() == [0, 0, 0]


def test_policy_iteration_takes_no_action_whose_value_it_does_not_know():
    best = ascend(task(), AVOIDS, discount=1.0, method="policy_iteration")
    assert best.converged
    assert best.objective == 1
    assert np.argmax(best.policy.probabilities, axis=1)[[0, 3]].tolist() == [0, 0]


def test_a_visited_state_without_an_end_is_an_error_still():
    with pytest.raises(ValueError, match="needs absorption, and from state 2"):
        solve(task(), SoftmaxPolicy(np.zeros((4, 3))), discount=1.0)
    assert np.isnan(
        solve(task(), SoftmaxPolicy(np.zeros((4, 3))), discount=0.9).usual_direction
    ).all()

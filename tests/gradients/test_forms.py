"""Return forms: what each says of the coupling of its returns, against the returns themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.gradients.forms import Form, LambdaReturn, LaneSteps, NStep, TotalReturn
from policygrad.gradients.weights import Estimator
from tests.records import random_episodes

T, DISCOUNT = 6, 0.8


def steps():
    """A lane that terminates with its last step."""
    rng = np.random.default_rng(0)
    no = np.zeros(T, bool)
    rewards, next_values = rng.normal(size=(2, T)).astype(np.float32)
    return LaneSteps(rewards, next_values, np.arange(T) == T - 1, no)


def returns_by_coupling(form, lane, horizon):
    """The last of the coupled returns, G_t = r_t + γ (bootstrap v'_t + trace G_{t+1})."""
    trace, bootstrap = form.coupling(horizon)
    following, found = np.zeros(len(bootstrap)), []
    for t in reversed(range(T)):
        ahead = bootstrap * lane.next_values[t] + trace @ following
        following = lane.rewards[t] + DISCOUNT * ahead * (not lane.terminated[t])
        found.append(following[-1])
    return np.array(found[::-1])


@pytest.mark.parametrize("horizon", [None, T])
@pytest.mark.parametrize(
    "form",
    [LambdaReturn(0.0), LambdaReturn(0.3), LambdaReturn(), NStep(1), NStep(3), NStep(T), NStep(9)],
)
def test_coupled_returns_are_the_returns(form, horizon):
    lane = steps()
    expected = form.returns(lane, DISCOUNT)
    np.testing.assert_allclose(returns_by_coupling(form, lane, horizon), expected, rtol=1e-5)


def test_coupled_return_of_whole_episodes_is_that_of_the_first_step():
    lane = steps()
    total = TotalReturn().returns(lane, DISCOUNT)
    np.testing.assert_array_equal(total, total[0])
    first = returns_by_coupling(TotalReturn(), lane, None)[0]
    np.testing.assert_allclose(first, total[0], rtol=1e-5)


def test_no_more_returns_are_coupled_than_a_task_has_steps():
    assert NStep(9).coupling(4).bootstrap.shape == (4,)
    assert NStep(9).coupling(None).bootstrap.shape == (9,)


def test_form_that_says_no_coupling_has_no_exact_form():
    class Mine(Form):
        def returns(self, steps, discount):
            return steps.rewards

    with pytest.raises(ValueError, match="Mine has no exact form"):
        Mine().coupling(3)


def test_names_of_forms():
    forms = LambdaReturn(0.0), LambdaReturn(0.5), LambdaReturn(), NStep(), TotalReturn()
    assert list(map(str, forms)) == ["td", "gae", "reward_to_go", "n_step", "total_return"]
    names = []
    jax.jit(lambda form: names.append(str(form)))(LambdaReturn(0.0))
    assert names == ["gae"]  # a number that is traced has no value


def test_a_return_that_is_one_number_an_episode_counts_once_an_episode():
    record = random_episodes(lengths=(1, 9, 2, 5))
    once = Estimator(TotalReturn(), None, None, 0.9, discounted_states=True)
    np.testing.assert_allclose(once.step_weights(record).sum(axis=0), 1, rtol=1e-6)
    np.testing.assert_array_equal(once.state_discounts(record), 1)
    each = Estimator(LambdaReturn(), None, None, 0.9, discounted_states=True)
    np.testing.assert_array_equal(each.step_weights(record), record.valid)
    np.testing.assert_allclose(each.state_discounts(record)[4, 1], 0.9**4, rtol=1e-6)


@pytest.mark.parametrize("form", [TotalReturn(), LambdaReturn(), NStep(2)])
def test_nothing_is_subtracted_where_there_is_no_baseline_and_no_critic(form):
    record = random_episodes()
    ours = Estimator(form, None, None, 0.9)
    weights = ours.weights(ours.init(jax.random.key(0), record.observations[0, 0]), record)
    np.testing.assert_array_equal(weights.psi, jnp.where(record.valid, weights.returns, 0.0))
    np.testing.assert_array_equal(weights.baseline, 0)


def test_defaults():
    assert (LambdaReturn().gae_lambda, NStep().n) == (1.0, 5)
    assert jax.tree.leaves((LambdaReturn(0.3), NStep(3))) == [0.3]  # n is static, λ is traced

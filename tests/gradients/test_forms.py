"""Return forms: what each says of the coupling of its returns, against the returns themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policygrad.gradients.forms import (
    Form,
    LambdaReturn,
    LaneSteps,
    NStep,
    ResetAtRewards,
    TotalReturn,
)
from policygrad.gradients.weights import Estimator
from tests import naive
from tests.records import STEPS, random_episodes, segments_of

T, DISCOUNT = 6, 0.8


def steps(paid=True):
    """A lane that terminates with its last step; `paid` is which steps have a reward."""
    rng = np.random.default_rng(0)
    no = np.zeros(T, bool)
    rewards, next_values = rng.normal(size=(2, T)).astype(np.float32)
    rewards = np.where(paid, rewards, np.float32(0))
    return LaneSteps(rewards, next_values, np.arange(T) == T - 1, no)


def returns_by_coupling(form, lane, horizon):
    """The last of the coupled returns, G_t = r_t + γ (bootstrap v'_t + trace G_{t+1})."""
    trace, bootstrap, resets = form.coupling(horizon)
    following, found = np.zeros(len(bootstrap)), []
    for t in reversed(range(T)):
        ahead = bootstrap * lane.next_values[t] + trace @ following
        over = lane.terminated[t] or (resets and lane.rewards[t] != 0)
        following = lane.rewards[t] + DISCOUNT * ahead * (not over)
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


@pytest.mark.parametrize("horizon", [None, T])
@pytest.mark.parametrize("form", [LambdaReturn(0.0), LambdaReturn(0.3), LambdaReturn(), NStep(3)])
def test_coupled_returns_that_reset_are_the_returns(form, horizon):
    lane = steps(paid=np.arange(T) % 3 == 1)
    assert not LambdaReturn().coupling(horizon).resets_at_rewards
    resets = ResetAtRewards(form)
    expected = resets.returns(lane, DISCOUNT)
    np.testing.assert_allclose(returns_by_coupling(resets, lane, horizon), expected, rtol=1e-5)
    assert abs(expected - form.returns(lane, DISCOUNT)).max() > 0.1


def resetting_returns(form, segment):
    """Returns that reset, as they are defined: the sum from each step on is that of a lane which
    terminates with the first reward."""
    rewards, values, truncated = segment.rewards, segment.next_values, segment.truncated
    ends = segment.terminated.copy()
    for t, reward in enumerate(rewards):
        if reward != 0:
            ends[t] = True
    lane = rewards, values, ends, truncated, segment.discount
    if isinstance(form, NStep):
        return naive.n_step_returns(*lane, form.n)
    return naive.lambda_returns(*lane, segment.gae_lambda)


RESETTING = {
    kind: jax.jit(lambda form, lane, discount: ResetAtRewards(form).returns(lane, discount))
    for kind in (LambdaReturn, NStep)
}


@pytest.mark.parametrize("kind", RESETTING)
def test_returns_that_reset_equal_the_double_sum(kind):
    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(segments_of(), st.lists(st.booleans(), min_size=STEPS, max_size=STEPS))
    def check(segment, paid):
        segment = segment._replace(rewards=np.where(paid, segment.rewards, 0.0))
        form = NStep(3) if kind is NStep else LambdaReturn(segment.gae_lambda)
        lane = LaneSteps(
            segment.rewards, segment.next_values, segment.terminated, segment.truncated
        )
        with jax.enable_x64(True):
            found = np.asarray(RESETTING[kind](form, lane, segment.discount))
        scale = resetting_returns(form, segment.magnitudes())
        assert np.all(abs(found - resetting_returns(form, segment)) <= 1e-12 * scale)

    check()


def test_a_return_holds_nothing_of_what_comes_after_its_reward():
    no = np.zeros(6, bool)
    rewards = np.array([0.0, 0.0, -1.0, 0.0, 2.0, 0.0])
    lane = LaneSteps(rewards, np.full(6, 8.0), no, no)
    for scale in (1.0, 1e-3):  # a positive factor changes no zero
        lane = lane._replace(rewards=scale * rewards)
        found = ResetAtRewards(LambdaReturn()).returns(lane, 0.5)
        tail = [1.0, 2.0, 4.0]  # the critic's value, where the segment cuts a point
        expected = scale * np.array([-0.25, -0.5, -1.0, 1.0, 2.0, 0.0]) + [0, 0, 0, 0, 0, tail[2]]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    over = no | (np.arange(6) == 5)
    ended = ResetAtRewards(LambdaReturn()).returns(lane._replace(terminated=over), 0.5)
    assert ended[-1] == 0


def test_to_reset_twice_is_to_reset_once():
    lane = steps(paid=np.arange(T) % 3 == 1)
    once = ResetAtRewards(LambdaReturn(0.3))
    twice = ResetAtRewards(once)
    np.testing.assert_array_equal(twice.returns(lane, 0.9), once.returns(lane, 0.9))
    assert twice.coupling(None) == once.coupling(None)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (TotalReturn(), "total_return is one number an episode, and cannot end at a reward"),
        (LambdaReturn, "takes a return form, such as LambdaReturn"),
        ("gae", r"takes a return form, such as LambdaReturn\(\), got 'gae'"),
        (None, "takes a return form"),
        (0.95, "takes a return form"),
        (Estimator(LambdaReturn(), None, None, 0.9), "takes a return form"),
    ],
)
def test_what_cannot_reset_is_refused(form, message):
    with pytest.raises(ValueError, match=message):
        ResetAtRewards(form)


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
    assert str(ResetAtRewards(NStep())) == "n_step that resets at rewards"
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
    assert jax.tree.leaves(ResetAtRewards(LambdaReturn(0.3))) == [0.3]

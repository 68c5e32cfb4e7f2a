from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.core.modules import Carried
from policygrad.gradients.estimators import reward_to_go
from policygrad.gradients.scores import (
    column_moments,
    episode_gradients,
    log_probs_of,
    policy_gradient,
    reward_indexed_gradient,
    score_function_gradient,
    score_products,
    score_squares,
    trajectory_score,
)
from policygrad.maths.distributions import Bernoulli, Categorical, DiagonalGaussian
from policygrad.policies import meeting
from tests.records import random_episodes, random_segments
from tests.toy import Softmax, Toy, enumerate_trajectories, random_logits, softmax

DISCOUNT = 0.8


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def enumerated():
    toy = Toy.random(horizon=3)
    logits = random_logits(toy)
    with jax.enable_x64(True):
        record, probabilities = enumerate_trajectories(toy, logits)
        return Softmax(jnp.asarray(logits)), record, probabilities


def mean(probabilities, per_episode):
    return np.tensordot(probabilities, np.asarray(per_episode), 1)


def one_column(record, n):
    return jax.tree.map(lambda x: x[:, n : n + 1], record)


def test_enumeration_is_complete(enumerated):
    _, record, probabilities = enumerated
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-12)
    ends = record.terminated | record.truncated
    np.testing.assert_array_equal(ends.sum(axis=0), 1)
    assert record.terminated.any()
    assert record.truncated.any()


def test_log_derivative_trick_for_a_gaussian_mean():
    # ∇_μ E[x²] = 2μ, with the expectation by Gauss–Hermite nodes of equal weight in f·w
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    weights = weights / weights.sum()
    mu, sigma = jnp.array([0.7]), 1.3
    x = mu[0] + sigma * nodes

    def log_prob(mu, x):
        return DiagonalGaussian(mu, jnp.log(jnp.array([sigma]))).log_prob(x[None])

    # the mean over samples times len(x) · w is the expectation
    gradient = score_function_gradient(log_prob, mu, x, x**2 * weights * len(x))
    np.testing.assert_allclose(gradient, 2 * mu, rtol=1e-12)


def test_log_derivative_trick_for_a_bernoulli():
    # ∇_l E[f] = p (1 − p) (f(1) − f(0)), p = σ(l) = 3/4: three ones in four samples
    f = {0: 5.0, 1: -2.0}
    samples = jnp.array([[1], [1], [1], [0]])
    gradient = score_function_gradient(
        lambda params, x: Bernoulli(params["logits"]).log_prob(x),
        {"logits": jnp.log(jnp.array([3.0]))},
        samples,
        jnp.array([f[int(x)] for x in samples[:, 0]]),
    )
    np.testing.assert_allclose(gradient["logits"], [3 / 16 * (f[1] - f[0])], rtol=1e-12)


def test_values_are_held_constant():
    def gradient(values):
        x = jnp.array([0.5, 2.0])
        return score_function_gradient(lambda m, x: -0.5 * (x - m) ** 2, 1.0, x, values)

    values = jnp.array([3.0, -1.0])
    assert gradient(values) != 0
    np.testing.assert_array_equal(jax.grad(gradient)(values), 0)


def test_log_probs_are_those_of_the_actions_and_zero_where_none_was_taken(enumerated):
    policy, record, _ = enumerated
    pi = softmax(np.asarray(policy.logits))
    log_probs = np.log(pi[np.asarray(record.observations), np.asarray(record.actions)])
    expected = np.where(record.valid, log_probs, 0)
    np.testing.assert_allclose(jax.jit(log_probs_of)(policy, record), expected, rtol=1e-12)


def test_mean_trajectory_score_is_zero(enumerated):
    policy, record, probabilities = enumerated
    scores = jax.jit(trajectory_score)(policy, record).logits
    assert abs(scores).max() > 0.5
    np.testing.assert_allclose(mean(probabilities, scores), 0, atol=1e-14)


def test_trajectory_score_is_the_sum_of_its_steps(enumerated):
    policy, record, _ = enumerated
    scores = np.asarray(jax.jit(trajectory_score)(policy, record).logits)
    pi = softmax(np.asarray(policy.logits))
    expected = np.zeros_like(scores)
    states, actions = np.asarray(record.observations), np.asarray(record.actions)
    for t, n in np.argwhere(record.valid):
        s, a = states[t, n], actions[t, n]
        expected[n, s] -= pi[s]
        expected[n, s, a] += 1
    np.testing.assert_allclose(scores, expected, atol=1e-14)


@pytest.mark.parametrize("b", [np.array([3.0, -40.0]), np.array([0.0, 1.0])])
def test_baseline_times_score_is_zero_in_the_mean(enumerated, b):
    policy, record, probabilities = enumerated
    gradients = jax.jit(episode_gradients)(
        policy, record, jnp.asarray(b)[record.observations]
    ).logits
    assert abs(gradients).max() > 0.5
    np.testing.assert_allclose(mean(probabilities, gradients), 0, atol=1e-13)


def test_a_baseline_that_sees_the_action_is_not_free(enumerated):
    policy, record, probabilities = enumerated
    gradients = jax.jit(episode_gradients)(policy, record, record.actions * 1.0).logits
    assert abs(mean(probabilities, gradients)).max() > 0.1


def reward_indexed_per_episode(policy, record):
    """E4 of every column by itself, each reward with its own γ^t."""
    rewards = DISCOUNT**record.times * record.rewards

    def one(column, rewards):
        column = jax.tree.map(lambda x: x[:, None], column)
        return reward_indexed_gradient(policy, column, rewards[:, None]).logits

    return jax.jit(jax.vmap(one, in_axes=1))(record, rewards)


def test_second_form_of_a_batch_is_the_mean_over_its_episodes(enumerated):
    policy, record, _ = enumerated
    rewards = DISCOUNT**record.times * record.rewards
    batch = jax.jit(reward_indexed_gradient)(policy, record, rewards).logits
    each = reward_indexed_per_episode(policy, record)
    np.testing.assert_allclose(batch, np.mean(each, axis=0), rtol=1e-12)


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "dropped"])
def test_second_and_third_form_are_equal_path_by_path_where_the_discount_is_kept(enumerated, kept):
    policy, record, _ = enumerated
    second = reward_indexed_per_episode(policy, record)
    estimator = reward_to_go(discount=DISCOUNT, discounted_states=kept)
    psi = estimator.weights(estimator.init(jax.random.key(0), 0), record).psi
    third = jax.jit(episode_gradients)(policy, record, psi).logits
    error = abs(np.asarray(second - third)).max(axis=(1, 2))
    if kept:
        assert error.max() < 1e-13
    else:  # equal only where nothing follows the first step
        lengths = np.asarray(record.valid.sum(axis=0))
        assert error[lengths == 1].max() < 1e-13
        assert error[lengths > 1].min() > 1e-3


def test_first_form_has_the_same_mean_and_another_distribution(enumerated):
    policy, record, probabilities = enumerated
    total = jnp.broadcast_to(record.rewards.sum(axis=0), record.rewards.shape)
    first = jax.jit(episode_gradients)(policy, record, total).logits
    estimator = reward_to_go()
    psi = estimator.weights(estimator.init(jax.random.key(0), 0), record).psi
    third = jax.jit(episode_gradients)(policy, record, psi).logits
    np.testing.assert_allclose(mean(probabilities, first), mean(probabilities, third), atol=1e-13)
    assert abs(np.asarray(first - third)).max() > 0.1


def test_batch_gradient_is_the_mean_over_episodes(enumerated):
    policy, record, _ = enumerated
    weights = jax.random.normal(jax.random.key(0), record.rewards.shape)
    batch = jax.jit(policy_gradient)(policy, record, weights).logits
    each = jax.jit(episode_gradients)(policy, record, weights).logits
    np.testing.assert_allclose(batch, each.mean(axis=0), rtol=1e-12)
    alone = jax.jit(policy_gradient)(policy, one_column(record, 7), weights[:, 7:8]).logits
    np.testing.assert_allclose(each[7], alone, rtol=1e-12)


def test_segment_gradient_is_the_mean_over_valid_steps(enumerated):
    policy, record, _ = enumerated
    segments = replace(record, whole_episodes=False)
    weights = jnp.where(record.valid, 1.0, np.nan)  # what stands on other rows is never read
    per_step = jax.jit(policy_gradient)(policy, segments, weights).logits
    total = jax.jit(trajectory_score)(policy, record).logits.sum(axis=0)
    np.testing.assert_allclose(per_step, total / int(record.valid.sum()), rtol=1e-12)


@pytest.mark.parametrize("whole", [True, False], ids=["episodes", "segments"])
def test_column_moments_are_those_of_the_columns(enumerated, whole):
    policy, record, _ = enumerated
    record = replace(record, whole_episodes=whole)
    count = record.rewards.shape[1]
    assert count * record.rewards.shape[0] > 256  # so that there are several chunks
    weights = jax.random.normal(jax.random.key(0), record.rewards.shape)
    gradient, square = jax.jit(column_moments)(policy, record, weights)
    batch = policy_gradient(policy, record, weights)
    np.testing.assert_allclose(gradient.logits, batch.logits, rtol=1e-6)  # B/M in 32 bits
    each = jax.jit(episode_gradients)(policy, replace(record, whole_episodes=True), weights).logits
    scale = 1 if whole else count / int(record.valid.sum())
    expected = np.mean(np.sum((np.asarray(each) * scale) ** 2, axis=(1, 2)))
    np.testing.assert_allclose(square, expected, rtol=1e-6)


def test_columns_that_are_longer_than_a_chunk_are_taken_one_by_one(enumerated, monkeypatch):
    policy, record, _ = enumerated
    record = jax.tree.map(lambda x: x[:, :20], record)
    once = jax.jit(column_moments)(policy, record, record.rewards)
    monkeypatch.setattr(meeting, "chunk_rows", lambda *_: len(record.rewards) - 1)
    ours = jax.jit(lambda *given: column_moments(*given))(policy, record, record.rewards)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), ours, once)


def test_score_squares_do_not_depend_on_chunks(enumerated):
    policy, record, _ = enumerated
    few = jax.tree.map(lambda x: x[:, :100], record)
    assert few.rewards.size < 512 < record.rewards.size  # at once, and chunk by chunk
    ours, expected = (jax.jit(score_squares)(policy, r).logits for r in (record, few))
    assert expected.max() > 0.1
    np.testing.assert_allclose(ours[:, :100], expected, rtol=1e-12)


def test_score_products_are_those_of_every_step_with_a_vector_of_its_episode(enumerated):
    policy, record, _ = enumerated
    record = jax.tree.map(lambda x: x[:, :20], record)
    vectors = np.random.default_rng(0).normal(size=(20, *policy.logits.shape))
    found = jax.jit(score_products)(policy, record, Softmax(jnp.asarray(vectors)))
    pi, expected = softmax(np.asarray(policy.logits)), np.zeros(record.rewards.shape)
    states, actions = np.asarray(record.observations), np.asarray(record.actions)
    for t, n in np.argwhere(record.valid):
        of_state = vectors[n, states[t, n]]
        expected[t, n] = of_state[actions[t, n]] - pi[states[t, n]] @ of_state
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_jit_equals_eager(enumerated):
    policy, record, _ = enumerated
    for function in (policy_gradient, reward_indexed_gradient):
        eager = function(policy, record, record.rewards).logits
        jitted = jax.jit(function)(policy, record, record.rewards).logits
        np.testing.assert_allclose(jitted, eager, atol=1e-13)


def test_carried_leaves_get_no_gradient(enumerated):
    policy, record, _ = enumerated

    class Scaled(dict):
        def __call__(self, state):
            return Softmax(self["logits"] * self["scale"].value)(state)

    jax.tree_util.register_pytree_node(
        Scaled, lambda m: (tuple(m.values()), tuple(m)), lambda k, v: Scaled(zip(k, v, strict=True))
    )
    module = Scaled(logits=policy.logits, scale=Carried(jnp.array(1.0)))
    gradient = policy_gradient(module, record, record.rewards)
    expected = policy_gradient(policy, record, record.rewards).logits
    np.testing.assert_allclose(gradient["logits"], expected, rtol=1e-12)
    assert gradient["scale"].value is None


@pytest.mark.parametrize(
    "function",
    [
        episode_gradients,
        reward_indexed_gradient,
        score_products,
        lambda p, r, _: trajectory_score(p, r),
    ],
)
def test_segments_are_refused(function):
    segments = random_segments(steps=10)
    with pytest.raises(ValueError, match=r"needs whole episodes.*segments of 10 steps"):
        function(Softmax(jnp.zeros((2, 2))), segments, segments.rewards)


# ----- a policy with memory


class Remembering(eqx.Module):
    """Acts by the sum of what it saw in this episode, which is what `Summed` is shown."""

    weight: jax.Array

    def initial_carry(self):
        return jnp.zeros(2)

    def __call__(self, observation, carry):
        return Categorical(self.weight @ (carry + observation)), carry + observation


class Summed(eqx.Module):
    weight: jax.Array

    def __call__(self, observation):
        return Categorical(self.weight @ observation)


@pytest.mark.parametrize(
    "gradient",
    [
        policy_gradient,
        episode_gradients,
        lambda policy, record, psi: column_moments(policy, record, psi)[0],
        lambda policy, record, psi: score_squares(policy, record),
        lambda policy, record, psi: trajectory_score(policy, record),
    ],
    ids=["policy", "episodes", "columns", "squares", "trajectory"],
)
def test_memory_is_differentiated_as_if_it_were_observed(gradient):
    record = random_episodes(lengths=(3, 5, 1, 4))
    actions = np.random.default_rng(1).integers(3, size=record.rewards.shape)
    record = replace(record, actions=jnp.asarray(actions), carry=jnp.zeros((1, 4, 2)))
    weight = jnp.asarray(np.random.default_rng(2).normal(size=(3, 2)), jnp.float32)
    psi = jnp.where(record.valid, 1 + record.rewards, 0.0)
    seen = replace(record, observations=jnp.cumsum(record.observations, axis=0), carry=())
    ours = gradient(Remembering(weight), record, psi).weight
    theirs = gradient(Summed(weight), seen, psi).weight
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)

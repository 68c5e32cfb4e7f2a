"""What training samples has the moments that the laboratory computes, for the same estimator.

Two kinds of test. Every enumerated trajectory, sent through the training code in float64, gives the
moments to rounding. Sampled episodes of `as_environment` give them within intervals.

False alarms: a sampled test compares d entries of the mean and one variance with a bound of 5
standard errors, each crossed by chance with probability 6e-7 in the normal limit; with the 3 × 35
cases of the slow run (at most 700 comparisons) the chance of any is below 5e-4. Keys are fixed.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad
from policygrad import baselines, estimators, scores
from policygrad.core.trajectories import Trajectories
from policygrad.gradients.weights import Estimator
from policygrad.tabular import (
    AllAction,
    FiniteMDP,
    as_environment,
    enumerate_trajectories,
    moments,
    solve,
)
from tests.tabular.oracle import (
    every_estimator,
    is_monte_carlo,
    is_total,
    random_mdp,
    random_policy,
    random_tables,
    relative_error,
)

SIGMAS = 5
EPISODES = 20_000
HORIZON = 3


def sample_episodes(env, policy, key, episodes):
    """Whole episodes of a JAX environment, padded to its time limit."""

    def one(key):
        key, for_reset = jax.random.split(key)
        state, observation = env.reset(for_reset)

        def step(carry, time):
            key, state, observation, alive = carry
            key, for_action, for_step = jax.random.split(key, 3)
            distribution = policy(observation)
            action = distribution.sample(for_action)
            log_prob = distribution.log_prob(action)
            after, following, reward, terminated, truncated = env.step(for_step, state, action)
            reward = jnp.where(alive, reward, 0.0)
            row = observation, action, reward, alive & terminated, alive & truncated, alive
            carry = key, after, following, alive & ~terminated & ~truncated
            return carry, (*row, time, log_prob)

        carry = key, state, observation, jnp.array(True)
        return jax.lax.scan(step, carry, jnp.arange(env.time_limit))[1]

    rows = jax.jit(jax.vmap(one, out_axes=1))(jax.random.split(key, episodes))
    observations, times = rows[0], rows[6]
    return Trajectories(*rows, observations[:1], times[:1], whole_episodes=True)


def random_task(seed, features=None, states=3):
    """A random MDP that no episode starts over in."""
    made = random_mdp(seed, states=states, horizon=HORIZON)
    initial = np.append(np.ones(states - 1) / (states - 1), 0.0)
    mdp = FiniteMDP(made.transitions, made.rewards, initial, HORIZON, made.reward_variance)
    return mdp, random_policy(seed, mdp, features=features)


def gradients(policy, trajectories, estimator, state):
    """`[N, d]`, one gradient an episode."""
    weights = estimator.weights(state, trajectories).psi
    tree = scores.episode_gradients(policy, trajectories, weights)
    return np.asarray(tree.theta, np.float64).reshape(weights.shape[1], -1)


@pytest.mark.parametrize("features", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_enumerated_trajectories_through_the_training_code_give_the_moments(features):
    mdp, policy = random_task(1, features)
    b, v = random_tables(2, mdp)
    paths = enumerate_trajectories(mdp, policy)
    p = paths.probabilities
    for name, estimator in every_estimator(b, v, 0.9, 0.7):
        if isinstance(estimator, AllAction):
            continue
        with jax.enable_x64(True):
            trajectories = paths.trajectories()
            state = estimator.init(jax.random.key(0), jnp.zeros((), int))
            g = gradients(policy, trajectories, estimator, state)
        exact = moments(mdp, policy, estimator, covariance=True)
        assert relative_error(p @ g, exact.mean) <= 1e-10, name
        covariance = (p[:, None] * (g - p @ g)).T @ (g - p @ g)
        assert relative_error(covariance, exact.covariance) <= 1e-10, name


def test_unbiased_estimators_have_the_gradient_as_their_mean():
    mdp, policy = random_task(3)
    b, v = random_tables(4, mdp)
    for name, estimator in every_estimator(b, v, 0.9, 0.7):
        exact = moments(mdp, policy, estimator)
        kept = estimator.discounted_states or is_total(estimator)
        own_q = isinstance(estimator, AllAction) and estimator.critic is None
        unbiased = kept and (is_monte_carlo(estimator) or own_q)
        error = relative_error(exact.mean, exact.gradient)
        assert error <= 1e-12 if unbiased else error > 1e-4, name


def agree(gradients, exact, name=""):
    """Sample mean and sample variance within SIGMAS standard errors of the exact ones."""
    n = len(gradients)
    mean = gradients.mean(axis=0)
    spread = gradients.std(axis=0) / np.sqrt(n) + 1e-6 * np.abs(exact.mean).max()
    assert np.all(np.abs(mean - exact.mean) <= SIGMAS * spread), (name, mean, exact.mean)
    squares = exact.episodes * ((gradients - exact.mean) ** 2).sum(axis=1)
    error = squares.std() / np.sqrt(n) + 1e-6 * exact.variance
    assert abs(squares.mean() - exact.variance) <= SIGMAS * error, (name, exact.variance)


def check_sampled(seed, features, episodes, forms=None):
    mdp, policy = random_task(seed, features)
    b, v = random_tables(seed, mdp)
    env = as_environment(mdp)
    trajectories = sample_episodes(env, policy, jax.random.key(seed), episodes)
    earlier = sample_episodes(env, policy, jax.random.key(seed + 1000), 64)
    fitted = {
        "constant": baselines.constant(),
        "time_dependent": baselines.time_dependent(HORIZON),
        "linear_features": baselines.linear_features(),
        "value_network": baselines.value_network((8,)),
        "value_classifier": baselines.value_classifier((8,)),
    }
    cases = [c for c in every_estimator(b, v, 0.9, 0.7) if isinstance(c[1], Estimator)]
    cases = cases if forms is None else [c for c in cases if c[0] in forms]
    if forms is not None:
        fitted = {name: baseline for name, baseline in fitted.items() if name in forms}
    for name, baseline in fitted.items():
        cases.append((name, estimators.reward_to_go(discount=0.9, baseline=baseline)))
        cases.append((f"total {name}", estimators.total_return(discount=0.9, baseline=baseline)))
    for name in set(fitted) & {"linear_features", "value_network", "value_classifier"}:
        for form in (estimators.gae, estimators.td, estimators.n_step):
            cases.append((f"{form.__name__} {name}", form(discount=0.9, critic=fitted[name])))
    for name, estimator in cases:
        state = estimator.init(jax.random.key(0), jnp.zeros((), jnp.int32))
        returns = estimator.weights(state, earlier).returns
        state, _ = estimator.fit(state, jax.random.key(1), policy, earlier, returns)
        exact = moments(mdp, policy, estimator, state)
        agree(gradients(policy, trajectories, estimator, state), exact, name)


def test_sampled_gradients_agree_with_the_moments():
    quick = "total_return, table", "reward_indexed", "gae True"
    check_sampled(11, None, EPISODES, quick)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "features"), [(21, None), (22, 2), (23, None)])
def test_many_sampled_gradients_agree_with_the_moments(seed, features):
    check_sampled(seed, features, 400_000)


@pytest.mark.parametrize("form", ["total_return", "reward_to_go"])
@pytest.mark.parametrize("k", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_sampled_leave_one_out_batches_agree_with_the_moments(form, k):
    mdp, policy = random_task(31)
    estimator = getattr(estimators, form)(discount=0.9, baseline=baselines.leave_one_out())
    batches = 4000
    trajectories = sample_episodes(as_environment(mdp), policy, jax.random.key(3), k * batches)

    def one(batch):
        weights = estimator.weights(estimators.EstimatorState((), ()), batch).psi
        return scores.policy_gradient(policy, batch, weights).theta.reshape(-1)

    split = jax.tree.map(lambda x: x.reshape(x.shape[0], batches, k), trajectories)
    g = np.asarray(jax.jit(jax.vmap(one, in_axes=1))(split), np.float64)
    agree(g, moments(mdp, policy, estimator, episodes=k), form)


@pytest.mark.parametrize("wrong", ["variance", "mean"])
def test_a_wrong_number_would_be_noticed(wrong):
    """The quick intervals resolve 15 % of the variance, and 10 standard errors of the mean.

    The latter is coarse, as the gradient here is small beside its noise; what holds the mean
    tightly is the test of enumerated trajectories.
    """
    mdp, policy = random_task(11)
    b, v = random_tables(11, mdp)
    trajectories = sample_episodes(as_environment(mdp), policy, jax.random.key(11), EPISODES)
    estimator = dict(every_estimator(b, v, 0.9, 0.7))["reward_to_go True"]
    g = gradients(policy, trajectories, estimator, estimator.init(jax.random.key(0), 0))
    exact = moments(mdp, policy, estimator)
    agree(g, exact)
    shift = {"variance": 0.15 * exact.variance, "mean": 10 * np.sqrt(exact.variance / EPISODES)}
    for sign in (-1, 1):
        with pytest.raises(AssertionError):
            agree(g, replace(exact, **{wrong: getattr(exact, wrong) + sign * shift[wrong]}))


@pytest.mark.slow
def test_an_mdp_that_was_trained_on_is_still_solved():
    """JAX keeps the constants of a float32 program, which the laboratory must not be given."""
    mdp, policy = random_task(1)
    before = solve(mdp, policy, discount=1.0).objective
    trained = policygrad.train(
        as_environment(mdp), policy=policy, estimator=estimators.reward_to_go(), num_envs=4,
        batch_episodes=8, total_steps=24,
    )  # fmt: skip
    assert solve(mdp, policy, discount=1.0).objective == before
    assert solve(mdp, trained.policy, discount=1.0).objective != before

"""What training samples in groups has the mean that enumeration gives, for every group estimator.

Batches of two groups of two, collected as training collects them, against the sum over all
quadruples of trajectories. 10 estimators of 6 numbers each are compared with a bound of 5 standard
errors, which one of them crosses by chance with probability 3e-5. The key is fixed. ReMax is linear
in the greedy return, which depends on no other episode: there its mean is as good as every value.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad import estimators, scores
from policygrad.gradients import groups
from policygrad.gradients.groups import Groups
from policygrad.rollout.episodes import collect_episodes
from policygrad.tabular import (
    FiniteMDP,
    SoftmaxPolicy,
    as_environment,
    enumerate_trajectories,
    gallery,
    group_moments,
    moments,
    outcomes_of,
)
from policygrad.training.built_in import ESTIMATORS, GroupReturns

NAMES = [name for name, settings in ESTIMATORS.items() if settings is GroupReturns]
SIZE, GROUPS, BATCHES, SIGMAS = 2, 2, 20_000, 5


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(2)
    transitions = np.zeros((3, 2, 3))  # from the first two states to the last two
    transitions[..., 1:] = rng.dirichlet(np.ones(2), size=(3, 2))
    transitions[2] = np.eye(3)[2]
    rewards = rng.normal(size=(3, 2))
    rewards[2] = 0.0
    mdp = FiniteMDP(transitions, rewards, [0.4, 0.6, 0.0], horizon=2)
    with jax.enable_x64(True):
        return mdp, SoftmaxPolicy(jnp.asarray(rng.normal(size=(3, 2))))


def greedy_returns(mdp, policy):
    """`[2]`: from each start, the mean return of the most probable actions."""
    with jax.enable_x64(True):
        every = enumerate_trajectories(mdp, SoftmaxPolicy(1e4 * policy.theta))
    starts, p = every.states[:, 0], every.probabilities
    p, returns = np.where(p > 1e-12, p, 0), every.rewards.sum(axis=1)
    return np.array([p[starts == s] @ returns[starts == s] / p[starts == s].sum() for s in (0, 1)])


@pytest.fixture(scope="module")
def exact(task):
    """name -> E ĝ, over all quadruples of trajectories."""
    mdp, policy = task
    with jax.enable_x64(True):
        every = enumerate_trajectories(mdp, policy)
        score = np.asarray(scores.trajectory_score(policy, every.trajectories()).theta)
    score = score.reshape(len(score), -1)
    returns, lengths = every.rewards.sum(axis=1), 1.0 * every.valid.sum(axis=1)
    starts = every.states[:, 0]
    greedy = greedy_returns(*task)
    pairs = [
        np.array(list(itertools.product(np.flatnonzero(starts == s), repeat=SIZE))) for s in (0, 1)
    ]
    odds = np.asarray(mdp.edges.initial)
    pair = np.concatenate(pairs)
    p = np.concatenate([odds[s] * (every.probabilities[x] / odds[s]).prod(1) for s, x in
                        enumerate(pairs)])  # fmt: skip
    assert p.sum() == pytest.approx(1)
    found = {name: np.zeros(score.shape[1]) for name in NAMES}
    for first in range(len(pair)):  # with every second group
        which = np.stack([np.broadcast_to(pair[first], pair.shape), pair], axis=1)
        chance = p[first] * p
        for name in NAMES:
            given = Groups(returns[which], lengths[which], greedy[starts[which[..., 0]]])
            weights = groups.ESTIMATORS[name]().weights(given)
            each = np.einsum("ngk,ngkd->nd", weights, score[which]) / (GROUPS * SIZE)
            found[name] += chance @ each
    return found


@pytest.fixture(scope="module")
def sampled(task):
    """name -> mean and standard error of ĝ, over batches."""
    mdp, policy = task
    environment = as_environment(mdp)
    which = {name: estimators.in_groups(groups.ESTIMATORS[name]()) for name in NAMES}

    def gradients(key):
        record = collect_episodes(
            environment, policy, key, episodes=GROUPS * SIZE, max_steps=2, group_size=SIZE,
            with_greedy=True,
        ).trajectories  # fmt: skip
        psi = {name: e.weights(e.init(key, None), record).psi for name, e in which.items()}
        return {
            name: scores.policy_gradient(policy, record, x).theta.ravel() for name, x in psi.items()
        }

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), BATCHES)
        each = jax.tree.map(np.asarray, jax.jit(jax.vmap(gradients))(keys))
    return {k: (x.mean(axis=0), x.std(axis=0, ddof=1) / BATCHES**0.5) for k, x in each.items()}


def test_every_sampled_gradient_has_the_enumerated_mean(exact, sampled):
    for name in NAMES:
        mean, error = sampled[name]
        away = np.abs(mean - exact[name])
        assert np.all(away <= SIGMAS * error + 1e-12), (name, mean, exact[name], error)
        # zero would not pass
        assert np.linalg.norm(exact[name]) > SIGMAS * np.linalg.norm(error), name


def test_the_laboratory_has_the_enumerated_means(exact, task):
    with jax.enable_x64(True):
        outcomes = outcomes_of(*task)
    for name in NAMES:
        found = group_moments(outcomes, groups.ESTIMATORS[name](), group_size=SIZE, groups=GROUPS)
        np.testing.assert_allclose(found.mean, exact[name], atol=1e-10, err_msg=name)


def test_only_the_unbiased_are_unbiased(exact, task):
    mdp, policy = task
    with jax.enable_x64(True):
        gradient = moments(mdp, policy, estimators.total_return()).mean
    for name in ("rloo", "remax", "shrinkage"):
        np.testing.assert_allclose(exact[name], gradient, atol=1e-10)
    np.testing.assert_allclose(exact["group-mean"], gradient / 2, atol=1e-10)
    for name in ("grpo", "dapo", "reinforce++"):
        cosine = exact[name] @ gradient / np.linalg.norm(exact[name]) / np.linalg.norm(gradient)
        assert cosine < 1 - 1e-6


def test_remax_on_the_token_task_has_the_exact_mean_and_variance():
    """The greedy answer is right, so that each weight is R − 1."""
    with jax.enable_x64(True):
        task = gallery.token_task(logit=0.2)
        remax = estimators.in_groups(groups.remax())
        exact = group_moments(
            outcomes_of(task.mdp, task.policy), groups.remax(), group_size=SIZE, groups=GROUPS
        )
        environment = as_environment(task.mdp)

        def gradient(key):
            record = collect_episodes(
                environment, task.policy, key, episodes=GROUPS * SIZE, max_steps=3,
                group_size=SIZE, with_greedy=True,
            ).trajectories  # fmt: skip
            psi = remax.weights(remax.init(key, None), record).psi
            found = scores.policy_gradient(task.policy, record, psi).theta.ravel()
            return found, jnp.sum(record.greedy.rewards, axis=0)

        keys = jax.random.split(jax.random.key(1), 5000)
        found, greedy = map(np.asarray, jax.jit(jax.vmap(gradient))(keys))
    assert np.all(greedy == 1)
    error = found.std(axis=0, ddof=1) / len(found) ** 0.5
    assert np.all(np.abs(found.mean(axis=0) - exact.mean) <= SIGMAS * error + 1e-12)
    assert np.linalg.norm(exact.mean) > SIGMAS * np.linalg.norm(error)
    assert found.var(axis=0, ddof=1).sum() == pytest.approx(exact.variance, rel=0.1)

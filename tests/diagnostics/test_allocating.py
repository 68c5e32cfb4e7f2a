"""Allocating episodes to start states, against exact variances and against doing it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad import estimators, scores
from policygrad.core.errors import UserError
from policygrad.diagnostics import allocate_episodes, allocate_gradients
from policygrad.diagnostics.allocating import _variances, told_apart
from policygrad.diagnostics.streaming import weights_of
from policygrad.tabular import gallery
from tests.diagnostics.sampling import sampler
from tests.diagnostics.test_groups import SIZE, record_in_groups
from tests.toy import Softmax

P = np.array([0.5, 0.3, 0.2])
SIGMA = np.array([0.5, 1.0, 4.0])  # of each of two parameters
MEANS = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])


def drawn(rng, starts):
    return MEANS[starts] + SIGMA[starts, None] * rng.normal(size=(len(starts), 2))


def exact():
    """At random, in proportion, least."""
    own = 2 * SIGMA**2
    apart = ((MEANS - P @ MEANS) ** 2).sum(1)
    return P @ (own + apart), P @ own, (P @ np.sqrt(own)) ** 2


@pytest.mark.parametrize("size", [1, 4])
def test_the_intervals_cover_the_exact_variances(size):
    """Of 60 intervals of 95 % for each quantity, fewer than 50 cover in 1 of 1,000 suites."""
    rng, truth = np.random.default_rng(0), exact()
    covered = np.zeros(4)
    for _ in range(60):
        starts = np.repeat(rng.choice(3, size=600, p=P), size)
        found = allocate_gradients(drawn(rng, starts), starts, group_size=size)
        measured = (found.at_random, found.in_proportion, found.least, found.gain)
        covered += [
            x.covers(y) for x, y in zip(measured, (*truth, truth[0] / truth[2]), strict=True)
        ]
    assert (covered >= 50).all(), covered
    shares = P * SIGMA / (P @ SIGMA)
    assert [found.shares[s] for s in range(3)] == pytest.approx(list(shares), abs=0.05)


def test_a_batch_that_is_allocated_has_the_variance_that_was_said():
    rng, (at_random, _, least) = np.random.default_rng(1), exact()
    n = 100
    counts = np.round(n * P * SIGMA / (P @ SIGMA)).astype(int)
    allocated = [
        sum(P[s] * drawn(rng, np.full(counts[s], s)).mean(0) for s in range(3)) for _ in range(4000)
    ]
    usual = [drawn(rng, rng.choice(3, size=n, p=P)).mean(0) for _ in range(4000)]
    assert np.var(allocated, axis=0).sum() == pytest.approx(least / n, rel=0.08)
    assert np.var(usual, axis=0).sum() == pytest.approx(at_random / n, rel=0.08)


def test_rare_starts_count_as_one():
    starts = ["a"] * 20 + ["b"] * 10 + list("cdefghijk")
    labels, of = told_apart(starts, 39)
    assert labels == ["a", "b", "others"]
    assert np.bincount(of).tolist() == [20, 10, 9]
    labels, of = told_apart(starts[:33], 33)  # three that are left join the rarest
    assert (labels, np.bincount(of).tolist()) == (["a", "b"], [20, 13])


def test_the_variance_at_random_is_unbiased_in_few_groups():
    """Eight groups of eight, 2,000 times; ±4 % is three standard errors of the mean. With pairs of
    episodes that started together it would be 8 % too small."""
    rng, each = np.random.default_rng(2), []
    for _ in range(2000):
        starts = np.repeat(rng.choice(3, size=8, p=P), 8)
        rows = drawn(rng, starts) + 3 * MEANS[starts]
        each.append(_variances(rows, starts, 3, 8, 4)[1]["at random"][0])
    between = P @ (4 * (MEANS - P @ MEANS)) ** 2
    assert np.mean(each) == pytest.approx(P @ (2 * SIGMA**2) + between.sum(), rel=0.04)


def test_starts_that_cannot_be_told_apart_are_refused():
    rows = np.random.default_rng(0).normal(size=(40, 2))
    for starts in (["a"] * 40, list(range(40)), ["a"] * 39 + ["b"]):
        with pytest.raises(UserError, match="cannot be told apart"):
            allocate_gradients(rows, starts)
    halves = ["a"] * 20 + ["b"] * 20
    for size in (3, 40):
        with pytest.raises(UserError, match=f"not two or more whole groups of {size}"):
            allocate_gradients(rows, halves, group_size=size)
    with pytest.raises(UserError, match="one for each of 40 episodes, got 3"):
        allocate_gradients(rows, ["a"] * 3)


def test_episodes_that_start_in_groups_have_a_row_each():
    with jax.enable_x64(True):
        record = record_in_groups(16)
        first = np.repeat(np.arange(16) % 2, SIZE)
        observations = np.asarray(record.observations).copy()
        observations[0] = first
        record = replace(record, observations=jnp.asarray(observations))
        policy = Softmax(jnp.asarray(np.random.default_rng(1).normal(size=(3, 2))))
        estimator = estimators.total_return()
        state = estimator.init(jax.random.key(0), None)
        found = allocate_episodes(policy, estimator, state, record)
        psi = weights_of(estimator, state, record).psi
        gradients = jax.jit(scores.episode_gradients)(policy, record, psi)
    rows = np.asarray(gradients.logits).reshape(16 * SIZE, -1)
    truth = allocate_gradients(rows, first.tolist(), group_size=SIZE)
    alone = allocate_gradients(rows, first.tolist())
    assert found.episodes == 16 * SIZE
    for name in ("at_random", "in_proportion", "least", "gain"):
        assert getattr(found, name).high == pytest.approx(getattr(truth, name).high), name
    assert found.in_proportion.value == pytest.approx(alone.in_proportion.value)


@pytest.mark.slow
def test_the_episodes_of_a_policy_are_told_apart_by_their_first_observation():
    with jax.enable_x64(True):
        task = gallery.random_mdp()
        episodes = sampler(task, 200)(jax.random.key(0))
        estimator = estimators.reward_to_go()
        state = estimator.init(jax.random.key(0), 0)
        found = allocate_episodes(task.policy, estimator, state, episodes)
        psi = weights_of(estimator, state, episodes).psi
        gradients = jax.jit(scores.episode_gradients)(task.policy, episodes, psi)
        rows = np.asarray(gradients.theta).reshape(200, -1)
    first = np.asarray(episodes.observations[0])
    truth = allocate_gradients(rows, first.tolist())
    assert found.starts > 1
    assert found.least.value == pytest.approx(truth.least.value)
    assert found.gain.low == pytest.approx(truth.gain.low)
    assert list(found.shares.values()) == pytest.approx(list(truth.shares.values()))

"""A policy with memory: what it carries from step to step, and through a record."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.policies.meeting import distributions
from policygrad.rollout import open_source
from tests.worlds import Chain, DuckChain, MLPPolicy, Remembering

KEY = jax.random.key(4)
POLICY = Remembering(jnp.array([[0.3, -0.2], [-0.1, 0.4]]))
ENVS = {"host": Chain, "compiled": DuckChain()}
every_env = pytest.mark.parametrize("env", ENVS.values(), ids=ENVS)


def assert_told_by(record, policy=POLICY):
    """The record says with which probabilities its policy took its actions."""
    record = jax.tree.map(jnp.asarray, record)
    found = distributions(policy, record)
    log_probs = jax.vmap(jax.vmap(lambda d, a: d.log_prob(a)))(found, record.actions)
    valid = np.asarray(record.valid)
    np.testing.assert_allclose(
        np.asarray(log_probs)[valid], np.asarray(record.log_probs)[valid], rtol=1e-5, atol=1e-6
    )


@every_env
def test_segments_go_on_with_what_was_carried_and_forget_it_with_the_episode(env):
    collector = open_source(env, 2).segments(POLICY, KEY, 7)
    first, second = (collector.collect(POLICY, jax.random.key(i)) for i in range(2))
    np.testing.assert_array_equal(first.carry, np.zeros((1, 2, 2)))
    # rows 6 and 7 are the first two of an episode of 3
    np.testing.assert_array_equal(second.carry[0], first.observations[6])
    assert_told_by(first)
    assert_told_by(second)


@every_env
def test_whole_episodes_begin_with_an_empty_memory(env):
    collector = open_source(env, 2).episodes(POLICY, KEY, 5, 10)
    for i in range(2):
        record = collector.collect(POLICY, jax.random.key(i))
        assert record.carry.shape == (1, 5, 2)
        assert_told_by(record)


@every_env
@pytest.mark.parametrize("greedy", [True, False])
def test_episodes_are_played_with_memory(env, greedy):
    played = open_source(env, 2).play(POLICY, KEY, episodes=3, max_steps=10, greedy=greedy)
    assert played.lengths.tolist() == [3, 3, 3]


def test_memory_is_brought_back_with_the_environments():
    ours, theirs = (open_source(Chain, 2).segments(POLICY, KEY, 7) for _ in "ab")
    ours.collect(POLICY, KEY)
    assert theirs.restore(ours.snapshot()) is True
    a, b = (c.collect(POLICY, jax.random.key(9)) for c in (ours, theirs))
    jax.tree.map(np.testing.assert_array_equal, a, b)


@every_env
def test_records_of_policies_without_memory_carry_nothing(env):
    policy = MLPPolicy(2, 2)
    assert open_source(env, 2).segments(policy, KEY, 4).collect(policy, KEY).carry == ()


def test_envpool_carries_the_memory_too():
    pytest.importorskip("envpool")
    policy = Remembering(jnp.ones((2, 4)) / 4)
    source = open_source("envpool/CartPole-v1", 2, kwargs={"max_episode_steps": 5})
    collector = source.segments(policy, KEY, 16)
    for i in range(2):
        assert_told_by(collector.collect(policy, jax.random.key(i)), policy)

"""A policy with memory: what it carries from step to step, and through a record."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from policygrad.networks import Memory, network_policy

from policygrad import estimators
from policygrad.gradients.baselines import value_network
from policygrad.gradients.scores import policy_gradient
from policygrad.policies.meeting import act, begin_anew, distributions
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


# ----- an environment that truncates: Gymnasium's TimeLimit in every autoreset mode, and compiled

LIMIT, LANES, ROWS = 5, 3, 8  # segments end in the middle of episodes
MEMORY = Memory("gru", 3)
CELL = network_policy(
    jax.random.key(1), Chain().observation_space, spaces.Discrete(2), hidden=(4,), memory=MEMORY
)
CRITIC = estimators.gae(critic=value_network((4,), memory=MEMORY))


def truncating():
    return TimeLimit(Chain(2**30), LIMIT)


def vector_of(mode):
    return SyncVectorEnv([truncating] * LANES, autoreset_mode=mode)


def segments_of(env, *, count=3, rows=ROWS, compiled=False):
    """Segments that follow each other, drawn with the same keys on the host and compiled."""
    collector = open_source(env, LANES).segments(CELL, KEY, rows)
    keys = jax.random.split(KEY, count)  # compiled rollouts split off that of the actions
    records = [collector.collect(CELL, k if compiled else jax.random.split(k)[0]) for k in keys]
    return jax.tree.map(jnp.asarray, records)


@jax.jit
def gradient_of(policy, state, record):
    """The gradient that GAE with a remembering critic gives, and the critic's next state."""
    psi = CRITIC.weights(state, record).psi
    return policy_gradient(policy, record, psi), state._replace(
        critic=CRITIC.critic.advance(state.critic, record)
    )


def gradients_of(records):
    state = CRITIC.for_lanes(CRITIC.init(KEY, np.zeros(2, np.float32)), LANES)
    found = []
    for record in records:
        gradient, state = gradient_of(CELL, state, record)
        found.append(gradient)
    return found, state.critic.carry


def after(record):
    """The carry after the last row, one step after another."""
    carry = jax.tree.map(lambda x: x[0], record.carry)
    keys = jax.random.split(KEY, LANES)
    for t in range(len(record.rewards)):
        carry = begin_anew(CELL, carry, record.times[t] == 0)
        *_, carry = jax.jit(act)(CELL, carry, keys, record.observations[t])
    return carry


@pytest.fixture(scope="module")
def compiled_segments():
    return segments_of(DuckChain(LIMIT, terminates=False), compiled=True)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["SAME_STEP", "DISABLED", "made by the library"])
def test_host_and_compiled_rollouts_give_the_same_carries_and_gradients(mode, compiled_segments):
    env = vector_of(AutoresetMode[mode]) if mode.isupper() else truncating
    ours = segments_of(env)
    assert all(record.truncated.any() and not record.terminated.any() for record in ours)
    for a, b in zip(ours, compiled_segments, strict=True):
        for name in ("carry", "times", "actions", "rewards", "observations", "log_probs"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    (found, carry), (expected, other) = gradients_of(ours), gradients_of(compiled_segments)
    jax.tree.map(np.testing.assert_array_equal, (found, carry), (expected, other))
    assert all(np.any(np.asarray(g.network.cell.weight_hh)) for g in found)


def test_a_segment_begins_with_the_carry_after_the_one_before(compiled_segments):
    for records in (segments_of(truncating), compiled_segments):
        for one, following in pairwise(records):
            assert np.ptp(np.asarray(following.carry)) > 0.01
            np.testing.assert_allclose(following.carry[0], after(one), rtol=1e-5, atol=1e-6)


class Pushed(Chain):
    """`Chain` that goes right whatever the action is."""

    def step(self, action):
        return super().step(1)


def test_rows_on_which_an_environment_resets_leave_no_trace_in_memory_or_gradient():
    """Under NEXT_STEP there are rows between the episodes that are no transitions."""
    episodes, more = 2, 3

    def segments(mode, row_of_reset):
        env = SyncVectorEnv([lambda: TimeLimit(Pushed(2**30), LIMIT)] * LANES, autoreset_mode=mode)
        found = segments_of(env, count=2, rows=episodes * (LIMIT + row_of_reset) + more)
        return [replace(r, actions=jnp.ones_like(r.actions)) for r in found]

    with_rows, plain = segments(AutoresetMode.NEXT_STEP, 1), segments(AutoresetMode.DISABLED, 0)
    assert int(with_rows[0].valid.sum()) == int(plain[0].valid.sum()) == plain[0].valid.size
    (a, _), (b, _) = (gradients_of(records[:1]) for records in (with_rows, plain))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), a, b)
    np.testing.assert_array_equal(with_rows[1].carry, plain[1].carry)
    assert np.any(np.asarray(plain[1].carry))
    a, b = (
        distributions(CELL, record).logits[np.asarray(record.valid)].reshape(-1, LANES, 2)
        for record in (with_rows[1], plain[1])
    )
    np.testing.assert_allclose(a, b[: len(a)], rtol=1e-5, atol=1e-6)

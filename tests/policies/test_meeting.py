"""A policy with memory and one without, met in the same way by all that reads a record."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from policygrad.core.trajectories import Trajectories
from policygrad.maths.distributions import Categorical
from policygrad.policies import meeting

T, B = 7, 3


class Counting(eqx.Module):
    """Sums what it sees since the episode began, and acts by the sum."""

    weight: jax.Array

    def initial_carry(self):
        return jnp.zeros(2)

    def __call__(self, observation, carry):
        carry = carry + observation
        return Categorical(self.weight @ carry), carry


class Forgetful(eqx.Module):
    weight: jax.Array

    def __call__(self, observation):
        return Categorical(self.weight @ observation)


def record(carry=()):
    """Of small whole numbers, whose sums are exact in whatever order they are taken."""
    rng = np.random.default_rng(0)
    times = np.array([[0, 3, 1], [1, 4, 2], [2, 0, 3], [3, 1, 0], [0, 2, 1], [1, 3, 2], [2, 4, 3]])
    zeros = np.zeros((T, B), np.float32)
    flags = zeros.astype(bool)
    return Trajectories(
        rng.integers(-4, 5, (T, B, 2)).astype(np.float32), zeros.astype(np.int32), zeros, flags,
        flags, ~flags, times.astype(np.int32), zeros, np.zeros((1, B, 2), np.float32),
        np.zeros((1, B), np.int32), carry,
    )  # fmt: skip


def test_distributions_without_memory_are_those_of_each_observation():
    policy = Forgetful(jnp.arange(6.0).reshape(3, 2))
    seen = record()
    found = meeting.distributions(policy, seen)
    np.testing.assert_array_equal(found.logits, seen.observations @ policy.weight.T)
    assert meeting.initial_carry(policy, B) == ()


def test_memory_begins_anew_with_every_episode_and_goes_on_from_what_was_recorded():
    policy = Counting(jnp.arange(6.0).reshape(3, 2))
    start = np.arange(6, dtype=np.float32).reshape(1, B, 2)
    seen = record(start)
    sums, total = np.zeros((T, B, 2), np.float32), start[0].copy()
    for t in range(T):
        total[seen.times[t] == 0] = 0
        total = total + seen.observations[t]
        sums[t] = total
    found = meeting.distributions(policy, seen)
    np.testing.assert_array_equal(found.logits, sums @ policy.weight.T)


def test_acting_step_by_step_is_what_the_record_reads_back():
    policy = Counting(jnp.arange(6.0).reshape(3, 2) / 3)
    seen = record(np.zeros((1, B, 2), np.float32))
    carry = meeting.initial_carry(policy, B)
    for t in range(T):
        carry = meeting.begin_anew(policy, carry, jnp.asarray(seen.times[t] == 0))
        keys = jax.random.split(jax.random.key(t), B)
        actions, log_probs, carry = meeting.act(policy, carry, keys, seen.observations[t])
        read = jax.tree.map(lambda x, t=t: x[t], meeting.distributions(policy, seen))
        again = jax.vmap(lambda p, a: p.log_prob(a))(read, actions)
        np.testing.assert_allclose(log_probs, again, rtol=1e-5)

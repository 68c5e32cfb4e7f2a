"""Networks with memory: unrolled over a lane, step by step, and as a policy."""

from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from policygrad.networks import Memory, RecurrentPolicy, network_policy

from policygrad.algorithms.policy_change import fisher_product, mean_kl
from policygrad.core.modules import combine, split
from policygrad.gradients.scores import episode_gradients, policy_gradient
from policygrad.policies import meeting
from tests.records import trajectories

KEY = jax.random.key(0)
BOX, TWO = spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.Discrete(2)
kinds = pytest.mark.parametrize("kind", ["gru", "lstm"])


def policy_of(kind, key=KEY, **more):
    """A policy whose outputs differ clearly from observation to observation."""
    policy = network_policy(key, BOX, TWO, hidden=(4,), memory=Memory(kind, 3), **more)
    return eqx.tree_at(lambda p: p.network.head.weights[0], policy, replace_fn=lambda w: 100 * w)


def record_of(policy, *, whole_episodes=False, steps=7, lanes=3):
    """A record of which every lane begins in the middle of an episode, with a carry."""
    rng = np.random.default_rng(0)
    flags = rng.random((2, steps, lanes)) < (0 if whole_episodes else 0.2)
    valid = np.ones((steps, lanes), bool)
    record = trajectories(rng, *flags, valid, whole_episodes=whole_episodes)
    start, times = meeting.initial_carry(policy, lanes), np.array(record.times)
    if not whole_episodes:  # the first rows go on from the middle of an episode
        times += np.where(np.cumsum(times == 0, axis=0) == 1, 5, 0)
        start = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), start)
    return replace(
        record,
        times=jnp.asarray(times),
        actions=jnp.asarray(rng.integers(2, size=(steps, lanes)), jnp.int32),
        carry=jax.tree.map(lambda x: x[None], start),
    )


def step_by_step(policy, record):
    """The distributions, one call of the policy after another."""
    steps, lanes = record.rewards.shape
    rows = []
    for b in range(lanes):
        carry = jax.tree.map(lambda x, b=b: x[0, b], record.carry)
        found = []
        for t in range(steps):
            if record.times[t, b] == 0:
                carry = policy.initial_carry()
            distribution, carry = policy(record.observations[t, b], carry)
            found.append(distribution)
        rows.append(jax.tree.map(lambda *x: jnp.stack(x), *found))
    return jax.tree.map(lambda *x: jnp.stack(x, axis=1), *rows)


@kinds
def test_a_lane_unrolled_is_one_call_after_another(kind):
    policy = policy_of(kind)
    record = record_of(policy)
    assert {0, 5, 6} <= set(np.unique(record.times).tolist())
    found, naive = meeting.distributions(policy, record), step_by_step(policy, record)
    np.testing.assert_allclose(found.logits, naive.logits, rtol=1e-5, atol=1e-6)
    assert np.ptp(np.asarray(found.logits)) > 0.1


@kinds
def test_the_gradient_goes_through_time(kind):
    policy = policy_of(kind)
    record = record_of(policy)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=record.rewards.shape), jnp.float32)
    differentiated, rest = split(policy)

    def surrogate(differentiated):
        found = step_by_step(combine(differentiated, rest), record)
        log_probs = jax.vmap(jax.vmap(lambda d, a: d.log_prob(a)))(found, record.actions)
        return jnp.sum(weights * log_probs) / record.rewards.size

    naive, found = jax.grad(surrogate)(differentiated), policy_gradient(policy, record, weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, naive)
    assert np.any(np.asarray(found.network.cell.weight_hh))


def surrogate_of_segments(policy, record, weights, steps):
    """Σ Ψ log π, one call after another; the carry counts as a constant every so many steps."""
    carry, total, carries = jax.tree.map(lambda x: x[0], record.carry), 0.0, []
    for t in range(len(record.rewards)):
        if t % steps == 0:
            carry = jax.lax.stop_gradient(carry)
            carries.append(carry)
        carry = meeting.begin_anew(policy, carry, record.times[t] == 0)
        found, carry = jax.vmap(partial(meeting.step, policy))(carry, record.observations[t])
        log_probs = jax.vmap(lambda p, a: p.log_prob(a))(found, record.actions[t])
        total += jnp.sum(weights[t] * log_probs)
    return total, carries


@pytest.mark.slow
@kinds
def test_a_segment_has_the_gradient_in_which_its_first_carry_is_a_constant(kind):
    """Truncated backpropagation: the sum over segments is not the gradient of the whole record."""
    policy, steps = policy_of(kind), 2
    record = jax.tree.map(lambda x: x[:6], record_of(policy))
    weights = jnp.asarray(np.random.default_rng(1).normal(size=record.rewards.shape), jnp.float32)
    differentiated, rest = split(policy)

    @partial(jax.jit, static_argnums=0)
    def one_after_another(steps):
        return jax.grad(
            lambda p: surrogate_of_segments(combine(p, rest), record, weights, steps), has_aux=True
        )(differentiated)

    (cut, carries), (whole, _) = one_after_another(steps), one_after_another(len(weights))
    found = jax.tree.map(jnp.zeros_like, whole)
    for i, carry in enumerate(carries):
        rows = slice(i * steps, (i + 1) * steps)
        segment = jax.tree.map(lambda x, r=rows: x[r], replace(record, carry=()))
        segment = replace(segment, carry=jax.tree.map(lambda x: x[None], carry))
        mean = jax.jit(policy_gradient)(policy, segment, weights[rows])
        found = jax.tree.map(lambda a, b, n=weights[rows].size: a + n * b, found, mean)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, cut)
    # what reads the memory loses nothing, and what fills it does
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found.network.head,
        whole.network.head,
    )  # fmt: skip
    lost = np.asarray(found.network.cell.weight_hh - whole.network.cell.weight_hh)
    assert np.linalg.norm(lost) > 3e-4


def test_episodes_have_gradients_of_their_own():
    policy = policy_of("gru")
    record = record_of(policy, whole_episodes=True)
    weights = jnp.ones_like(record.rewards)
    each = episode_gradients(policy, record, weights)
    whole = policy_gradient(policy, record, weights)
    jax.tree.map(lambda e, w: np.testing.assert_allclose(e.mean(axis=0), w, atol=1e-4), each, whole)


@kinds
def test_the_fisher_information_is_the_curvature_of_the_kl(kind):
    policy = policy_of(kind)
    record = record_of(policy)
    differentiated, rest = split(policy)
    keys = iter(jax.random.split(jax.random.key(3), 40))
    v = jax.tree.map(lambda x: jax.random.normal(next(keys), x.shape), differentiated)

    def kl(size):
        moved = jax.tree.map(lambda x, d: x + size * d, differentiated, v)
        return float(mean_kl(policy, combine(moved, rest), record))

    product = fisher_product(policy, v, record)
    curved = sum(float(jnp.vdot(a, b)) for a, b in zip(
        jax.tree.leaves(v), jax.tree.leaves(product), strict=True))  # fmt: skip
    size = 3e-3 / np.sqrt(curved)
    assert (kl(size) + kl(-size)) / size**2 == pytest.approx(curved, rel=0.05)


@kinds
def test_a_record_cut_in_the_middle_and_continued_is_the_record(kind):
    policy = policy_of(kind)
    record = record_of(policy)
    whole = meeting.distributions(policy, record)
    carry = jax.tree.map(lambda x: x[0], record.carry)
    for t in range(4):
        carry = meeting.begin_anew(policy, carry, record.times[t] == 0)
        _, _, carry = meeting.act(policy, carry, jax.random.split(KEY, 3), record.observations[t])
    later = jax.tree.map(lambda x: x[4:], replace(record, carry=()))
    rest = replace(later, carry=jax.tree.map(lambda x: x[None], carry))
    found = meeting.distributions(policy, rest)
    np.testing.assert_allclose(found.logits, whole.logits[4:], rtol=1e-5, atol=1e-6)


def test_a_policy_without_a_fast_way_is_read_step_by_step():
    fast = policy_of("gru")

    class Slow(eqx.Module):
        inner: RecurrentPolicy

        def initial_carry(self):
            return self.inner.initial_carry()

        def __call__(self, observation, carry):
            return self.inner(observation, carry)

    record = record_of(fast)
    ours, theirs = (meeting.distributions(p, record) for p in (Slow(fast), fast))
    np.testing.assert_allclose(ours.logits, theirs.logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("given", [{"kind": "rnn"}, {"size": 0}, {"size": 2.5}], ids=str)
def test_what_is_no_memory_is_refused(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        Memory(**given)


@kinds
def test_a_cell_has_32_bits_with_x64_too(kind):
    """As the carry has, which is scanned over: one of 64 bits would not be taken."""
    with jax.enable_x64(True):
        policy = policy_of(kind)
        record = record_of(policy)
        policy_gradient(policy, record, jnp.ones_like(record.rewards))
        found, carry = policy(np.zeros(2, np.float32), policy.initial_carry())
        arrays = jax.tree.leaves((split(policy)[0], found, carry))
        assert {str(x.dtype) for x in arrays} == {"float32"}

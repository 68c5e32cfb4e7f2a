"""The value network with memory, against one call after another."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from policygrad.networks import Memory, network_policy

from policygrad.core.trajectories import cut_mask, cut_rows
from policygrad.gradients import baselines, estimators
from policygrad.gradients.baselines.base import FitBatch
from policygrad.gradients.baselines.shared import SharedValue
from policygrad.tabular import gallery, moments
from tests.records import trajectories

KEY = jax.random.key(0)
STEPS, LANES = 9, 4


def record_of(seed=0, *, whole_episodes=False):
    rng = np.random.default_rng(seed)
    flags = rng.random((2, STEPS, LANES)) < 0.25
    if whole_episodes:
        flags[:] = False
        flags[0, -1] = True
    valid = np.ones((STEPS, LANES), bool)
    return jax.tree.map(
        jnp.asarray, trajectories(rng, *flags, valid, whole_episodes=whole_episodes)
    )


def critic_of(kind="gru", **more):
    return baselines.value_network((4,), memory=Memory(kind, 3), **more)


def state_of(critic):
    state = critic.for_lanes(critic.init(KEY, np.zeros(2, np.float32)), LANES)
    rng = np.random.default_rng(5)
    return state._replace(
        carry=jax.tree.map(
            lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), state.carry
        )
    )


def one_after_another(state, record):
    """Values and successors, and the carry at the end, one call of the network after another."""
    values, successors = np.zeros((2, STEPS, LANES))
    cuts, ends = np.asarray(cut_mask(record)), []
    for b in range(LANES):
        carry, used = jax.tree.map(lambda x, b=b: x[b], state.carry), 0
        for t in range(STEPS):
            if record.times[t, b] == 0:
                carry = state.network.initial_carry()
            output, carry = state.network(state.normaliser(record.observations[t, b]), carry)
            values[t, b] = output[0]
            if cuts[t, b]:
                seen = state.normaliser(record.cut_observations[used, b])
                successors[t, b], used = state.network(seen, carry)[0][0], used + 1
        ends.append(carry)
    successors = np.where(cuts, successors, np.concatenate([values[1:], values[-1:]]))
    return values, successors, jax.tree.map(lambda *x: jnp.stack(x), *ends)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_values_are_those_of_one_call_after_another(kind):
    critic, record = critic_of(kind), record_of()
    state = state_of(critic)
    values, successors, carry = one_after_another(state, record)
    found = critic.values_and_successors(state, record)
    np.testing.assert_allclose(found[0], values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], successors, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(critic.predict(state, record, record.rewards), values, atol=1e-5)
    after = critic.advance(state, record).carry
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after, carry)


def test_every_cut_knows_its_row():
    record = record_of()
    cuts, rows = np.asarray(cut_mask(record)), np.asarray(cut_rows(record))
    for b in range(LANES):
        of_lane = np.flatnonzero(cuts[:, b])
        np.testing.assert_array_equal(rows[: len(of_lane), b], of_lane)
        assert np.all(rows[len(of_lane) :, b] == STEPS - 1)


def test_successors_may_be_padded_to_more_rows_than_there_are_steps():
    record = record_of()
    more = 2 * STEPS - len(record.cut_times)
    padded = replace(
        record,
        **{
            name: jnp.concatenate([x, jnp.repeat(x[-1:], more, axis=0)])
            for name in ("cut_observations", "cut_times")
            for x in [getattr(record, name)]
        },
    )
    critic = critic_of()
    state = state_of(critic)
    assert cut_rows(padded).shape == (2 * STEPS, LANES)
    jax.tree.map(
        np.testing.assert_array_equal,
        critic.values_and_successors(state, padded),
        critic.values_and_successors(state, record),
    )


def test_episodes_begin_with_an_empty_memory_whatever_was_carried():
    critic, record = critic_of(), record_of(whole_episodes=True)
    state = state_of(critic)
    fresh = critic.for_lanes(state, LANES)
    a, b = (critic.predict(s, record, record.rewards) for s in (state, fresh))
    np.testing.assert_array_equal(a, b)
    jax.tree.map(np.testing.assert_array_equal, critic.advance(state, record), state)


def test_a_fit_learns_what_only_a_memory_can_tell():
    """The target is the first observation of the episode."""
    record = record_of(whole_episodes=True)
    targets = jnp.broadcast_to(record.observations[:1, :, 0], record.rewards.shape)
    steps = jnp.ones_like(targets)
    batch = FitBatch(None, record, targets, steps, steps)
    critic = critic_of(epochs=300, minibatches=2, step_size=1e-2)
    fitted = jax.jit(critic.fit)(state_of(critic), KEY, batch)
    error = critic.predict(fitted, record, targets) - targets
    assert float(jnp.mean(error**2)) < 0.05 * float(jnp.var(targets))


@pytest.mark.parametrize("whole_episodes", [False, True])
def test_rows_that_are_no_steps_may_hold_nan(whole_episodes):
    """The padding behind episodes, and rows on which environments reset themselves."""
    rng, critic = np.random.default_rng(1), critic_of(epochs=2, minibatches=2)
    valid, ended = np.ones((STEPS, LANES), bool), np.zeros((STEPS, LANES), bool)
    if whole_episodes:
        last = np.arange(2, 2 + LANES)
        valid[:] = np.arange(STEPS)[:, None] <= last
        ended[last, np.arange(LANES)] = True
    else:
        ended[3], valid[4] = True, False
    flags = ended, np.zeros_like(ended), valid
    record = trajectories(rng, *flags, whole_episodes=whole_episodes)
    nan = jnp.where(valid, 0.0, jnp.nan)
    other = replace(record, observations=record.observations + nan[..., None])
    state, weights = state_of(critic), jnp.asarray(valid, jnp.float32)

    @jax.jit
    def fit(record, returns):
        ones = jnp.ones_like(weights)
        return critic.fit(state, KEY, FitBatch(None, record, returns, weights, ones))

    clean, dirty = fit(record, record.rewards), fit(other, record.rewards + nan)
    jax.tree.map(np.testing.assert_array_equal, dirty, clean)


def test_the_estimator_moves_the_memory_on_after_the_fit():
    critic, record = critic_of(), record_of()
    estimator = estimators.gae(critic=critic)
    state = estimator.for_lanes(estimator.init(KEY, np.zeros(2, np.float32)), LANES)
    weights = estimator.weights(state, record)
    after, explained = estimator.fit(state, KEY, None, record, weights.returns)
    *_, carry = one_after_another(after.critic._replace(carry=state.critic.carry), record)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after.critic.carry, carry
    )
    assert np.isfinite(explained)


def test_a_critic_with_memory_has_no_exact_form():
    mdp, policy = gallery.chain()
    with pytest.raises(ValueError, match="RecurrentValueNetwork has no exact form"):
        moments(mdp, policy, estimators.gae(critic=critic_of()))


def test_a_shared_critic_reads_the_policy_that_acted():
    box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    policy = network_policy(KEY, box, spaces.Discrete(2), valued=True)
    record = record_of()
    estimator = estimators.gae(critic=SharedValue())
    with pytest.raises(ValueError, match="without a policy"):
        estimator.weights(estimator.init(KEY, None), record)
    bound = estimator.reading(policy)
    weights = bound.weights(bound.init(KEY, None), record)
    values = jax.vmap(jax.vmap(lambda x: policy(x).value))(record.observations)
    np.testing.assert_allclose(weights.baseline, values, rtol=1e-5, atol=1e-7)
    found = policy(record.observations[0, 0])
    assert found.mode() == found.actions.mode()

"""Batches of whole episodes with room: what is learned from them, and what is compiled."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad
from policygrad import estimators
from policygrad.algorithms import PPO, TRPO, Natural, Vanilla, learner
from policygrad.core.errors import UserError
from policygrad.core.modules import split
from policygrad.devices.order import step_order
from policygrad.diagnostics.monitor import gradient_moments
from policygrad.gradients import baselines
from policygrad.gradients.minibatches import minibatches
from policygrad.gradients.scores import log_probs_of
from policygrad.rollout.heights import ROOM, longest, of_shape, with_room
from policygrad.training.own_values import check_record
from policygrad.training.tally import EpisodeTally
from tests.algorithms.test_vanilla import KEY, policy_of
from tests.records import random_episodes
from tests.worlds import TINY, Chain

LENGTHS = (300, 1, 40, 120, 7)
CRITIC = baselines.value_network((8,), epochs=2, minibatches=1)
LEAVE_ONE_OUT = estimators.reward_to_go(baseline=baselines.leave_one_out())


def episodes_of(policy, lengths=LENGTHS):
    """A record of a policy whose padding is not zero in any array."""
    record = random_episodes(lengths=lengths)
    log_probs = jnp.where(record.valid, log_probs_of(policy, record), -200.0)
    return jax.tree.map(
        lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x,
        replace(record, log_probs=log_probs),
    )


def updated(algorithm, estimator, record, policy):
    ours = learner(algorithm, estimator)
    state = ours.init(KEY, policy, record.observations[0, 0], record.valid.shape[1])
    return jax.jit(ours.update)(state, record, KEY)


@pytest.mark.parametrize(
    ("algorithm", "estimator"),
    [
        (Vanilla(entropy_coefficient=0.01), LEAVE_ONE_OUT),
        (Natural(), estimators.gae(critic=CRITIC)),
        (Natural(fisher_share=0.5), estimators.total_return(baseline=baselines.constant())),
        (TRPO(), estimators.reward_to_go(baseline=baselines.linear_features())),
        (PPO(epochs=2, minibatches=1), estimators.gae(critic=CRITIC)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_an_update_does_not_depend_on_the_room_of_its_record(algorithm, estimator):
    policy = policy_of()
    record = episodes_of(policy)
    expected = updated(algorithm, estimator, record, policy)
    found = updated(algorithm, estimator, with_room(record, 700, 9), policy)
    for ours, theirs in zip(
        jax.tree.leaves((found[0].policy, found[0].estimator, found[1:])),
        jax.tree.leaves((expected[0].policy, expected[0].estimator, expected[1:])),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("rows", [100, 700])  # columns side by side, and one after the other
def test_the_noise_of_a_gradient_does_not_depend_on_the_room(rows):
    policy = policy_of()
    record = episodes_of(policy, [min(n, rows) for n in LENGTHS])
    psi = np.random.default_rng(0).normal(size=record.valid.shape).astype(np.float32)
    last = jax.tree.map(jnp.ones_like, split(policy)[0])
    moments = jax.jit(gradient_moments)
    roomy = with_room(record, rows, 9)
    wide = np.zeros(roomy.valid.shape, np.float32)
    wide[: len(psi), : psi.shape[1]] = psi
    expected, found = moments(policy, record, psi, last), moments(policy, roomy, wide, last)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_empty_columns_are_no_episodes():
    record = random_episodes(lengths=LENGTHS)
    tally = EpisodeTally.init(9)
    found = tally.update(with_room(record, 400, 9))
    assert int(found.episodes) == len(LENGTHS)
    np.testing.assert_array_equal(found.recent_lengths[: len(LENGTHS)], LENGTHS)
    assert not np.any(found.recent_lengths[len(LENGTHS) :])


def test_the_order_of_steps_is_episode_after_episode():
    record = with_room(random_episodes(lengths=(2, 3, 1)), 5, 4)
    order = step_order(record)
    assert int(order.count) == 6
    np.testing.assert_array_equal(order.at(jnp.arange(6)), [0, 4, 1, 5, 9, 2])  # row 4t + column
    assert step_order(random_episodes()) is None


def test_minibatches_pass_over_every_step_once_an_epoch():
    record = with_room(random_episodes(lengths=(5, 7)), 40, 2)
    order, valid = step_order(record), np.ravel(record.valid)
    found = minibatches(KEY, valid.size, 3, 4, 256, order)
    rows = []
    for which in found.which:
        _, some = found.take(which, ())
        assert int(some.count) == 3
        rows.append(some.at(jnp.arange(3)))
    rows = np.asarray(rows).reshape(3, 12)
    for epoch in rows:
        assert sorted(epoch) == list(np.flatnonzero(valid))
    assert not np.array_equal(rows[0], rows[1])
    few = minibatches(KEY, valid.size, 1, 20, 256, order)  # more minibatches than steps
    counts = [int(few.take(which, ())[1].count) for which in few.which]
    assert counts == [1] * 12 + [0] * 8


def test_room_is_bounded():
    record = random_episodes(lengths=(18, 3))
    assert with_room(record, 500, 2).valid.shape == (500, 2)
    assert with_room(record, 10, 2).valid.shape == (20, 2)  # a collector that does not know it
    step = sum(x[0, 0].size for x in jax.tree.leaves(replace(
        record, cut_observations=None, cut_times=None
    )))  # fmt: skip
    rows = with_room(record, 10**7, 2).valid.shape[0]
    assert rows <= ROOM / (2 * step) < 2 * rows
    large = replace(record, observations=np.zeros((18, 2, ROOM // 64), np.uint8))
    shape = with_room(large, 10**7, 64).valid.shape
    assert shape == (32, 2)


def test_no_step_is_lost_where_a_record_is_cut_or_padded():
    record = random_episodes(lengths=(3, 18, 7))
    padded = of_shape(record, 32, 4)
    assert padded.valid.shape == (32, 4)
    assert longest(padded) == longest(record) == 18
    back = of_shape(of_shape(record, 32), 18)
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(record), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("gap", [0, 2])
def test_an_episode_with_a_gap_is_refused(gap):
    """Steps are counted from each column's first row."""
    record = random_episodes(lengths=(3, 5))
    check_record(record, 2, whole_episodes=True)
    with pytest.raises(UserError, match="an episode with a gap"):
        broken = replace(record, valid=record.valid.at[gap, 1].set(False))
        check_record(broken, 2, whole_episodes=True)


class Growing(Chain):
    """Episodes of 1 to 200 steps, longer from episode to episode."""

    begun = 0

    def reset(self, **kwargs):
        found = super().reset(**kwargs)
        Growing.begun += 1
        self.length = 1 + Growing.begun % 200
        return found


WHOLE = TINY | {
    "batch_steps": None, "batch_episodes": 8, "total_steps": 3000, "max_episode_steps": 200,
}  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {"estimator": "reward-to-go", "baseline": "leave-one-out", "critic_epochs": None},
        {"algorithm": "natural", "estimator": "gae"},
    ],
    ids=["leave-one-out", "critic"],
)
def test_an_update_compiles_once_whatever_lengths_come(settings):
    """Step and refit are compiled once each, and nothing at all after the second update."""
    compiled, newest = [], []
    Growing.begun = 0

    def listen(event, seconds, **named):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(named.get("fun_name", ""))

    def after_update(row):
        newest.append(len(compiled))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        policygrad.train(Growing, on_update=after_update, **(WHOLE | settings))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(newest) > 5
    assert compiled.count("jit(step)") == compiled.count("jit(refit)") == 1
    assert newest[1] == newest[-1], compiled[newest[1] :]

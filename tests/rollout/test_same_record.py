"""One environment, written for Gymnasium and for gymnax: both rollouts tell the same story."""

from dataclasses import fields
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from policygrad import estimators
from policygrad.core.trajectories import cut_mask
from policygrad.environments.catalogue import make
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.vectorise import vectorise
from policygrad.gradients.baselines import value_network
from policygrad.gradients.scores import policy_gradient
from policygrad.policies.space_policy import network_policy
from policygrad.rollout import episodes as episodes_
from policygrad.rollout import host, segments
from policygrad.rollout.actor import Actor
from policygrad.rollout.heights import padded_length, trim
from policygrad.rollout.play import run_episodes
from policygrad.training.tally import EpisodeTally
from tests.slow import params
from tests.worlds import Chain, DuckChain, GymnaxChain, StockGymnaxChain

KEY = jax.random.key(7)
FUNCTIONAL = {"gymnax": GymnaxChain, "gymnax's limit": StockGymnaxChain, "duck-typed": DuckChain}
WORLDS = {"terminates": {"length": 3}, "truncates": {"length": 5, "terminates": False}}
every_world = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
some_forms_and_worlds = pytest.mark.parametrize(
    ("functional", "world"),
    params(
        {f"{w}-{f}": (FUNCTIONAL[f], WORLDS[w]) for w in WORLDS for f in FUNCTIONAL},
        {"truncates-gymnax", "terminates-gymnax's limit", "truncates-duck-typed"},
    ),
)
B, T, N = 4, 17, 6


def chain_policy():
    space = Chain().observation_space
    return network_policy(jax.random.key(1), space, spaces.Discrete(2), hidden=(8,))


POLICY = chain_policy()


def host_lanes(world, num_envs):
    return GymnasiumLanes(vectorise(partial(Chain, **world), num_envs))


def segments_on_host(world, count):
    lanes = host_lanes(world, B)
    lanes.start(0)
    actor = Actor(POLICY, B)
    # both rollouts take the actions' key from the batch's key; there is no other chance here
    keys = [jax.random.split(jax.random.fold_in(KEY, i))[0] for i in range(count)]
    records = [host.collect_segment(lanes, actor.sampler(POLICY, k), T) for k in keys]
    return jax.tree.map(jnp.asarray, records)


def segments_compiled(environment, count):
    lanes = segments.start_lanes(environment, POLICY, KEY, B)
    collect = jax.jit(partial(segments.collect_segment, environment, steps=T))
    records = []
    for i in range(count):
        lanes, record = collect(POLICY, lanes, jax.random.fold_in(KEY, i))
        records.append(record)
    return records


def episodes_on_host(world):
    act_key = jax.random.split(KEY, 3)[1]
    record, unfinished = host.collect_episodes(
        host_lanes(world, N), Actor(POLICY, N).sampler(POLICY, act_key), 0, episodes=N,
        max_steps=100,
    )  # fmt: skip
    assert not unfinished.any()
    return record


def episodes_compiled(environment):
    batch = jax.jit(partial(episodes_.collect_episodes, environment, episodes=N, max_steps=100))(
        POLICY, KEY
    )
    assert not batch.unfinished.any()
    return trim(batch.trajectories)


def assert_same(ours, theirs):
    """Bitwise, in every row that is a transition and every successor that is used."""
    valid = np.asarray(ours.valid)
    np.testing.assert_array_equal(valid, theirs.valid)
    static = "whole_episodes", "group_size", "mostly_padding"
    for name in static:
        assert getattr(ours, name) == getattr(theirs, name)
    apart = (*static, "valid", "cut_observations", "cut_times", "carry")
    for field in fields(ours):
        if field.name in apart:
            continue
        if getattr(ours, field.name) is None:
            assert getattr(theirs, field.name) is None
            continue
        a, b = (np.asarray(getattr(r, field.name)) for r in (ours, theirs))
        assert a.dtype == b.dtype, field.name
        np.testing.assert_array_equal(a[valid], b[valid], err_msg=field.name)
    cuts = np.asarray(cut_mask(ours)).sum(axis=0)
    np.testing.assert_array_equal(cuts, np.asarray(cut_mask(theirs)).sum(axis=0))
    for lane, count in enumerate(cuts):
        for name in ("cut_observations", "cut_times"):
            a, b = (np.asarray(getattr(r, name))[:count, lane] for r in (ours, theirs))
            assert len(a) == count, name
            np.testing.assert_array_equal(a, b, err_msg=name)


def assert_same_gradient(ours, theirs, estimator):
    state = estimator.init(KEY, Chain().observation_space.sample())

    @jax.jit
    def gradient(record):
        weights = estimator.weights(state, record)
        return policy_gradient(POLICY, record, weights.psi), weights

    (ours_gradient, a), (theirs_gradient, b) = gradient(ours), gradient(theirs)
    valid = np.asarray(ours.valid)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(np.asarray(x)[valid], np.asarray(y)[valid])
    leaves = jax.tree.leaves(ours_gradient)
    assert sum(float(jnp.sum(jnp.abs(leaf))) for leaf in leaves) > 1e-3
    jax.tree.map(np.testing.assert_array_equal, ours_gradient, theirs_gradient)


def ended(records):
    tally = EpisodeTally.init(records[0].rewards.shape[1])
    for record in records:
        tally = tally.update(record)
    count = int(tally.episodes)
    recent = zip(tally.recent_returns.tolist(), tally.recent_lengths.tolist(), strict=True)
    return sum(int(np.sum(r.valid)) for r in records), count, list(recent)[:count]


@some_forms_and_worlds
def test_segments_are_the_same(functional, world):
    ours = segments_on_host(world, 2)
    theirs = segments_compiled(make(functional(**world), B), 2)
    for a, b in zip(ours, theirs, strict=True):
        assert_same(a, b)
        assert_same_gradient(a, b, estimators.gae(critic=value_network((8,))))
    assert ended(ours) == ended(theirs)
    lengths = {length for _, length in ended(ours)[2]}
    assert lengths == {world["length"]}


@some_forms_and_worlds
def test_whole_episodes_are_the_same(functional, world):
    ours = episodes_on_host(world)
    theirs = episodes_compiled(make(functional(**world), N))
    assert_same(ours, theirs)
    assert_same_gradient(ours, theirs, estimators.reward_to_go(discount=0.9))
    assert_same_gradient(ours, theirs, estimators.gae(critic=value_network((8,))))
    assert ended([ours]) == ended([theirs])
    np.testing.assert_array_equal(np.asarray(ours.valid).sum(axis=0), world["length"])


@pytest.mark.slow
@every_world
def test_records_tell_what_the_environment_did(world):
    """The host's record, by which the others are judged, against the environment itself."""
    (record,) = jax.tree.map(np.asarray, segments_on_host(world, 1))
    for lane in range(B):
        env, cuts = Chain(**world), []
        observation, _ = env.reset()
        for t in range(T):
            np.testing.assert_array_equal(record.observations[t, lane], observation)
            assert record.times[t, lane] == env.time
            action = int(record.actions[t, lane])
            observation, reward, terminated, truncated, _ = env.step(action)
            assert record.rewards[t, lane] == np.float32(reward)
            assert record.terminated[t, lane] == terminated
            assert record.truncated[t, lane] == truncated
            if truncated or t == T - 1:
                cuts.append((*observation, env.time))
            if terminated or truncated:
                observation, _ = env.reset()
            log_prob = POLICY(jnp.asarray(record.observations[t, lane])).log_prob(action)
            np.testing.assert_allclose(record.log_probs[t, lane], log_prob, rtol=1e-6)
        found = np.column_stack([record.cut_observations[:, lane], record.cut_times[:, lane]])
        np.testing.assert_array_equal(found[: len(cuts)], cuts)


def test_segments_go_on_where_the_last_one_ended():
    first, second = segments_on_host({"length": 5, "terminates": False}, 2)
    np.testing.assert_array_equal(second.observations[0], first.cut_observations[3])
    np.testing.assert_array_equal(second.times[0], 2)


@pytest.mark.parametrize("copy", [True, False], ids=["copies", "one buffer"])
@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda m: m.name)
@every_world
def test_whole_episodes_do_not_depend_on_the_autoreset_mode(world, mode, copy):
    vector = SyncVectorEnv([partial(Chain, **world)] * N, autoreset_mode=mode, copy=copy)
    actor, act_key = Actor(POLICY, N), jax.random.split(KEY, 3)[1]
    record, _ = host.collect_episodes(
        GymnasiumLanes(vector), actor.sampler(POLICY, act_key), 0, episodes=N, max_steps=100
    )
    assert_same(record, episodes_on_host(world))


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda m: m.name)
@every_world
def test_gradient_of_segments_does_not_see_reset_rows(world, mode):
    """A constant action, so that all modes tell the same episodes, some with rows between them."""
    vector = SyncVectorEnv([partial(Chain, **world)] * B, autoreset_mode=mode)
    lanes = GymnasiumLanes(vector)
    lanes.start(0)
    length = world["length"]
    rows = 4 * (length + 1) if mode == AutoresetMode.NEXT_STEP else 4 * length
    ones = np.ones(B, np.int32), np.full(B, -0.5, np.float32)
    record = host.collect_segment(lanes, lambda row, o, times: ones, rows)
    plain = host_lanes(world, B)
    plain.start(0)
    expected = host.collect_segment(plain, lambda row, o, times: ones, 4 * length)
    estimator = estimators.gae(critic=value_network((8,)))
    state = estimator.init(KEY, Chain().observation_space.sample())
    got = [
        policy_gradient(POLICY, r, estimator.weights(state, r).psi)
        for r in jax.tree.map(jnp.asarray, (record, expected))
    ]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), *got)
    assert int(record.valid.sum()) == int(expected.valid.sum()) == 4 * length * B


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda m: m.name)
def test_successors_outlive_a_buffer_that_the_environment_writes_over(mode):
    def record(copy):
        vector = SyncVectorEnv(
            [partial(Chain, length, terminates=False) for length in (3, 5)],
            autoreset_mode=mode,
            copy=copy,
        )
        ones = np.ones(2, np.int32), np.zeros(2, np.float32)
        return host.collect_episodes(
            GymnasiumLanes(vector), lambda row, o, times: ones, 0, episodes=4, max_steps=100
        )[0]

    np.testing.assert_array_equal(record(False).cut_observations, record(True).cut_observations)


def test_record_of_the_host_is_weighted_outside_compiled_code_too():
    lanes = host_lanes({"length": 3}, B)
    lanes.start(0)
    record = host.collect_segment(lanes, Actor(POLICY, B).sampler(POLICY, KEY), T)
    estimator = estimators.gae(critic=value_network((8,)))
    state = estimator.init(KEY, Chain().observation_space.sample())
    assert estimator.weights(state, record).psi.shape == (T, B)


def test_padding_holds_the_longest_episode_in_few_shapes():
    lengths = {padded_length(n) for n in range(1, 1001)}
    assert all(padded_length(n) >= n for n in range(1, 1001))
    assert lengths == {16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024}


def test_compiled_episodes_go_on_from_where_they_are_told_to():
    """With first actions of the caller's, which the policy gave no probability."""
    environment = make(DuckChain(length=5), N)
    lanes = segments.start_lanes(environment, POLICY, KEY, N)
    ones, two = jnp.ones(N, jnp.int32), 2
    for _ in range(two):
        lanes, _ = segments.advance(environment, lanes, KEY, ones)
    record, unfinished, _ = episodes_.collect_episodes(
        environment, POLICY, KEY, episodes=N, max_steps=6, greedy=True, start=(lanes, ones)
    )
    assert not unfinished.any()
    np.testing.assert_array_equal(record.valid.sum(axis=0), 5 - two)
    np.testing.assert_array_equal(record.observations[0], lanes.observations)
    np.testing.assert_array_equal(record.times[:, 0], two + np.arange(6))
    np.testing.assert_array_equal(record.cut_times, np.full((1, N), 5))
    sampled, *_ = episodes_.collect_episodes(
        environment, POLICY, KEY, episodes=N, max_steps=6, start=(lanes, ones)
    )
    np.testing.assert_array_equal(sampled.actions[0], 1)
    np.testing.assert_array_equal(sampled.log_probs[0], 0)
    assert (sampled.log_probs[1:3] < 0).all()
    np.testing.assert_array_equal(sampled.log_probs[3:], 0)


def test_host_records_every_successor_of_lanes_that_say_a_longer_time_limit():
    lanes = host_lanes({"length": 3, "terminates": False}, 2)
    lanes.time_limit = 100
    lanes.start(0)
    ones = np.ones(2, np.int32), np.zeros(2, np.float32)
    record = host.collect_segment(lanes, lambda row, o, times: ones, 12)
    np.testing.assert_array_equal(record.cut_times, np.full((4, 2), 3))
    np.testing.assert_array_equal(record.cut_observations[..., 1], 3)


def test_actions_are_sampled_where_nothing_else_is_said():
    environment = make(DuckChain(length=3), N)
    lanes = segments.start_lanes(environment, POLICY, KEY, N)

    def keep(kept, step):
        return kept + step.log_probs

    log_probs, unfinished = run_episodes(
        environment, POLICY, lanes, (KEY, KEY), keep, jnp.zeros(N), max_steps=2
    )
    assert (log_probs < 0).all()
    assert unfinished.all()


@pytest.mark.parametrize(
    ("length", "rows"), [(3, 16), pytest.param(20, 24, marks=pytest.mark.slow), (38, 40)]
)
def test_trim_keeps_every_transition(length, rows):
    environment = make(DuckChain(length=length), N)
    batch = episodes_.collect_episodes(environment, POLICY, KEY, episodes=N, max_steps=40)
    trimmed = trim(batch.trajectories)
    assert trimmed.rewards.shape == (rows, N)
    assert int(trimmed.valid.sum()) == length * N
    np.testing.assert_array_equal(trimmed.rewards, batch.trajectories.rewards[:rows])
    np.testing.assert_array_equal(trimmed.cut_times, batch.trajectories.cut_times)

import jax
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from policygrad.core.errors import PolicygradError
from policygrad.environments import replay
from policygrad.environments.catalogue import make
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.vectorise import vectorise
from policygrad.policies.space_policy import network_policy
from policygrad.rollout import host, make_collector, segments
from tests.worlds import (
    Chain,
    Drift,
    DuckEndless,
    DuckLottery,
    Endless,
    Forgetful,
    GymnaxChain,
    Lottery,
    chain_vector,
)

KEY = jax.random.key(0)


def policy_for(env):
    return network_policy(KEY, env.observation_space, spaces.Discrete(2), hidden=(4,))


def draw(row, observations, times):
    return np.zeros(len(observations), np.int32), np.zeros(len(observations), np.float32)


# ----- no bias towards short episodes


# z = 4.5 on either side: a true mean is refused once in 150,000 runs; the seeds are fixed anyway.
Z, MEAN, STD = 4.5, 5.0, 4.0


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda m: m.name)
@pytest.mark.parametrize(("num_envs", "episodes"), [(8, 8), (3, 8), (8, 5), (1, 4)])
def test_episodes_have_no_bias_towards_short_ones_on_host(num_envs, episodes, mode):
    lanes = GymnasiumLanes(SyncVectorEnv([Lottery] * num_envs, autoreset_mode=mode))
    lengths = []
    for seed in range(1200 // episodes):
        record, _ = host.collect_episodes(lanes, draw, seed, episodes=episodes, max_steps=50)
        assert record.rewards.shape[1] == episodes
        lengths += record.valid.sum(axis=0).tolist()
    assert set(lengths) == {1, 9}
    assert abs(np.mean(lengths) - MEAN) < Z * STD / np.sqrt(len(lengths))


def test_first_to_finish_would_be_found_out():
    """The same interval refuses the biased way: the first 8 of 16 episodes that end."""
    rng = np.random.default_rng(0)
    lengths = np.sort(rng.choice([1, 9], (150, 16)), axis=1)[:, :8]
    assert abs(lengths.mean() - MEAN) > 5 * Z * STD / np.sqrt(lengths.size)


def test_episodes_have_no_bias_towards_short_ones_compiled():
    env = DuckLottery()
    collector = make_collector(
        make(env, 1), policy_for(env), KEY, num_envs=4, episodes=64, max_episode_steps=50
    )
    policy = policy_for(env)
    records = [collector.collect(policy, jax.random.key(i)) for i in range(20)]
    lengths = np.concatenate([np.asarray(r.valid).sum(axis=0) for r in records])
    assert set(lengths) == {1, 9}
    assert abs(np.mean(lengths) - MEAN) < Z * STD / np.sqrt(len(lengths))


def test_more_episodes_than_lanes_are_each_whole():
    lanes = GymnasiumLanes(vectorise(Lottery, 3))
    record, unfinished = host.collect_episodes(lanes, draw, 1, episodes=11, max_steps=50)
    lengths = record.valid.sum(axis=0)
    assert not unfinished.any()
    for column, length in enumerate(lengths):
        np.testing.assert_array_equal(record.valid[:, column], np.arange(16) < length)
        assert record.terminated[:, column].sum() == record.terminated[length - 1, column] == 1
        np.testing.assert_array_equal(
            record.observations[:length, column, 0], length - np.arange(length)
        )
        assert record.cut_observations[0, column, 0] == 0
    np.testing.assert_array_equal(record.cut_times[0], lengths)


# ----- episodes that do not end


@pytest.mark.parametrize("env", [Endless, DuckEndless()], ids=["host", "compiled"])
def test_endless_episode_is_a_clear_error(env):
    space = env.observation_space
    policy = network_policy(KEY, space, spaces.Discrete(2), hidden=(4,))
    collector = make_collector(
        make(env, 2), policy, KEY, num_envs=2, episodes=3, max_episode_steps=20
    )
    with pytest.raises(PolicygradError, match="3 of 3 episodes did not end within 20 steps"):
        collector.collect(policy, KEY)


def test_capped_episodes_are_recorded_up_to_the_cap():
    lanes = GymnasiumLanes(vectorise(Endless, 2))
    record, unfinished = host.collect_episodes(lanes, draw, 0, episodes=5, max_steps=7)
    assert unfinished.all()
    np.testing.assert_array_equal(record.valid.sum(axis=0), 7)


# ----- snapshot and restore


def same_record(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def collector_of(env, **kwargs):
    made = make(env, 4)
    policy = network_policy(KEY, made.observation_space, made.action_space, hidden=(4,))
    return make_collector(made, policy, KEY, num_envs=4, **kwargs), policy


@pytest.mark.parametrize("kind", [{"steps": 6}, {"episodes": 5}], ids=["segments", "episodes"])
@pytest.mark.parametrize(
    "env",
    [
        Drift,
        "CartPole-v1",
        "gymnax/CartPole-v1",
        "Acrobot-v1",
    ],
    ids=["sync", "vector entry point", "gymnax", "Acrobot-v1"],
)
def test_restored_collector_continues_bitwise(env, kind):
    if env == "Acrobot-v1" and "episodes" in kind:
        pytest.skip("500 steps an episode")
    ours, policy = collector_of(env, **kind)
    for i in range(4):
        ours.collect(policy, jax.random.key(i))
    kept = jax.tree.map(np.array, ours.snapshot(), is_leaf=lambda x: isinstance(x, np.ndarray))
    theirs, _ = collector_of(env, **kind)
    theirs.collect(policy, jax.random.key(99))
    assert theirs.restore(kept) is True
    for i in range(4, 8):
        same_record(
            ours.collect(policy, jax.random.key(i)), theirs.collect(policy, jax.random.key(i))
        )


def test_collector_says_when_it_could_not_be_restored():
    ours, policy = collector_of(Forgetful, steps=6)
    ours.collect(policy, KEY)
    kept = ours.snapshot()
    theirs, _ = collector_of(Forgetful, steps=6)
    assert theirs.restore(kept) is False
    record = theirs.collect(policy, KEY)
    np.testing.assert_array_equal(record.times[0], 0)


@pytest.mark.parametrize(("env", "most"), [(Chain, 3), ("CartPole-v1", 200)], ids=["own", "id"])
def test_log_of_lanes_reset_by_themselves_stays_short(env, most):
    collector, policy = collector_of(env, steps=8)
    for i in range(50):
        collector.collect(policy, jax.random.key(i))
    assert len(collector.snapshot()["lanes"]["actions"]) <= most


def test_what_the_log_no_longer_holds_is_not_called_restored(monkeypatch):
    monkeypatch.setattr(replay, "MOST_BYTES", 4 * 2 * 10)
    vector = lambda: chain_vector(AutoresetMode.NEXT_STEP, 2)  # noqa: E731
    ours, policy = collector_of(vector(), steps=6)
    for i in range(3):
        ours.collect(policy, jax.random.key(i))
    kept = ours.snapshot()
    assert len(kept["lanes"]["actions"]) == 0
    theirs, _ = collector_of(vector(), steps=6)
    assert theirs.restore(kept) is False
    np.testing.assert_array_equal(theirs.collect(policy, KEY).times[0], 0)


def test_kind_of_batch_is_one_of_two():
    environment = make(GymnaxChain(), 2)
    policy = policy_for(Chain())
    for kind in ({}, {"steps": 2, "episodes": 2}):
        with pytest.raises(ValueError, match="one of the two"):
            make_collector(environment, policy, KEY, num_envs=2, **kind)


def test_the_cap_on_an_episode_is_the_time_limit_where_none_is_given():
    collector, policy = collector_of("CartPole-v1", episodes=2)
    assert collector.collect(policy, KEY).rewards.shape[1] == 2
    capped, _ = collector_of("CartPole-v1", episodes=2, max_episode_steps=3)
    with pytest.raises(PolicygradError, match="within 3 steps"):
        capped.collect(policy, KEY)
    limited = make("CartPole-v1", 4, kwargs={"max_episode_steps": 5})
    collector = make_collector(limited, policy, KEY, num_envs=4, episodes=4)
    lengths = collector.collect(policy, KEY).valid.sum(axis=0)
    np.testing.assert_array_equal(lengths, 5)  # where they are truncated, and so have ended


def test_compiled_lanes_start_alike_for_the_same_key():
    environment = make(DuckLottery(), 8)
    a, b = (segments.start_lanes(environment, policy_for(Lottery()), KEY, 8) for _ in range(2))
    same_record(a, b)
    assert len(np.unique(a.observations)) == 2

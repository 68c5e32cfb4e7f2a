"""Runs on pictures and with memory: trained, resumed, saved, evaluated, examined."""

import json

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces
from policygrad.networks import Convolutional, Memory, RecurrentPolicy, minatar, small

import policygrad
from policygrad.algorithms.reward_scale import with_signs
from policygrad.core.errors import UserError
from policygrad.runs import storage
from tests.records import random_segments
from tests.worlds import TINY, Drift, DuckChain

RUN = {k: v for k, v in TINY.items() if k not in ("hidden", "critic_epochs")} | {"seed": 3}


class Camera(gymnasium.Env):
    """A bright column at the left or at the right; the action names its side. Joints beside."""

    action_space = spaces.Discrete(2)

    def __init__(self, *, joints=True, shape=(12, 12, 3), length=6, pay=3):
        picture = spaces.Box(0, 255, shape, np.uint8)
        both = {"camera": picture, "joints": spaces.Box(-1, 1, (2,))}
        self.observation_space = spaces.Dict(both) if joints else picture
        self.joints, self.shape, self.length, self.pay = joints, shape, length, pay

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.seen(), {}

    def seen(self):
        self.side = int(self.np_random.integers(2))
        picture = self.np_random.integers(0, 60, self.shape).astype(np.uint8)
        half = np.moveaxis(picture, 0, -1) if self.shape[0] < self.shape[1] else picture
        half[:, self.side * 8 : self.side * 8 + 4] += 180
        numbers = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return {"camera": picture, "joints": numbers} if self.joints else picture

    def step(self, action):
        reward = float(int(action) == self.side)
        self.time += 1
        return self.seen(), self.pay * reward, False, self.time == self.length, {}


def assert_same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def shared_run(tmp_path, **settings):
    return policygrad.train(Camera, out=tmp_path / "run", **RUN | settings)


@pytest.mark.parametrize(
    "algorithm", ["vanilla", pytest.param("natural", marks=pytest.mark.slow), "ppo"]
)
def test_a_policy_learns_from_pictures(algorithm):
    run = policygrad.train(
        Camera, algorithm=algorithm, num_envs=8, batch_steps=128, total_steps=128 * 40, seed=1
    )
    assert run.config.network == "minatar"
    assert run.config.shared_trunk is (algorithm == "ppo")
    assert run.summary["return_mean"] > 15  # of 18; by chance 9
    statistics = run.agent.policy.normaliser.statistics.value
    assert statistics.mean["camera"] is None


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"algorithm": "ppo", "step_size_schedule": "constant"},
        pytest.param({"memory": "lstm"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_run_on_pictures_is_resumed_bit_for_bit(settings, tmp_path):
    whole = policygrad.train(Camera, **RUN | settings | {"total_steps": 32 * 6})
    policygrad.train(Camera, out=tmp_path / "a", **RUN | settings | {"total_steps": 32 * 3})
    run = policygrad.resume(tmp_path / "a", env=Camera, total_steps=32 * 6)
    assert run.summary["resumed_exactly"] is True
    assert_same(whole.policy, run.policy)
    again = policygrad.load(tmp_path / "a")
    assert_same(again.policy, run.policy)


@pytest.mark.parametrize("memory", ["gru", pytest.param("lstm", marks=pytest.mark.slow)])
@pytest.mark.parametrize("env", [Drift, DuckChain()], ids=["host", "compiled"])
def test_a_run_with_memory_is_resumed_bit_for_bit(env, memory, tmp_path):
    settings = RUN | {"memory": memory, "memory_size": 5}
    whole = policygrad.train(env, **settings | {"total_steps": 32 * 6})
    policygrad.train(env, out=tmp_path / "a", **settings | {"total_steps": 32 * 3})
    given = {"env": env}
    run = policygrad.resume(tmp_path / "a", total_steps=32 * 6, **given)
    assert run.summary["resumed_exactly"] is True
    assert_same(whole.policy, run.policy)
    again = policygrad.load(tmp_path / "a").policy
    assert isinstance(again, RecurrentPolicy)
    assert again.memory == Memory(memory, 5)
    assert_same(again, run.policy)


@pytest.mark.parametrize("env", ["gymnasium/CartPole-v1", "gymnax/CartPole-v1"])
def test_a_run_of_ppo_with_memory_is_resumed_bit_for_bit(env, tmp_path):
    settings = RUN | {"algorithm": "ppo", "memory": "gru", "step_size_schedule": "constant"}
    whole = policygrad.train(env, **settings | {"total_steps": 32 * 6})
    policygrad.train(env, out=tmp_path / "a", **settings | {"total_steps": 32 * 3})
    run = policygrad.resume(tmp_path / "a", total_steps=32 * 6)
    assert run.summary["resumed_exactly"] is True
    assert_same(whole.policy, run.policy)


@pytest.mark.parametrize(
    "algorithm", ["vanilla", "natural", pytest.param("trpo", marks=pytest.mark.slow), "ppo"]
)
@pytest.mark.parametrize("env", [Drift, DuckChain()], ids=["host", "compiled"])
def test_every_algorithm_trains_with_memory(env, algorithm):
    run = policygrad.train(env, algorithm=algorithm, memory="gru", memory_size=4, **RUN)
    assert np.isfinite(run.metrics[-1]["explained_variance_after"])
    assert run.summary["env_steps"] == 64


def test_episodes_are_acted_with_a_memory_that_reset_empties():
    run = policygrad.train(Drift, memory="gru", **RUN)
    agent = run.agent
    first = agent(np.array([0.5]))
    agent.act(np.array([3.0]))
    assert not np.array_equal(agent(np.array([0.5])).logits, first.logits)
    agent.reset()
    np.testing.assert_array_equal(agent(np.array([0.5])).logits, first.logits)


@pytest.mark.slow
def test_a_run_with_memory_is_evaluated_and_diagnosed(tmp_path):
    policygrad.train("CartPole-v1", memory="gru", out=tmp_path / "run", **RUN)
    found = policygrad.evaluate(tmp_path / "run", episodes=3)
    assert found.stochastic.episodes == 3
    told = policygrad.diagnose(tmp_path / "run", episodes=16)
    assert told.examination.noise is not None


def test_a_run_on_pictures_is_diagnosed(tmp_path):
    run = shared_run(tmp_path, algorithm="ppo", batch_steps=64, total_steps=128)
    told = policygrad.diagnose(tmp_path / "run", env=Camera, episodes=16)
    assert told.examination.noise is not None
    assert run.config.shared_trunk


def test_a_run_with_a_network_of_ones_own_keeps_what_was_filled_in_for_pictures(tmp_path):
    own = Convolutional(layers=((4, 3, 2),), hidden=(8,))
    run = shared_run(tmp_path, algorithm="ppo", network=own, batch_steps=64, total_steps=128)
    assert (run.config.shared_trunk, run.config.value_coefficient) == (True, 0.5)
    told = policygrad.diagnose(tmp_path / "run", env=Camera, network=own, episodes=8)
    assert told.examination.noise is not None


def test_the_weight_of_the_values_may_be_given_where_pictures_share_them(tmp_path):
    run = shared_run(tmp_path, algorithm="ppo", value_coefficient=0.25)
    assert (run.config.shared_trunk, run.config.value_coefficient) == (True, 0.25)
    with pytest.raises(UserError, match="read with --shared-trunk"):
        policygrad.train("CartPole-v1", algorithm="ppo", value_coefficient=0.25, **RUN)


def test_records_hold_bytes_once(tmp_path):
    collector = policygrad.rollout.open_source(Camera, 4).segments(
        shared_run(tmp_path).policy, jax.random.key(0), 5
    )
    record = collector.collect(shared_run(tmp_path / "b").policy, jax.random.key(1))
    camera = record.observations["camera"]
    assert camera.dtype == np.uint8
    assert camera.shape == (5, 4, 12, 12, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "nature"}, r"12×12 pixels is too small .*need 36×36"),
        ({"network": "fully-connected", "channels": "last"}, "--channels last is read by networks"),
        ({"network": "resnet"}, "--network must be one of fully-connected, nature"),
        ({"memory": "rnn"}, "--memory must be one of gru, lstm"),
        ({"memory_size": 8}, "--memory-size 8 is read with --memory"),
        ({"value_coefficient": 0.5}, "--value-coefficient 0.5 is read with --shared-trunk"),
        ({"value_coefficient": 0.5, "algorithm": "ppo", "memory": "gru"}, "read with --shared-tr"),
        ({"shared_trunk": True, "memory": "gru"}, "--memory gru gives the critic a memory"),
        ({"shared_trunk": True, "algorithm": "natural"}, "natural does not fit values"),
        ({"shared_trunk": True, "critic_epochs": 2}, "--critic-epochs is read by a critic with"),
        ({"shared_trunk": True, "baseline": "none", "estimator": "reward-to-go",
          "batch_episodes": 4, "batch_steps": None}, "has no value network as its critic"),
        ({"network": minatar(), "hidden": (8,)}, "--hidden .* is read by the networks that have"),
        ({"network": small(), "memory": "gru"}, "too small"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_go_together_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        policygrad.train(Camera, **RUN | settings)


def test_floats_where_bytes_are_expected_are_refused():
    class Floats(Camera):
        def seen(self):
            found = super().seen()
            return found | {"camera": found["camera"] / 255}

    with pytest.raises(policygrad.errors.EnvironmentFailure, match="does not fit in uint8"):
        policygrad.train(Floats, **RUN)


def test_a_cube_of_bytes_asks_for_its_channels():
    cube = {"shape": (12, 12, 12), "joints": False}
    with pytest.raises(UserError, match="--channels first or --channels last"):
        policygrad.train(Camera, env_kwargs=cube, **RUN)
    run = policygrad.train(Camera, env_kwargs=cube, channels="last", **RUN)
    assert run.config.channels == "last"


def test_signs_stand_for_rewards_in_training_alone(tmp_path):
    plain = {"scale_rewards": False, "algorithm": "ppo"}
    clipped = shared_run(tmp_path, clip_rewards=True, env_kwargs={"pay": 3}, **plain)
    ones = shared_run(tmp_path / "ones", env_kwargs={"pay": 1}, **plain)
    assert (clipped.config.clip_rewards, ones.config.clip_rewards) == (True, False)
    assert_same(clipped.policy, ones.policy)
    returns = [[m["return_mean"] for m in run.metrics] for run in (clipped, ones)]
    assert returns[0] == [None if x is None else 3 * x for x in returns[1]]


def test_training_goes_on_with_the_critic_that_belongs_to_a_policy(tmp_path):
    shared = {"algorithm": "ppo", "step_size_schedule": "constant"}
    shared_run(tmp_path, **shared)
    run = policygrad.train(Camera, start=tmp_path / "run", out=tmp_path / "on", **RUN | shared)
    assert run.config.shared_trunk
    assert run.policy.valued
    apart = policygrad.train(Camera, start=tmp_path / "run", **RUN | {"algorithm": "natural"})
    assert not apart.config.shared_trunk
    refused = shared | {"shared_trunk": True}
    with pytest.raises(UserError, match="the policy that was passed gives no value"):
        policygrad.train(Camera, policy=apart_policy(), **RUN | refused)


def apart_policy():
    camera = Camera()
    return policygrad.network_policy(
        jax.random.key(0), camera.observation_space, camera.action_space
    )


def test_training_goes_on_with_the_memory_of_a_policy(tmp_path):
    policygrad.train(Drift, memory="lstm", memory_size=5, out=tmp_path / "run", **RUN)
    run = policygrad.train(Drift, start=tmp_path / "run", **RUN)
    assert (run.config.memory, run.config.memory_size) == ("lstm", 5)
    assert isinstance(run.agent.policy, RecurrentPolicy)


def test_a_regression_on_the_pixels_of_a_large_picture_is_refused():
    large = {"shape": (84, 84, 3), "joints": False}
    for baseline in ("linear-features", "variance-optimal"):
        with pytest.raises(UserError, match=r"at most 10,000 features, and .* have 42,339; take"):
            policygrad.train(Camera, env_kwargs=large, baseline=baseline, **RUN)


def test_a_policy_of_before_there_were_pictures_is_refused_by_name(tmp_path):
    run = shared_run(tmp_path, network="fully-connected")
    arrays, data = storage.load(tmp_path / "run" / "policy")
    del data["network"]["memory"]
    storage.save(tmp_path / "old", arrays, data)
    with pytest.raises(policygrad.errors.RunError, match="read pictures as plain numbers; train"):
        policygrad.load(tmp_path / "old.json")
    assert run.config.network == "fully-connected"


def test_every_reward_is_replaced_by_its_sign():
    record = random_segments(steps=4, lanes=2)
    np.testing.assert_array_equal(with_signs(record).rewards, np.sign(record.rewards))


@pytest.mark.slow
def test_a_network_is_named_in_the_files_of_a_run(tmp_path):
    shared_run(tmp_path, network="impala", hidden=(16,))
    saved = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (saved["network"], saved["hidden"]) == ("impala", [16])
    _, data = storage.load(tmp_path / "run" / "policy")
    assert data["network"]["architecture"]["class"] == "Impala"

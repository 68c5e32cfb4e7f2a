import jax
import numpy as np
import pytest

from policygrad.core.errors import UserError
from policygrad.core.trajectories import lost_cuts
from policygrad.environments import catalogue
from policygrad.environments.catalogue import choose_engine, make, split_engine
from policygrad.policies import network_policy
from policygrad.rollout.envpool import PoolSegments
from policygrad.rollout.host_source import HostSegments
from tests.worlds import MLPPolicy


def test_engine_is_the_part_before_the_slash():
    assert split_engine("envpool/Hopper-v5") == ("envpool", "Hopper-v5")
    assert split_engine("gymnasium/CartPole-v1") == ("gymnasium", "CartPole-v1")
    assert split_engine("phys2d/CartPole-v1") == (None, "phys2d/CartPole-v1")
    assert split_engine("CartPole-v1") == (None, "CartPole-v1")
    assert split_engine("envpool/") == (None, "envpool/")


def test_gymnasium_can_be_asked_for():
    assert make("gymnasium/CartPole-v1", 2).num_envs == 2


def test_missing_extra_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(catalogue.importlib.util, "find_spec", lambda name: None)
    assert choose_engine("Acrobot-v1") == "Acrobot-v1"
    with pytest.raises(UserError, match=r"policygrad\[envpool\]"):
        make("envpool/Hopper-v5", 2)


def test_choice_of_engine(monkeypatch):
    monkeypatch.setattr(catalogue.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(catalogue.envpool, "ids", lambda: ["Acrobot-v1", "CartPole-v1"])
    assert choose_engine("Acrobot-v1") == "envpool/Acrobot-v1"
    assert choose_engine("MountainCar-v0") == "MountainCar-v0"
    assert choose_engine("CartPole-v1") == "CartPole-v1"  # vectorised by Gymnasium itself
    assert choose_engine("gymnasium/Acrobot-v1") == "gymnasium/Acrobot-v1"
    assert choose_engine("Acrobot-v1", processes=True) == "Acrobot-v1"
    assert choose_engine("Acrobot-v1", kwargs={"a": 1}) == "Acrobot-v1"
    monkeypatch.setattr(catalogue.envpool, "ids", lambda: ["Pong-v5"])
    assert choose_engine("Pong-v5", kwargs={"a": 1}) == "envpool/Pong-v5"  # no id of Gymnasium's
    assert choose_engine(make) is make


class TestPool:
    """With EnvPool itself, where it is installed."""

    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("envpool")

    def play(self, lanes, steps=30):
        rng = np.random.default_rng(0)
        rows = []
        for _ in range(steps):
            seen = lanes.observations
            step = lanes.step(rng.integers(0, 2, lanes.num_envs))
            rows.append((seen, lanes.observations, step))
        return rows

    def test_same_seed_same_episodes_whatever_came_before(self):
        first, second = make("envpool/CartPole-v1", 3), make("envpool/CartPole-v1", 3)
        first.start(5)
        self.play(first)
        first.start(7)
        second.start(7)
        for a, b in zip(self.play(first), self.play(second), strict=True):
            np.testing.assert_array_equal(a[0], b[0])
        second.start(8)
        assert (second.observations != first.observations).any()

    def test_lane_does_not_depend_on_the_number_of_lanes(self):
        few, many = make("envpool/CartPole-v1", 2), make("envpool/CartPole-v1", 5)
        few.start(3)
        many.start(3)
        np.testing.assert_array_equal(few.observations, many.observations[:2])

    def test_rows_of_resets_are_no_transitions(self):
        lanes = make("envpool/CartPole-v1", 4)
        lanes.start(0)
        ended, times = np.zeros(4, bool), np.zeros(4, int)
        for _, _, step in self.play(lanes, 60):
            np.testing.assert_array_equal(step.valid, ~ended)
            times = np.where(step.valid, times + 1, 0)
            ended = step.terminated | step.truncated
        assert lanes.log.actions == []
        assert lanes.time_limit == 500

    def test_unknown_names_and_arguments(self):
        with pytest.raises(UserError, match="did you mean envpool/Hopper-v"):
            make("envpool/Hoper-v5", 2)
        with pytest.raises(UserError, match="no_such_thing"):
            make("envpool/CartPole-v1", 2, kwargs={"no_such_thing": 1})

    @pytest.mark.parametrize("task", ["CartPole-v1", "Pendulum-v1"])
    def test_compiled_segments_are_those_of_the_host(self, task):
        """Through resets and time limits, the same record; products of 3 rows round alike."""
        ours, theirs = (make(f"envpool/{task}", 3, kwargs={"max_episode_steps": 15}) for _ in "ab")
        spaces = ours.observation_space, ours.action_space
        policy = network_policy(jax.random.key(0), *spaces)
        pooled = PoolSegments(ours, policy, 40, seed=5)
        host = HostSegments(theirs, policy, 40, seed=5)
        ended = 0
        for i in range(3):
            key = jax.random.key(i)
            a, b = pooled.collect(policy, key), host.collect(policy, key)
            used = np.sum(b.truncated & ~b.terminated | (np.arange(40) == 39)[:, None], axis=0)
            slots = np.arange(len(b.cut_times))[:, None] < used  # what lies beyond is not read
            for name in vars(b):
                x, y = getattr(a, name), getattr(b, name)
                if x is None and y is None:
                    continue
                if name.startswith("cut_"):
                    x, y = np.asarray(x)[: len(slots)][slots], y[slots]
                np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5, err_msg=name)
                assert np.asarray(x).dtype == np.asarray(y).dtype
            ended += int(np.sum(~b.valid))
        assert ended >= 9
        np.testing.assert_array_equal(pooled._state.times, theirs.times)

    def test_a_policy_with_a_leaf_that_is_no_array_plays_like_any_other(self):
        policy = MLPPolicy(4, 2)
        collector = PoolSegments(make("envpool/CartPole-v1", 2), policy, 8, seed=3)
        record = collector.collect(policy, jax.random.key(0))
        assert record.actions.shape == (8, 2)
        assert np.isfinite(record.log_probs).all()

    def test_truncation_before_the_declared_time_limit_is_noticed(self):
        pool = make("envpool/CartPole-v1", 2, kwargs={"max_episode_steps": 3})
        pool.time_limit = 100
        policy = MLPPolicy(4, 2)
        record = PoolSegments(pool, policy, 16, seed=3).collect(policy, jax.random.key(0))
        assert lost_cuts(record).all()
        pool.time_limit = 3
        record = PoolSegments(pool, policy, 16, seed=3).collect(policy, jax.random.key(0))
        assert not lost_cuts(record).any()

    def test_a_restored_collector_begins_fresh_episodes(self):
        policy = network_policy(jax.random.key(0),
            *(lambda e: (e.observation_space, e.action_space))(make("envpool/CartPole-v1", 2)),
        )  # fmt: skip
        first, second = (
            PoolSegments(make("envpool/CartPole-v1", 2), policy, 8, seed=3) for _ in "ab"
        )
        first.collect(policy, jax.random.key(0))
        assert second.restore(first.snapshot()) is False
        third = PoolSegments(make("envpool/CartPole-v1", 2), policy, 8, seed=3)
        third.restore(first.snapshot())
        a, b = (c.collect(policy, jax.random.key(1)) for c in (second, third))
        np.testing.assert_array_equal(a.observations, b.observations)
        np.testing.assert_array_equal(a.observations[0], second._environments.observations)

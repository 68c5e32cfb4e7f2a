"""Sources: the same questions put to lanes on the host, to EnvPool and to compiled environments."""

from typing import Any

import jax
import numpy as np
import pytest
from gymnasium import spaces

import policygrad
from policygrad.core.errors import PolicygradError, UserError
from policygrad.environments.catalogue import MAKERS
from policygrad.environments.lanes import LaneStep, Restorable
from policygrad.policies.agent import Agent
from policygrad.rollout import ENGINES, HostSource, Source, collect_episodes, open_source
from policygrad.rollout.collectors import unfinished_episodes
from tests.worlds import DUCK, Chain, MLPPolicy, chain_step

KEY = jax.random.key(3)
POLICY = MLPPolicy(2, 2)
both_rollouts = pytest.mark.parametrize("env", [Chain, DUCK], ids=["host", "compiled"])


class NumPyChain:
    """`Chain(3)` as a simulator of somebody's own in NumPy, which writes over what it gave."""

    observation_space = Chain().observation_space
    action_space = spaces.Discrete(2)
    time_limit = None

    def __init__(self, num_envs, length=3):
        self.num_envs, self.length, self.closed = num_envs, length, False
        self.observations = np.zeros((num_envs, 2))

    def start(self, seed):
        self.x, self.times = np.zeros(self.num_envs), np.zeros(self.num_envs, int)
        self._observe()

    def _observe(self):
        self.observations[:] = np.stack([self.x, self.times], axis=1)

    def step(self, actions):
        self.x, self.times, rewards = chain_step(self.x, self.times, actions)
        successors, ends = np.stack([self.x, self.times], axis=1), self.times >= self.length
        self.x, self.times = np.where(ends, 0, self.x), np.where(ends, 0, self.times)
        self._observe()
        return LaneStep(successors, rewards, ends, np.zeros(self.num_envs, bool))

    def close(self):
        self.closed = True


class MyEngine:
    """Opens one id."""

    def open(self, env_id, num_envs, *, processes=False, kwargs=None):
        if env_id != "my-chain":
            raise UserError(f"no environment {env_id}; there is my-chain")
        return HostSource(NumPyChain(num_envs, **(kwargs or {})))


class Asked:
    """An engine that keeps what it was asked for."""

    def open(self, *args, **kwargs):
        self.asked = args, kwargs
        return open_source(Chain, 2)


def both(num_envs=4):
    return open_source("my-chain", num_envs, engine=MyEngine()), open_source(Chain, num_envs)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_simulator_without_gymnasium_gives_the_record_that_gymnasium_gives():
    ours, theirs = (source.segments(POLICY, KEY, 7) for source in both())
    for i in range(2):
        assert_same(*(c.collect(POLICY, jax.random.key(i)) for c in (ours, theirs)))
    ours, theirs = (source.episodes(POLICY, KEY, 6, 10) for source in both())
    assert_same(ours.collect(POLICY, KEY), theirs.collect(POLICY, KEY))
    assert ours.collect(POLICY, KEY, episodes=3).rewards.shape[1] == 3
    ours, theirs = (
        source.play(POLICY, KEY, episodes=6, max_steps=10, greedy=False) for source in both()
    )
    assert_same(ours, theirs)
    assert ours.lengths.tolist() == [3] * 6


def test_lanes_of_somebodys_own_resume_with_fresh_episodes():
    assert not isinstance(NumPyChain(2), Restorable)
    first, second = (HostSource(NumPyChain(2)).segments(POLICY, KEY, 7) for _ in "ab")
    first.collect(POLICY, KEY)
    assert second.restore(first.snapshot()) is False
    np.testing.assert_array_equal(second.collect(POLICY, KEY).times[0], 0)


def test_an_engine_of_somebodys_own_is_evaluated_with():
    space = Chain().observation_space
    agent = Agent(POLICY, space, spaces.Discrete(2))
    ours = policygrad.evaluate(agent, "my-chain", engine=MyEngine(), episodes=4)
    theirs = policygrad.evaluate(agent, Chain, episodes=4)
    assert (ours.deterministic, ours.stochastic) == (theirs.deterministic, theirs.stochastic)
    with pytest.raises(UserError, match="there is my-chain"):
        policygrad.evaluate(agent, "CartPole-v1", engine=MyEngine())
    with pytest.raises(UserError, match="opens an environment by its id"):
        open_source(Chain, 2, engine=MyEngine())


def test_a_source_and_lanes_are_taken_as_they_are():
    source, lanes = open_source(DUCK, 2), NumPyChain(3)
    assert open_source(source, 8) is source
    source = open_source(lanes, 8)
    assert isinstance(source, HostSource)
    assert source.lanes is lanes
    source.close()
    assert lanes.closed


def test_the_engines_of_the_library_open_what_their_names_open():
    assert list(ENGINES) == list(MAKERS)
    for name in ("gymnasium", "gymnax"):
        ours, theirs = ENGINES[name].open("CartPole-v1", 2), open_source(f"{name}/CartPole-v1", 2)
        assert isinstance(ours, Source)
        policy = MLPPolicy(4, 2)
        a, b = (s.segments(policy, KEY, 5).collect(policy, KEY) for s in (ours, theirs))
        assert_same(a, b)


def test_an_engine_is_told_all_that_was_asked_for():
    engine = Asked()
    open_source("mine", 3, engine=engine, processes=True, kwargs={"length": 5})
    assert engine.asked == (("mine", 3), {"processes": True, "kwargs": {"length": 5}})


def test_named_engines_hand_on_the_arguments_of_the_environment():
    source = ENGINES["gymnasium"].open("CartPole-v1", 2, kwargs={"max_episode_steps": 7})
    assert (source.num_envs, source.time_limit) == (2, 7)


@both_rollouts
def test_greedy_play_takes_modes_and_sampled_play_does_not(env):
    def returns(greedy, i):
        key = jax.random.key(i)
        return open_source(env, 4).play(
            POLICY, key, episodes=6, max_steps=10, greedy=greedy
        ).returns  # fmt: skip

    chain, total = Chain(), 0.0
    observation, _ = chain.reset()
    for _ in range(3):
        action = int(POLICY(jax.numpy.asarray(observation)).mode())
        observation, reward, *_ = chain.step(action)
        total += reward
    np.testing.assert_allclose(returns(True, 0), [total] * 6, rtol=1e-6)
    sampled = returns(False, 0)
    assert len(np.unique(sampled)) > 1
    assert (sampled != returns(False, 1)).any()


@both_rollouts
def test_play_stops_at_the_cap_and_says_so(env):
    played = open_source(env, 2).play(POLICY, KEY, episodes=3, max_steps=2, greedy=True)
    assert played.lengths.tolist() == [2, 2, 2]
    assert played.unfinished.all()
    whole = open_source(env, 2).play(POLICY, KEY, episodes=3, max_steps=3, greedy=True)
    assert not whole.unfinished.any()
    assert (whole.returns != played.returns).all()


@both_rollouts
def test_a_batch_has_as_many_episodes_as_it_is_asked_for(env):
    collector = open_source(env, 2).episodes(POLICY, KEY, 5, 10)
    assert collector.collect(POLICY, KEY).rewards.shape[1] == 5
    assert collector.collect(POLICY, KEY, episodes=3).rewards.shape[1] == 3


@both_rollouts
def test_episodes_that_were_stopped_are_refused_or_kept_without_a_flag(env):
    source = open_source(env, 2)
    with pytest.raises(PolicygradError, match="3 of 3 episodes did not end within 2 steps"):
        source.episodes(POLICY, KEY, 3, 2).collect(POLICY, KEY)
    record = source.episodes(POLICY, KEY, 3, 2, keep_unfinished=True).collect(POLICY, KEY)
    assert unfinished_episodes(record).all()
    assert not np.any(record.terminated | record.truncated)
    whole = source.episodes(POLICY, KEY, 3, 4, keep_unfinished=True).collect(POLICY, KEY)
    assert not unfinished_episodes(whole).any()


@both_rollouts
def test_segments_take_no_number_of_episodes(env):
    collector = open_source(env, 2).segments(POLICY, KEY, 4)
    with pytest.raises(ValueError, match="episodes=3"):
        collector.collect(POLICY, KEY, episodes=3)


NOT_COMPILED = {
    "lanes": (lambda: policygrad.environments.make(Chain, 2), "GymnasiumLanes steps on the host"),
    "an environment": (Chain, "Chain steps on the host"),
    "an id": (lambda: "gymnax/CartPole-v1", "'gymnax/CartPole-v1' is the id of an environment"),
}


@pytest.mark.parametrize(("make", "what"), NOT_COMPILED.values(), ids=NOT_COMPILED)
def test_a_compiled_rollout_of_what_is_not_jax_native_is_an_error_that_says_what_to_use(make, what):
    environment: Any = make()
    with pytest.raises(UserError, match=f"{what}.*open_source"):
        collect_episodes(environment, POLICY, KEY, episodes=2, max_steps=10)

"""Numbers in infos that compiled programs read: of JAX-native environments, and of EnvPool."""

import json
from dataclasses import replace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad
from policygrad import callbacks
from policygrad.core.errors import UserError
from policygrad.environments import make
from policygrad.environments.traced_infos import info_names, traced_numbers
from policygrad.policies.agent import Agent
from policygrad.rollout import Collector, open_source
from policygrad.rollout.host_source import HostSegments
from policygrad.runs import storage
from policygrad.training.tally import EpisodeTally
from tests.rollout.test_infos import NAMES, SUMS, check
from tests.slow import params, slow
from tests.worlds import (
    TINY,
    ChainState,
    DuckChain,
    MLPPolicy,
    StockGymnaxChain,
    chain_step,
)

LENGTH = 3


def told(state, over):
    """As `Telling` of test_infos tells it; NaN stands for what is absent."""
    return {
        "parts": {"alive": jnp.float16(0.5), "time": state.time},
        "success": jnp.where(over, state.x > 0, jnp.nan),
        "discount": 1.0, "array": jnp.ones(3), "nothing": None, "not a number": jnp.nan,
        "complex": jnp.complex64(1), "final_observation": jnp.ones(1),
    }  # fmt: skip


class TellingGymnax(StockGymnaxChain):
    def step_env(self, key, state, action, params):
        *row, _ = super().step_env(key, state, action, params)
        over = row[3] | self.is_truncated(row[1], params)
        return *row, told(row[1], over) | {"text": "no number"}


class TellingDuck(DuckChain):
    """Resets itself, so that its state is another episode's where its info is the old one's."""

    def step(self, key, state, action, params):
        *row, info = super().step(key, state, action, params)
        x, time, _ = chain_step(state.x, state.time, action)
        return *row, told(ChainState(x, time), row[3] | row[4]) | info


class TellingOwn:
    """A compiled environment of the protocol, with an info behind its five values."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    time_limit = None

    def reset(self, key):
        return ChainState(jnp.float32(0), jnp.int32(0)), jnp.zeros(2)

    def step(self, key, state, action):
        x, time, reward = chain_step(state.x, state.time, action)
        state, over = ChainState(x, time), time >= LENGTH
        observation = jnp.stack([x, time.astype(jnp.float32)])
        info = {k: x for k, x in told(state, over).items() if k != "discount"}
        return state, observation, reward, over, jnp.bool_(False), info


# one object of each, so that their programs are traced and compiled once
GYMNAX, TRUNCATED = TellingGymnax(), TellingGymnax(terminates=False)
SIX_VALUES, OWN = TellingDuck(), TellingOwn()
KINDS = {
    "gymnax": GYMNAX,
    "gymnax, truncated": TRUNCATED,
    "six values": SIX_VALUES,
    "protocol": OWN,
}


def row_of(env, **settings):
    return policygrad.train(env, **{**TINY, **settings}).metrics[-1]


@pytest.mark.parametrize("env", params(KINDS, {"gymnax"}))
def test_numbers_of_infos_are_logged(env):
    check(row_of(env), LENGTH)


@pytest.mark.parametrize("env", [GYMNAX, SIX_VALUES], ids=["gymnax", "six values"])
def test_numbers_of_whole_episodes_are_logged(env):
    check(row_of(env, batch_steps=None, batch_episodes=6), LENGTH)


def test_parts_of_a_batch_are_tallied_together():
    check(row_of(GYMNAX, processors=2), LENGTH)


def test_many_seeds_are_tallied_each():
    runs = policygrad.train_seeds(GYMNAX, [0, 1], **TINY).runs
    for run in runs.values():
        check(run.metrics[-1], LENGTH)
    assert runs[0].metrics[-1]["info/success"] != runs[1].metrics[-1]["info/success"]


class Rounded(StockGymnaxChain):
    """A reward that is a sum of products, which compiled code may round once or twice."""

    def step_env(self, key, state, action, params):
        observation, state, reward, over, _ = super().step_env(key, state, action, params)
        parts = {"speed": 0.37 * state.x, "cost": 0.13 * reward * state.x, "square": state.x**2}
        reward = 1.7 * reward + parts["speed"] - parts["cost"] + 0.3 * parts["square"]
        return observation, state, reward, over, parts


class Silent(Rounded):
    def step_env(self, key, state, action, params):
        return *super().step_env(key, state, action, params)[:4], {}


@pytest.mark.parametrize(
    "episodes", [pytest.param(None, id="segments"), pytest.param(6, id="episodes", marks=slow)]
)
def test_infos_do_not_change_what_is_trained(episodes):
    batch = {"batch_steps": None, "batch_episodes": episodes} if episodes else {}
    runs = [policygrad.train(env(), **{**TINY, **batch}) for env in (Rounded, Silent)]
    ours, theirs = (
        [np.asarray(x) for x in jax.tree.leaves(run.agent.policy) if hasattr(x, "dtype")]
        for run in runs
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert runs[0].metrics[-1]["info/square"] > 0


def test_environments_without_numbers_leave_no_trace(tmp_path):
    class Discounted(StockGymnaxChain):
        def step_env(self, key, state, action, params):
            *row, _ = super().step_env(key, state, action, params)
            return *row, {"discount": 1.0, "text": "no number"}

    for env in (Discounted(), "gymnax/CartPole-v1"):
        source = open_source(env, 2)
        assert source.info_names == ()
        policy = MLPPolicy(source.observation_space.shape[0], 2)
        assert (
            source.segments(policy, jax.random.key(0), 4).collect(policy, jax.random.key(1)).infos
            is None
        )
    path = tmp_path / "run"
    run = policygrad.train(Discounted(), out=path, **TINY)
    assert not [name for name in run.metrics[-1] if name.startswith("info")]
    arrays, data = storage.load(sorted((path / "checkpoints").iterdir())[-1] / "state")
    assert not [name for name in arrays if name.startswith("infos")]
    assert "info_names" not in data


@pytest.mark.parametrize("env", params({"six values": SIX_VALUES, "protocol": OWN}, {"protocol"}))
def test_evaluation_has_the_last_number_of_each_episode(env):
    source, policy, key = open_source(env, 2), MLPPolicy(2, 2), jax.random.key(0)
    played = source.play(policy, key, episodes=5, max_steps=10, greedy=False)
    assert played.infos["parts/time"].tolist() == [LENGTH] * 5
    assert np.isin(played.infos["success"], (0, 1)).all()
    played = source.play(policy, key, episodes=5, max_steps=2, greedy=False)
    assert np.isnan(played.infos["success"]).all()
    agent = Agent(policy, source.observation_space, source.action_space)
    for noise in (0.0, 0.1):
        found = policygrad.evaluate(agent, env, episodes=4, observation_noise=noise).stochastic
        assert found.infos.keys() == {"parts/alive", "parts/time", "success"}
        assert found.infos["parts/time"] == (LENGTH, 4)


# ----- checkpoints


def infos_of(path):
    rows = [json.loads(x) for x in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k.startswith("info")} for row in rows]


def cut_run(path, env, episodes=None):
    """A run of 10 updates that a callback has ended after 4."""
    batch = {"batch_steps": None, "batch_episodes": episodes} if episodes else {"batch_steps": 28}
    settings = {**TINY, **batch, "total_steps": 280, "checkpoint_seconds": 0.0}
    policygrad.train(env, out=path.with_name("whole"), **settings)
    stop = lambda run: policygrad.STOP if run["update"] == 4 else None  # noqa: E731
    policygrad.train(env, out=path, on_update=stop, **settings)
    return path


@pytest.mark.parametrize("episodes", [None, 6], ids=["segments", "episodes"])
def test_a_resumed_run_logs_what_an_uninterrupted_one_logs(tmp_path, episodes):
    path = cut_run(tmp_path / "cut", GYMNAX, episodes)  # segments end within episodes
    policygrad.resume(path, env=GYMNAX)
    assert infos_of(path) == infos_of(tmp_path / "whole")
    assert infos_of(path)[-1].keys() == {*NAMES, *SUMS}


def resigned(path, change):
    """The newest checkpoint, with other arrays and data."""
    stem = sorted((path / "checkpoints").iterdir())[-1] / "state"
    arrays, data = storage.load(stem)
    arrays = change(arrays, data)
    storage.save(stem, arrays, {k: v for k, v in data.items() if k not in ("format", "sha256")})


def test_a_checkpoint_of_an_earlier_version_begins_a_tally(tmp_path):
    path = cut_run(tmp_path / "cut", GYMNAX)

    def earlier(arrays, data):
        del data["info_names"]
        return {k: x for k, x in arrays.items() if not k.startswith("infos/")}

    resigned(path, earlier)
    run = policygrad.resume(path, env=GYMNAX)
    assert run.summary["resumed_exactly"]
    # no sum of an episode whose beginning was not seen is among the means
    assert [row["info_sum/parts/alive"] for row in infos_of(path)] == [1.5] * 10
    assert [row["info_sum/parts/time"] for row in infos_of(path)] == [6.0] * 10


def test_other_names_begin_a_tally(tmp_path):
    path = cut_run(tmp_path / "cut", GYMNAX)

    class Other(StockGymnaxChain):
        def step_env(self, key, state, action, params):
            *row, _ = super().step_env(key, state, action, params)
            return *row, {"seven": 7}

    policygrad.resume(path, env=Other())
    assert infos_of(path)[-1] == {"info/seven": 7, "info_sum/seven": 21}


# ----- which values are numbers


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (True, 1.0),
        (2, 2.0),
        (2.5, 2.5),
        (np.float64(3.5), 3.5),
        (np.full((1, 1), 4.0), 4.0),
        (jnp.bfloat16(1.5), 1.5),
        (jnp.uint8(200), 200.0),
        (jnp.bool_(True), 1.0),
        (10**9, 1e9),
        ([3], None),
        ("1", None),
        (None, None),
        (np.ones(2), None),
        (jnp.complex64(1), None),
        (jax.random.key(0), None),
    ],
)
def test_a_number_of_a_program_is_a_scalar_that_is_real(value, number):
    found = traced_numbers({"a": {"b": value}, "episode": 1.0, "action_mask": 1.0})
    assert {k: float(x) for k, x in found.items()} == ({} if number is None else {"a/b": number})
    assert all(x.dtype == jnp.float32 and x.shape == () for x in found.values())


def test_names_are_bounded():
    class Naming(TellingOwn):
        def step(self, key, state, action):
            return *super().step(key, state, action)[:5], {f"{i:03}": i for i in range(300)}

    with pytest.warns(UserWarning, match="more than 256 names"):
        assert len(info_names(Naming())) == 256


@pytest.mark.parametrize("more", [(jnp.ones(3),), ({}, {}), (None,)])
def test_a_step_of_other_than_five_values_and_an_info_is_an_error(more):
    class Odd(TellingOwn):
        def step(self, key, state, action):
            return *super().step(key, state, action)[:5], *more

    with pytest.raises(UserError, match=r"Odd.step returns [67] values, expected"):
        open_source(Odd(), 2)


# ----- what reads them


def test_a_callback_that_reads_a_name_which_no_info_has_is_an_error():
    with pytest.raises(UserError, match="which no row holds"):
        keep = callbacks.keep_best("info/sucess", write=False)
        policygrad.train(TRUNCATED, on_update=keep, **TINY)
    keep = callbacks.keep_best("info/success", write=False)
    policygrad.train(TRUNCATED, on_update=keep, **TINY)
    assert keep.value is not None


class Passing(Collector):
    """Passes on the source's own records, with other infos."""

    def __init__(self, change):
        self._change = change

    def __call__(self, source, policy, key, config):
        self._inner = source.segments(policy, key, config.rows)
        return self

    def collect(self, policy, key, episodes=None):
        record = self._inner.collect(policy, key)
        return self._change(record)


def test_a_collector_of_ones_own_may_pass_infos_on():
    check(row_of(GYMNAX, collector=Passing(lambda record: record)), LENGTH)
    row = row_of(GYMNAX, collector=Passing(lambda r: replace(r, infos=None)))
    assert not [name for name in row if name.startswith("info")]
    with pytest.raises(UserError, match=r"infos must have the shape \[T, 4, 4\].*'success'"):
        row_of(GYMNAX, collector=Passing(lambda r: replace(r, infos=r.infos[..., :2])))


# ----- EnvPool


class TestPool:
    """With EnvPool itself, where it is installed."""

    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("envpool")

    def test_the_engines_counters_are_left_out(self):
        assert open_source("envpool/CartPole-v1", 2).info_names == ()
        names = "reward_ctrl", "reward_run", "x_position", "x_velocity"
        assert open_source("envpool/HalfCheetah-v5", 2).info_names == names

    def test_compiled_segments_give_the_infos_of_the_host(self):
        ours, theirs = (
            make("envpool/HalfCheetah-v5", 3, kwargs={"max_episode_steps": 7}) for _ in "ab"
        )
        source = open_source("envpool/HalfCheetah-v5", 3, kwargs={"max_episode_steps": 7})
        policy = policygrad.policies.network_policy(
            jax.random.key(0), ours.observation_space, ours.action_space
        )
        pooled = source.segments(policy, jax.random.key(5), 20)
        host = HostSegments(theirs, policy, 20, seed=pooled._seed)
        tally = EpisodeTally.init(3, len(source.info_names))
        for i in range(3):
            key = jax.random.key(i)
            tally = tally.update(pooled.collect(policy, key))
            host.collect(policy, key)
        means = np.asarray(tally.infos.means())
        found = host.infos()
        assert found.keys() == {f"{k}/{n}" for k in ("info", "info_sum") for n in source.info_names}
        for i, name in enumerate(source.info_names):
            np.testing.assert_allclose(means[0, i], found[f"info/{name}"], rtol=1e-4)
            np.testing.assert_allclose(means[1, i], found[f"info_sum/{name}"], rtol=1e-4)

    @pytest.mark.parametrize(
        "episodes", [pytest.param(None, id="segments"), pytest.param(4, id="episodes", marks=slow)]
    )
    def test_runs_log_them_and_evaluations_have_them(self, episodes):
        batch = {"batch_steps": None, "batch_episodes": episodes} if episodes else {}
        settings = {**TINY, **batch, "env_kwargs": {"max_episode_steps": 5}}
        run = policygrad.train("envpool/Hopper-v5", **settings)
        names = {name for name in run.metrics[-1] if name.startswith("info")}
        assert names == {
            f"{k}/x_{n}" for k in ("info", "info_sum") for n in ("position", "velocity")
        }
        found = policygrad.evaluate(run, episodes=3).deterministic.infos
        assert found.keys() == {"x_position", "x_velocity"}
        assert found["x_position"].episodes == 3

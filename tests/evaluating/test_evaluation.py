import importlib.util
import json
import warnings
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad
from policygrad.core.errors import EnvironmentFailure, NonFiniteError, RunError, UserError
from policygrad.evaluating import CutShort
from policygrad.maths.distributions import Categorical
from policygrad.policies.agent import Agent
from policygrad.rollout import open_source
from policygrad.runs import RunDirectory
from policygrad.watching import films, strip
from tests.worlds import DUCK, TINY, Chain, DuckChain, DuckEndless, Echo, Endless, Lottery


def always(action, actions=2, observations=None):
    """An agent that takes one action greedily, and any when it samples."""
    logits = jnp.zeros(actions).at[action].set(1.0)
    space = Chain().observation_space if observations is None else observations
    return Agent(lambda observation: Categorical(logits), space, spaces.Discrete(actions))


@pytest.mark.parametrize("env", [Chain, DUCK], ids=["host", "compiled"])
def test_returns_by_hand(env):
    result = policygrad.evaluate(always(1), env, episodes=7, num_envs=3)
    # x: 1, 1.5, 1.75; rewards: x + t/4
    assert result.deterministic.returns == [4.25 + 0.75] * 7
    assert result.deterministic.mean == 5.0
    assert result.deterministic.ci95 == (5.0, 5.0)
    assert result.deterministic.length_mean == 3
    assert len(set(result.stochastic.returns)) > 1


def test_host_and_compiled_agree_on_the_greedy_policy():
    ours, theirs = (policygrad.evaluate(always(0), e, episodes=4) for e in (Chain, DUCK))
    assert ours.deterministic == theirs.deterministic


@pytest.mark.parametrize("env", [Endless, DuckEndless()], ids=["host", "compiled"])
def test_endless_episodes_are_capped(env):
    space = (env() if isinstance(env, type) else env).observation_space
    result = policygrad.evaluate(
        always(1, observations=space), env, episodes=5, num_envs=2, max_episode_steps=30
    )
    for returns in (result.deterministic, result.stochastic):
        assert returns.length_mean == 30
        assert returns.unfinished == 5
        assert np.isfinite(returns.mean)


class Traced(DuckChain):
    """Counts how often its step is traced for a program."""

    traced = 0

    def step(self, key, state, action, params):
        self.traced += 1
        return super().step(key, state, action, params)


def test_second_evaluation_compiles_nothing():
    env, agent = Traced(), always(1)
    first = policygrad.evaluate(agent, env, episodes=4)
    traced, env.traced = env.traced, 0
    assert traced > 0
    assert policygrad.evaluate(agent, env, episodes=4) == first
    assert env.traced == 0


def test_evaluation_has_no_bias_towards_short_episodes():
    """Odds of a false alarm: z = 4.5, one in 150,000; the seed is fixed."""
    agent = always(0, observations=Lottery.observation_space)
    result = policygrad.evaluate(agent, Lottery, episodes=900, num_envs=8).stochastic
    assert result.length_mean == result.mean
    assert abs(result.mean - 5) < 4.5 * 4 / np.sqrt(900)


def test_same_seed_same_returns_whatever_was_trained_between(trained):
    one = policygrad.evaluate(trained, episodes=6, seed=2)
    two = policygrad.evaluate(trained.path, episodes=6, seed=2)
    assert one == two
    assert one != policygrad.evaluate(trained, episodes=6, seed=3)
    json.dumps(one.to_json())


def test_arguments_of_the_environment_are_remembered(tmp_path):
    path = tmp_path / "a"
    run = policygrad.train("Pendulum-v1", env_kwargs={"max_episode_steps": 9}, out=path, **TINY)
    assert policygrad.evaluate(path, episodes=2).stochastic.length_mean == 9
    assert policygrad.evaluate(run, episodes=2).stochastic.length_mean == 9


def test_longer_time_limit_is_not_cut_at_the_registered_one(tmp_path):
    path = tmp_path / "a"
    policygrad.train("Pendulum-v1", env_kwargs={"max_episode_steps": 230}, out=path, **TINY)
    result = policygrad.evaluate(path, episodes=2).stochastic
    assert (result.length_mean, result.unfinished) == (230, 0)


def test_run_of_an_object_is_evaluated_where_it_was_trained(tmp_path):
    run = policygrad.train(Chain, out=tmp_path / "a", **TINY)
    assert policygrad.evaluate(run, episodes=2).stochastic.length_mean == 3
    with pytest.raises(
        UserError, match=r"no environment to evaluate in: .* trained in .*Chain"
    ) as e:
        policygrad.evaluate(tmp_path / "a", episodes=2)
    assert "a function that makes the environment" in str(e.value)
    assert policygrad.evaluate(tmp_path / "a", Chain, episodes=2).stochastic.length_mean == 3


class Chains:
    """An engine of one id."""

    def open(self, env_id, num_envs, *, processes=False, kwargs=None):
        return open_source(Chain, num_envs)


def test_engine_that_was_an_object_is_passed_again(tmp_path):
    path = tmp_path / "a"
    run = policygrad.train("chain", engine=Chains(), out=path, **TINY)
    for env in (None, "chain"):
        assert policygrad.evaluate(run, env, episodes=2).stochastic.length_mean == 3
        result = policygrad.evaluate(path, env, engine=Chains(), episodes=2)
        assert result.stochastic.length_mean == 3
        with pytest.raises(UserError, match=r"an engine passed as an object; .* engine=\.\.\."):
            policygrad.evaluate(path, env, episodes=2)


@pytest.mark.parametrize(
    ("observations", "actions"),
    [
        (spaces.Box(-np.inf, np.inf, (3,)), spaces.Discrete(2)),
        (spaces.Discrete(2), spaces.Discrete(2)),
        (spaces.Dict({"a": spaces.Discrete(2)}), spaces.Discrete(2)),
        (Chain().observation_space, spaces.Discrete(3)),
        (Chain().observation_space, spaces.Box(-1, 1, (2,))),
    ],
    ids=["shape", "kind", "dict", "number of actions", "kind of action"],
)
def test_environment_with_other_spaces_is_refused(observations, actions):
    with pytest.raises(UserError, match="space is"):
        policygrad.evaluate(always(0), lambda: Echo(observations, actions), episodes=1)


def test_environment_with_other_entries_of_a_dict_is_refused():
    ours, theirs = (spaces.Dict({k: spaces.Box(-1, 1, (1,))}) for k in "ab")
    run = policygrad.train(lambda: Echo(ours, spaces.Discrete(2)), **TINY)
    with pytest.raises(UserError, match="observation space is"):
        policygrad.evaluate(run, lambda: Echo(theirs, spaces.Discrete(2)), episodes=1)


def test_numbers_out_of_range():
    for name in ("episodes", "num_envs", "max_episode_steps"):
        with pytest.raises(UserError, match=f"{name.replace('_', '-')} must be at least 1, got 0"):
            policygrad.evaluate(always(0), Chain, **{name: 0})


def test_sampled_actions_follow_the_distribution():
    """Rewards that tell the action; the odds of a false alarm are one in 150,000 (z = 4.5)."""
    space = spaces.Box(-1, 1, (2,))
    agent = always(1, observations=space)
    result = policygrad.evaluate(agent, lambda: Echo(space, spaces.Discrete(2)), episodes=300)
    p = float(jax.nn.sigmoid(1.0))
    assert abs(result.stochastic.mean - 5 * p) < 4.5 * np.sqrt(5 * p * (1 - p) / 300)
    assert result.deterministic.mean == 5


# ----- elsewhere: other arguments, wrappers, noise


class Slow(gymnasium.RewardWrapper):
    """Half the reward."""

    def reward(self, reward):
        return float(reward) / 2


def doubled(env):
    return gymnasium.wrappers.TransformReward(env, lambda reward: 2 * reward)


def test_wrappers_are_put_around_in_order():
    plain = policygrad.evaluate(always(1), Chain, episodes=3)
    for wrappers, factor in (([Slow], 0.5), ([doubled], 2), ([Slow, doubled], 1)):
        result = policygrad.evaluate(always(1), Chain, episodes=3, wrappers=wrappers)
        assert result.deterministic.mean == factor * plain.deterministic.mean
    assert result.wrappers == ["Slow", "doubled"]


@pytest.mark.parametrize(
    ("env", "wrappers", "words"),
    [
        (DUCK, [Slow], "one environment at a time"),
        ("gymnax/CartPole-v1", [Slow], "such as gymnasium/CartPole-v1"),
        (Chain, ["Slow"], "functions or classes"),
        (Chain, [lambda env: 1 / 0], "cannot be put around"),
        (Chain, [gymnasium.wrappers.ClipReward], "ClipReward cannot be put around"),
        (Chain, [lambda env: gymnasium.wrappers.FrameStackObservation(env, 2)], "space is"),
    ],
)
def test_wrappers_that_do_not_fit_are_named(env, wrappers, words):
    agent = always(1)
    with pytest.raises((UserError, EnvironmentFailure), match=words):
        policygrad.evaluate(agent, env, episodes=2, wrappers=wrappers)


@pytest.mark.parametrize("env", [Chain, DUCK], ids=["host", "compiled"])
def test_observation_noise_changes_what_is_seen_alone(env):
    agent = always(1)
    noisy = policygrad.evaluate(agent, env, episodes=3, observation_noise=5.0)
    assert noisy.deterministic == policygrad.evaluate(agent, env, episodes=3).deterministic
    assert noisy.to_json()["observation_noise"] == 5.0


def test_case_01_evaluate_has_the_runs_own_arguments(tmp_path):
    kwargs = {"max_episode_steps": 9}
    path = tmp_path / "a"
    run = policygrad.train("Pendulum-v1", env_kwargs=kwargs, out=path, **TINY)
    ways = [run, path, str(path), path / "policy.json", RunDirectory(path).newest_checkpoint()]
    for way in ways:
        for env in (None, "Pendulum-v1"):
            result = policygrad.evaluate(way, env, episodes=2)
            assert (result.stochastic.length_mean, result.env_kwargs) == (9, kwargs)
    other = policygrad.evaluate(path, env_kwargs={"max_episode_steps": 7}, episodes=2)
    assert other.stochastic.length_mean == 7
    assert policygrad.evaluate(run, env_kwargs={}, episodes=2).stochastic.length_mean == 200
    with pytest.warns(UserWarning, match=r"\{'max_episode_steps': 9\} .* are not passed"):
        result = policygrad.evaluate(path, lambda: gymnasium.make("Pendulum-v1"), episodes=2)
    assert (result.stochastic.length_mean, result.env_kwargs) == (200, {})


def test_quantiles_are_those_of_the_returns():
    result = policygrad.evaluate(
        always(0, observations=Lottery.observation_space), Lottery, episodes=50
    ).stochastic
    for level, value in result.quantiles.items():
        assert value == np.quantile(result.returns, float(level))


class Broken(Chain):
    """One observation or reward that is not finite, in its third step."""

    def __init__(self, what):
        super().__init__(5)
        self.what = what

    def step(self, action):
        observation, reward, *rest = super().step(action)
        bad = self.time == 3
        if self.what == "observation":
            return np.where(bad, np.float32(np.nan), observation), reward, *rest
        return observation, np.inf if bad else reward, *rest


class DuckBroken(DuckChain):
    def __init__(self, what):
        super().__init__(5)
        self.what = what

    def step(self, key, state, action, params):
        observation, state, reward, *ends, info = super().step(key, state, action, params)
        bad = jnp.where(state.time == 3, jnp.nan, 1.0)
        if self.what == "observation":
            info["final_observation"] *= bad
            return observation * bad, state, reward, *ends, info
        return observation, state, reward * bad, *ends, info


@pytest.mark.parametrize("what", ["observation", "reward"])
@pytest.mark.parametrize("kind", [Broken, DuckBroken])
def test_numbers_that_are_not_finite_are_an_error(kind, what):
    env = kind(what) if kind is DuckBroken else partial(kind, what)
    with pytest.raises(NonFiniteError, match=what):
        policygrad.evaluate(always(1), env, episodes=4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1), ("seed", True), ("seed", 1.5), ("seed", 2**31), ("episodes", True),
        ("episodes", 2.0), ("episodes", "3"), ("num_envs", 0), ("num_envs", 1.0),
        ("max_episode_steps", False), ("max_episode_steps", 0), ("episodes", None),
    ],
)  # fmt: skip
def test_fault_19_counts_and_seeds_are_checked(name, value):
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')} must be "):
        policygrad.evaluate(always(1), Chain, **{name: value})


def test_case_12_what_is_no_run_is_named(trained, tmp_path):
    with pytest.raises(UserError, match=r"got NetworkPolicy; .*Agent"):
        policygrad.evaluate(trained.policy, "CartPole-v1")
    with pytest.raises(UserError, match="takes a run"):
        policygrad.evaluate([trained])
    with pytest.raises(RunError, match="no run or policy at nowhere"):
        policygrad.evaluate("nowhere")
    runs = policygrad.train_seeds("gymnax/CartPole-v1", [0, 1], out=tmp_path / "s", **TINY)
    with pytest.raises(UserError, match="takes a run"):
        policygrad.evaluate(runs)
    with pytest.raises(UserError, match="holds the runs of 2 seeds; pass one of them"):
        policygrad.evaluate(tmp_path / "s")


# ----- videos


class Drawn(Chain):
    """An environment that draws itself."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012

    def __init__(self, render_mode=None, picture=(8, 8, 3)):
        super().__init__()
        self.render_mode, self.picture = render_mode, picture

    def render(self):
        return np.full(self.picture, self.time, np.uint8)


@pytest.fixture
def recorded(monkeypatch):
    """Stands in for ffmpeg; what was written: name of the file -> number of pictures."""
    found = {}

    class Writer:
        def __init__(self, path, fps, first):
            self.name, found[path.name.split(".")[1]] = path.name.split(".")[1], 0
            path.write_bytes(b"video")

        def add(self, picture, times):
            assert picture.shape == (400, 400 + strip.WIDTH, 3)
            found[self.name] += times

        def close(self):
            pass

    monkeypatch.setattr(films, "_Mp4", Writer)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: name == "imageio_ffmpeg" or real(name, *a)
    )
    return found


WAYS = ("deterministic", "stochastic")


def test_case_32_videos_of_the_first_episodes_of_each_way(recorded, tmp_path):
    result = policygrad.evaluate(always(1), Drawn, episodes=5, video=tmp_path / "v")
    assert result.deterministic.mean == 5.0
    names = [f"{way}-episode-{i}" for way in WAYS for i in range(3)]
    assert recorded == dict.fromkeys(names, 3 + round(0.7 * 5))  # the last picture stays
    assert {path.name for path in (tmp_path / "v").iterdir()} == {f"{n}.mp4" for n in names}
    recorded.clear()
    policygrad.evaluate(always(1), Drawn, episodes=1, video=tmp_path / "v")
    assert list(recorded) == [f"{way}-episode-0" for way in WAYS]


def test_what_is_filmed_is_what_is_evaluated_without_a_film(recorded, tmp_path):
    clipped = partial(gymnasium.wrappers.ClipReward, min_reward=-1, max_reward=1)
    how = {"episodes": 5, "observation_noise": 0.1, "wrappers": [clipped]}
    filmed = policygrad.evaluate(always(1), Drawn, video=tmp_path / "v", **how)
    assert filmed == policygrad.evaluate(always(1), Drawn, num_envs=1, **how)
    assert len(recorded) == 6


def test_every_second_episode_is_filmed(recorded, tmp_path):
    policygrad.evaluate(always(1), Drawn, episodes=5, video=tmp_path / "v", video_every=2)
    assert list(recorded) == [f"{way}-episode-{i}" for way in WAYS for i in (0, 2, 4)]
    with pytest.raises(UserError, match="--video-every 2 says which episodes are filmed"):
        policygrad.evaluate(always(1), Drawn, episodes=5, video_every=2)
    with pytest.raises(UserError, match="--video-every must be at least 1, got 0"):
        policygrad.evaluate(always(1), Drawn, video=tmp_path, video_every=0)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (Chain, "cannot be made with render_mode"),
        (partial(Drawn, picture=(8, 8)), r"must return a picture \[height, width, 3\]"),
        (DUCK, "DuckChain does not draw itself, which a video needs"),
        ("gymnax/MemoryChain-bsuite", "MemoryChain-bsuite does not draw itself, which a video"),
        (lambda: Chain(), "cannot be made with render_mode"),
        (open_source(DUCK, 2), "CompiledSource does not draw itself"),
        (gymnasium.vector.SyncVectorEnv([Drawn]), "one environment at a time"),
    ],
)
def test_case_32_what_cannot_be_drawn_is_named(recorded, env, words, tmp_path):
    with pytest.raises(UserError, match=words):
        policygrad.evaluate(always(1), env, episodes=1, video=tmp_path)
    assert recorded == {}


def test_case_32_a_video_needs_its_package(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None)
    with pytest.raises(UserError, match=r"pip install 'policygrad\[video\]'"):
        policygrad.evaluate(always(1), Drawn, episodes=1, video=tmp_path)


# ----- whose arguments


class Paying(Chain):
    def __init__(self, reward=1.0):
        super().__init__()
        self.reward = reward

    def step(self, action):
        observation, _, *ends = super().step(action)
        return observation, self.reward, *ends


def test_a_class_that_is_passed_again_gets_the_arguments_of_its_run(tmp_path):
    out = tmp_path / "a"
    policygrad.train(Paying, env_kwargs={"reward": 7.0}, out=out, **TINY)
    assert policygrad.evaluate(out, env=Paying, episodes=2).stochastic.mean == 21
    assert policygrad.evaluate(out, env=Paying, env_kwargs={}, episodes=2).stochastic.mean == 3
    found = policygrad.diagnose(out, env=Paying, episodes=8, gradients=False)
    assert found.examination.sample.returns.mean == 21


def test_an_instance_has_arguments_of_its_own():
    kwargs = {"sutton_barto_reward": True}
    run = policygrad.train("CartPole-v1", env_kwargs=kwargs, **TINY)
    with pytest.warns(UserWarning, match="not passed to another one"):
        made = policygrad.evaluate(run, env=gymnasium.make("CartPole-v1"), episodes=2)
    assert made.stochastic.mean > 5
    assert policygrad.evaluate(run, env="CartPole-v1", episodes=2).stochastic.mean == -1


# ----- a cap that nobody asked for


class Long(Chain):
    """Most episodes are longer than the cap of the test."""

    def __init__(self):
        super().__init__(length=25)


CAPPED = {
    "never ends": Endless,
    "never ends, compiled": DuckEndless(),
    "ends later": Long,
    "truncates later": partial(Chain, length=25, terminates=False),
    "behind a wrapper": lambda: gymnasium.wrappers.OrderEnforcing(Endless()),
    "in a vector": gymnasium.vector.SyncVectorEnv([Endless] * 2),
}


@pytest.mark.parametrize("env", CAPPED.values(), ids=CAPPED)
def test_further_episodes_that_are_stopped_at_a_cap_are_told(env, monkeypatch):
    monkeypatch.setattr("policygrad.core.usual.LONGEST_EPISODE", 20)
    agent = always(1, observations=open_source(env, 1).observation_space)
    with pytest.warns(UserWarning, match="still running after 20 steps and were stop") as caught:
        result = policygrad.evaluate(agent, env, episodes=2, num_envs=2)
    assert len(caught) == 1
    assert (result.deterministic.unfinished, result.stochastic.length_mean) == (2, 20)


def test_a_cap_that_was_asked_for_is_not_told(monkeypatch):
    monkeypatch.setattr("policygrad.core.usual.LONGEST_EPISODE", 20)
    result = policygrad.evaluate(always(1), Long, episodes=2, max_episode_steps=10)
    assert result.stochastic.unfinished == 2
    result = policygrad.evaluate(always(1), partial(Chain, length=20), episodes=2)
    assert result.stochastic.unfinished == 0


def test_a_cap_is_told_once_where_callbacks_evaluate(monkeypatch):
    monkeypatch.setattr("policygrad.core.usual.LONGEST_EPISODE", 20)
    found = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        policygrad.train(Endless, on_update=lambda run: found.append(run.evaluate(2)), **TINY)
    assert len(found) == 2
    assert [w.category for w in caught] == [CutShort]

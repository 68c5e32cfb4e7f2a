"""`policygrad.watch`: which policy, which episodes, which file."""

import importlib.util
import shutil

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad
from policygrad.core.errors import EnvironmentFailure, NonFiniteError, RunError, UserError
from policygrad.maths.distributions import Categorical
from policygrad.policies.agent import Agent
from tests.evaluating.test_evaluation import Drawn, always
from tests.watching.test_films import read_gif
from tests.worlds import TINY, Remembering


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A run in an environment that draws itself."""
    return policygrad.train(Drawn, out=tmp_path_factory.mktemp("drawn") / "run", **TINY)


def test_the_episodes_and_the_file(tmp_path):
    out = tmp_path / "new" / "a.gif"
    told = []
    found = policygrad.watch(
        always(1), Drawn, out=out, episodes=2, deterministic=True, on_step=told.append
    )
    assert found.returns == [5.0, 5.0]
    assert (found.lengths, found.unfinished) == ([3, 3], [False, False])
    assert (found.path, found.way, found.fps) == (out, "deterministic", 5.0)
    pictures, durations = read_gif(out)
    assert sum(durations) == found.frames / found.fps * 1000 == 2 * (3 + 4) * 200
    assert [int(p[200, 200, 0]) for p in pictures] == [0, 1, 2] * 2  # what the policy acted on
    assert [t.steps for t in told] == [1, 2, 3] * 2
    assert found.to_json()["path"] == str(out)


def test_it_acts_as_an_evaluation_does(tmp_path):
    found = policygrad.watch(always(1), Drawn, out=tmp_path / "a.gif", episodes=4, seed=3)
    same = policygrad.evaluate(always(1), Drawn, episodes=4, seed=3, num_envs=1).stochastic
    assert found.returns == same.returns
    assert len(set(found.returns)) > 1
    again = policygrad.watch(always(1), Drawn, out=tmp_path / "b.gif", episodes=4, seed=3)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    assert again.returns == found.returns
    other = policygrad.watch(always(1), Drawn, out=tmp_path / "b.gif", episodes=4, seed=4)
    assert other.returns != found.returns


def test_a_run_its_directory_and_its_files(drawn, tmp_path, monkeypatch):
    from_run = policygrad.watch(drawn, out=tmp_path / "a.gif")
    again = {"env": Drawn, "out": tmp_path / "b.gif"}  # no file holds a class
    checkpoint = next((drawn.path / "checkpoints").glob("*.safetensors"), None)
    for path in (drawn.path, drawn.path / "policy.safetensors", checkpoint):
        if path is not None:
            assert policygrad.watch(path, **again).returns == from_run.returns
    with pytest.raises(UserError, match="no environment to evaluate in"):
        policygrad.watch(drawn.path, out=tmp_path / "b.gif")


def test_the_usual_file_is_in_the_runs_directory(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("policygrad.evaluating.watching.USUAL_NAME", "watch.gif")
    copy = tmp_path / "copy"
    shutil.copytree(drawn.path, copy)
    for run in (copy, str(copy / "policy.safetensors")):
        assert policygrad.watch(run, Drawn).path == copy / "watch.gif"
        (copy / "watch.gif").unlink()
    assert policygrad.watch(drawn).path == drawn.path / "watch.gif"
    with pytest.raises(UserError, match=r"give out=FILE.mp4"):
        policygrad.watch(always(1), Drawn)


def test_memory(tmp_path):
    policy = Remembering(jnp.array([[0.5, -0.1], [-0.4, 0.3]]))
    agent = Agent(policy, Drawn().observation_space, Drawn().action_space)
    found = policygrad.watch(agent, Drawn, out=tmp_path / "a.gif", episodes=3)
    same = policygrad.evaluate(agent, Drawn, episodes=3, num_envs=1).stochastic
    assert found.returns == same.returns


class Masked(Drawn):
    """Permits the action 0 alone, by its infos."""

    def reset(self, **kwargs):
        return super().reset(**kwargs)[0], {"action_mask": np.array([1, 0], np.int8)}

    def step(self, action):
        assert action == 0
        return *super().step(action)[:4], {"action_mask": np.array([1, 0], np.int8)}


def test_masks_beside_observations(tmp_path):
    space = spaces.Dict(
        {"observation": Drawn().observation_space, "action_mask": spaces.MultiBinary(2)}
    )
    agent = Agent(
        lambda seen: Categorical(jnp.zeros(2), seen["action_mask"] > 0), space, spaces.Discrete(2)
    )
    found = policygrad.watch(agent, Masked, out=tmp_path / "a.gif", episodes=3)
    assert found.lengths == [3, 3, 3]


def test_the_cap(tmp_path):
    found = policygrad.watch(always(1), Drawn, out=tmp_path / "a.gif", max_episode_steps=2)
    assert (found.lengths, found.unfinished, found.frames) == ([2], [True], 2)


@pytest.mark.slow
def test_minatar_and_its_file(tmp_path):
    run = policygrad.train("gymnax/Breakout-MinAtar", out=tmp_path / "run", num_envs=4,
                           batch_steps=32, total_steps=32)  # fmt: skip
    found = policygrad.watch(run.path, out=tmp_path / "a.gif", max_episode_steps=8)
    pictures, _ = read_gif(tmp_path / "a.gif")
    assert pictures[0].shape == (400, 664, 3)
    assert found.fps == 10


class Broken(Drawn):
    """Misbehaves at its second step."""

    def __init__(self, render_mode=None, what=""):
        super().__init__(render_mode)
        self.what = what

    def step(self, action):
        observation, reward, *rest = super().step(action)
        if self.time == 2 and self.what == "step":
            raise ZeroDivisionError
        return observation, (np.nan if self.what == "nan" else reward), *rest

    def render(self):
        if self.time == 2 and self.what == "render":
            raise ZeroDivisionError
        return super().render()


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("step", EnvironmentFailure, "raised ZeroDivisionError at step 2"),
        ("nan", NonFiniteError, "nan in the reward"),
        ("render", EnvironmentFailure, "raised ZeroDivisionError when it was drawn"),
    ],
)
def test_a_failure_leaves_the_file_that_was_there(tmp_path, what, error, words):
    out = tmp_path / "a.gif"
    out.write_bytes(b"before")
    with pytest.raises(error, match=words):
        policygrad.watch(always(1), Broken, env_kwargs={"what": what}, out=out)
    assert out.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"episodes": 0}, "--episodes must be at least 1, got 0"),
        ({"episodes": 1.5}, "--episodes must be a whole number, got 1.5"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"max_episode_steps": 0}, "--max-episode-steps must be at least 1"),
        ({"fps": 0}, "--fps must be above 0 and at most 1000, got 0"),
        ({"fps": "x"}, "--fps must be above 0 and at most 1000, got 'x'"),
        ({"fps": float("nan")}, "--fps must be above 0"),
        ({"out": "a.avi"}, "a video ends in .mp4 or .gif, got a.avi"),
        ({"out": 3}, "a path must be text"),
        ({"env": gymnasium.Env}, "cannot be made"),
        ({"env": "gymnax/MemoryChain-bsuite"}, "does not draw itself"),
        ({"env": "gymnax/Breakout-MinAtar"}, "the policy's observation space is"),
        ({"wrappers": [3]}, "wrappers are functions or classes"),
        ({"engine": object()}, "engine"),
    ],
)
def test_mistakes(tmp_path, monkeypatch, how, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        policygrad.watch(always(1), **{"env": Drawn, "out": "a.gif", **how})
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_watched():
    with pytest.raises(UserError, match="takes a run, an Agent or a path, got int"):
        policygrad.watch(3, Drawn, out="a.gif")
    with pytest.raises(RunError, match="no run or policy at nowhere"):
        policygrad.watch("nowhere", Drawn, out="a.gif")


def test_the_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None)
    with pytest.raises(UserError, match=r"pip install 'policygrad\[video\]'"):
        policygrad.watch(always(1), Drawn, out=tmp_path / "a.mp4")

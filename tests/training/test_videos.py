"""Videos of a run as it goes on."""

import importlib.util
import warnings

import jax
import numpy as np
import pytest

import policygrad
from policygrad.core.errors import UserError
from policygrad.watching import films
from tests.evaluating.test_evaluation import Drawn, recorded  # noqa: F401
from tests.worlds import TINY, Chain

LONG = TINY | {"total_steps": 32 * 6}


def weights(run):
    return [np.asarray(x) for x in jax.tree.leaves(run.policy) if hasattr(x, "shape")]


@pytest.mark.parametrize("env", [Drawn, "gymnax/Breakout-MinAtar"], ids=["host", "compiled"])
def test_training_does_not_notice(recorded, env, tmp_path):  # noqa: F811
    size = {"hidden": (8,)} if env is Drawn else {"hidden": (16,), "network": "minatar"}
    settings = {**LONG, **size, "memory": None}
    plain = policygrad.train(env, out=tmp_path / "plain", **settings)
    cap = {"max_episode_steps": 4}
    ways = {
        "setting": {"video_every": 64},
        "callback": {"on_update": policygrad.callbacks.video(64, **cap)},
    }
    for name, how in ways.items():
        run = policygrad.train(env, out=tmp_path / name, **settings, **how)
        for ours, theirs in zip(weights(run), weights(plain), strict=True):
            assert np.array_equal(ours, theirs)
        found = sorted(path.name for path in (run.path / "videos").iterdir())
        assert found == ["step-128.mp4", "step-192.mp4", "step-64.mp4"]


def test_a_resumed_run_goes_on_filming(recorded, tmp_path):  # noqa: F811
    policygrad.train(Drawn, out=tmp_path / "a", video_every=64, **{**LONG, "total_steps": 96})
    assert [p.name for p in (tmp_path / "a" / "videos").iterdir()] == ["step-64.mp4"]
    run = policygrad.resume(tmp_path / "a", env=Drawn, total_steps=160)
    assert sorted(p.name for p in (run.path / "videos").iterdir()) == [
        "step-128.mp4", "step-64.mp4",
    ]  # fmt: skip
    policygrad.resume(tmp_path / "a", env=Drawn, total_steps=224, video_every=0)
    assert len(list((run.path / "videos").iterdir())) == 2


@pytest.mark.slow
def test_seeds_are_filmed_too(recorded, tmp_path):  # noqa: F811
    settings = {**LONG, "hidden": (16,), "network": "minatar", "video_every": 64}
    runs = policygrad.train_seeds("gymnax/Breakout-MinAtar", [0, 1], out=tmp_path / "s", **settings)
    for run in runs:
        assert len(list((run.path / "videos").iterdir())) == 3


@pytest.mark.parametrize(
    ("env", "package", "words"),
    [
        (Chain, True, "Chain cannot be made with render_mode"),
        (Drawn, False, r"pip install 'policygrad\[video\]'"),
        ("gymnax/MemoryChain-bsuite", True, "does not draw itself"),
    ],
)
def test_what_cannot_be_filmed_is_said_before_the_run(monkeypatch, tmp_path, env, package, words):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec",
        lambda name, *a: (package or None) if name == "imageio_ffmpeg" else real(name, *a),
    )  # fmt: skip
    with pytest.raises(UserError, match=words):
        policygrad.train(env, out=tmp_path / "run", video_every=32, **TINY)
    assert list(tmp_path.iterdir()) == []
    callback = policygrad.callbacks.video(32)
    with pytest.raises(UserError, match=words):
        policygrad.train(env, out=tmp_path / "run", on_update=callback, **TINY)


def test_a_directory_is_needed(recorded):  # noqa: F811
    with pytest.raises(UserError, match="--video-every writes into the run directory"):
        policygrad.train(Drawn, video_every=32, **TINY)
    with pytest.raises(UserError, match="--video-every writes into the run directory"):
        policygrad.train_seeds(Drawn, [0], video_every=32, **TINY)
    with pytest.raises(UserError, match="videos are written into the run directory"):
        policygrad.train(Drawn, on_update=policygrad.callbacks.video(32), **TINY)


def test_a_film_that_fails_is_a_warning(recorded, monkeypatch, tmp_path):  # noqa: F811
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(films, "_Mp4", full)
    with pytest.warns(UserWarning, match=r"no video of step 64: cannot write the video .*No space"):
        run = policygrad.train(Drawn, out=tmp_path / "run", video_every=64, **TINY)
    assert run.summary["env_steps"] == 64


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((0,), {}), "at least 1 step between two videos, got 0"),
        (((1.5,), {}), "got 1.5"),
        ((("x",), {}), "got 'x'"),
        (((64,), {"fsp": 3}), "video takes no argument 'fsp'; did you mean fps"),
        (((64,), {"out": "x.mp4"}), "video takes no argument 'out'"),
    ],
)
def test_mistakes(arguments, words):
    positional, named = arguments
    with pytest.raises(UserError, match=words):
        policygrad.callbacks.video(*positional, **named)


def test_the_setting_is_checked():
    with warnings.catch_warnings(), pytest.raises(UserError, match="--video-every must be"):
        policygrad.TrainConfig(video_every=-1)

"""`policygrad watch`, and the flags of videos."""

import sys
import types

import pytest

from policygrad.cli import watch as watching
from policygrad.watching import Told
from tests.cli.test_commands import command, parsed, refused  # noqa: F401

SMALL = ["--num-envs", "4", "--batch-steps", "32", "--total-steps", "32"]


@pytest.fixture(scope="module")
def minatar(tmp_path_factory):
    import policygrad

    out = tmp_path_factory.mktemp("minatar") / "run"
    policygrad.train("gymnax/Breakout-MinAtar", out=out, num_envs=4, batch_steps=32, total_steps=32)
    return out


def test_a_video_and_what_is_said_of_it(command, minatar, tmp_path):  # noqa: F811
    flags = ["--out", "a.gif", "--episodes", "2", "--max-episode-steps", "5", "--seed", "1"]
    code, out, _ = command("watch", minatar, *flags)
    assert code == 0
    assert out.startswith("a.gif: gymnax/Breakout-MinAtar, stochastic, returns ")
    code, out, err = command("watch", minatar, *flags, "--json", "--deterministic", "--fps", "50")
    data = parsed(out)
    assert (code, err) == (0, "")
    assert (data["path"], data["way"], data["fps"]) == ("a.gif", "deterministic", 50)
    assert data["lengths"] == [5, 5]
    assert len(data["returns"]) == len(data["unfinished"]) == 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--out a.avi", "a video ends in .mp4 or .gif"),
        ("--out a.gif --episodes 0", "--episodes must be at least 1"),
        ("--out a.gif --fps -3", "--fps must be above 0"),
        ("--out a.gif --env gymnax/MemoryChain-bsuite", "does not draw itself"),
        ("--out a.gif --env-kwargs {", "is not JSON"),
        ("--out a.gif --wrapper x", "takes module:Class"),
        ("--out a.gif --env gymnasium/NoSuch-v0", "unknown environment"),
    ],
)
def test_mistakes_are_one_line(refused, minatar, flags, words):  # noqa: F811
    assert words in refused("watch", minatar, *flags.split())


def test_training_refuses_what_does_not_draw(refused, tmp_path):  # noqa: F811
    told = refused("train", "gymnax/MemoryChain-bsuite", "--video-every", "99", *SMALL,
                   "--out", "run")  # fmt: skip
    assert "video" in told
    assert list(tmp_path.iterdir()) == []


def test_evaluation_refuses_a_choice_without_videos(refused, minatar):  # noqa: F811
    assert "--video DIR" in refused("evaluate", minatar, "--video-every", "2")


def test_progress_is_told_every_few_seconds(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(watching, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    progress = watching._Progress()
    for second in range(12):
        now[0] = float(second)
        progress(Told(0, 100 * second, 1.5))
    assert capsys.readouterr().err.splitlines() == [
        "episode 1, 500 steps, paid 1.5", "episode 1, 1,000 steps, paid 1.5",
    ]  # fmt: skip
    assert sys.stdout is not None

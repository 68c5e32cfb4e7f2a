"""`policygrad evaluate`."""

import itertools
import shutil
import sys
import warnings

import numpy as np
import pytest

from policygrad import cli
from policygrad.cli.evaluate import parse_noise
from policygrad.core.errors import UserError
from tests.cli.test_commands import command, parsed, refused, run_path  # noqa: F401
from tests.worlds import TINY_FLAGS


@pytest.fixture
def seeds(command, tmp_path):  # noqa: F811
    path = tmp_path / "seeds"
    command("train", "gymnax/CartPole-v1", "--seeds", "0..2", *TINY_FLAGS, "--out", path)
    return path


def test_case_32_arguments_wrappers_noise_and_another_environment(command, run_path):  # noqa: F811
    flags = ["--episodes", "3", "--json"]
    code, out, _ = command(
        "evaluate", run_path, "--env", "CartPole-v1", "--env-kwargs", '{"max_episode_steps": 5}',
        "--wrapper", "gymnasium.wrappers:TimeAwareObservation", *flags,
    )  # fmt: skip
    assert code == 2  # another observation space
    code, out, _ = command(
        "evaluate", run_path, "--env-kwargs", '{"max_episode_steps": 5}', "--wrapper",
        "gymnasium.wrappers:NormalizeReward", "--wrapper", "gymnasium.wrappers:ClipReward",
        "--observation-noise", "0.1,0,0,0", *flags,
    )  # fmt: skip
    assert code == 2  # ClipReward needs bounds: the wrapper's own words
    with pytest.warns(UserWarning, match="NormalizeReward keeps running statistics"):
        code, out, _ = command(
            "evaluate", run_path, "--env-kwargs", '{"max_episode_steps": 5}', "--wrapper",
            "gymnasium.wrappers:NormalizeReward", "--observation-noise", "0.1,0,0,0", *flags,
        )  # fmt: skip
    data = parsed(out)
    assert code == 0
    assert data["env_kwargs"] == {"max_episode_steps": 5}
    assert data["wrappers"] == ["NormalizeReward"]
    assert data["observation_noise"] == [0.1, 0, 0, 0]
    assert data["stochastic"]["length_mean"] == 5
    assert data["stochastic"]["mean"] != 5
    assert list(data["stochastic"]["quantiles"]) == ["0.05", "0.25", "0.5", "0.75", "0.95"]
    code, out, _ = command("evaluate", run_path, "--env", "gymnax/CartPole-v1", *flags)
    assert (code, parsed(out)["env"]) == (0, "gymnax/CartPole-v1")


def test_quantiles_are_shown(command, run_path):  # noqa: F811
    _, out, _ = command("evaluate", run_path, "--episodes", "3")
    assert [line.split()[0] for line in out.splitlines()[3:]] == [
        "quantiles", "deterministic", "stochastic",
    ]  # fmt: skip


def test_each_run_of_a_directory_plays_episodes_of_its_own(command, run_path, tmp_path):  # noqa: F811
    """The same policy three times: in the same episodes its runs would be equal, and the interval
    of no width."""
    for number in (0, 1, 7):
        shutil.copytree(run_path, tmp_path / f"runs/seed-{number}")
    flags = ("--episodes", "8", "--json")
    code, out, _ = command("evaluate", "runs", "--seed", "3", *flags)
    data = parsed(out)
    assert (code, data["seed"]) == (0, 3)
    returns = [result["stochastic"]["returns"] for result in data["seeds"].values()]
    assert all(a != b for a, b in itertools.combinations(returns, 2))
    assert np.diff(data["stochastic"]["ci95"]) > 0
    # each can be had alone, whatever runs lie beside it
    found = data["seeds"]["seed-7"]
    _, out, _ = command("evaluate", "runs/seed-7", "--seed", found["seed"], *flags)
    assert parsed(out) == found
    (tmp_path / "runs/seed-0/config.json").unlink()
    _, out, _ = command("evaluate", "runs", "--seed", "3", *flags)
    assert parsed(out)["seeds"]["seed-7"] == found


@pytest.mark.slow
def test_fault_12_a_damaged_seed_does_not_cost_the_others(command, seeds):  # noqa: F811
    policy = seeds / "seed-1" / "policy.safetensors"
    content = bytearray(policy.read_bytes())
    content[-1] ^= 1
    policy.write_bytes(bytes(content))
    code, out, err = command("evaluate", seeds, "--episodes", "2", "--json")
    data = parsed(out)
    assert code == 1
    assert list(data["seeds"]) == ["seed-0", "seed-2"]
    assert list(data["failures"]) == ["seed-1"]
    assert err.startswith("policygrad: seed-1: ")
    code, out, _ = command("evaluate", seeds, "--episodes", "2")
    assert code == 1
    assert "IQM" in out


@pytest.mark.slow
def test_all_seeds_damaged(command, seeds):  # noqa: F811
    for path in seeds.glob("seed-*/policy.json"):
        path.write_text("{")
    code, out, err = command("evaluate", seeds, "--episodes", "2")
    assert (code, out, len(err.splitlines())) == (1, "", 3)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--wrapper nonsense", "takes module:Class"),
        ("--wrapper nowhere:X", "cannot import 'nowhere'"),
        ("--wrapper gymnasium.wrappers:X", "has no X"),
        ("--wrapper gymnasium:__version__", "wrappers are functions or classes"),
        ("--env gymnax/CartPole-v1 --wrapper gymnasium.wrappers:ClipAction", "gymnasium/CartPole"),
        ("--observation-noise -1", "at least 0 and finite"),
        ("--observation-noise nan", "at least 0 and finite"),
        ("--observation-noise x", "takes a number, or numbers with commas"),
        ("--observation-noise 1,2", "the shape [4] of an observation, got [2]"),
        ("--env-kwargs [1]", "must be a JSON object"),
        ("--env-kwargs {", "is not JSON"),
        ("--num-envs 0", "--num-envs must be at least 1, got 0"),
        ("--seed 9999999999", "at most 2147483647"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(refused, run_path, flags, words):  # noqa: F811
    assert words in refused("evaluate", run_path, *flags.split())


def test_case_32_a_video_needs_its_package(refused, run_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'policygrad[video]'" in refused("evaluate", run_path, "--video", "v")


@pytest.mark.slow
def test_a_video_is_of_one_run(refused, seeds):  # noqa: F811
    assert "is for one run" in refused("evaluate", seeds, "--video", "v")


def test_a_wrapper_in_the_current_folder_is_found(run_path, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr("sys.path", list(sys.path))
    text = "import gymnasium\nclass Mine(gymnasium.Wrapper): pass\n"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrappers_of_mine.py").write_text(text)
    flags = ["--wrapper", "wrappers_of_mine:Mine", "--episodes", "2"]
    with pytest.raises(SystemExit) as caught, warnings.catch_warnings():
        cli.main(["evaluate", str(run_path), *flags])
    out, err = capsys.readouterr()
    assert caught.value.code == 0, err
    assert "Mine" in out


def test_noise_of_the_command_line():
    assert parse_noise(None) == 0
    assert parse_noise("0.5") == 0.5
    assert parse_noise("0.5,1") == [0.5, 1]
    with pytest.raises(UserError):
        parse_noise("")
    assert np.isfinite(parse_noise("1e-3"))


def test_checkpoints_and_policy_files_are_evaluated(command, run_path):  # noqa: F811
    results = []
    for place in (
        run_path,
        run_path / "policy.json",
        sorted((run_path / "checkpoints").iterdir())[-1],
    ):
        code, out, _ = command("evaluate", place, "--episodes", "2", "--json")
        assert code == 0
        results.append(parsed(out))
    assert results[0] == results[1] == results[2]


def test_what_holds_no_run_is_named(refused, tmp_path):  # noqa: F811
    shutil.copy(__file__, tmp_path / "a.json")
    (tmp_path / "folder").mkdir()
    for name in ("a.json", "folder", "nowhere"):
        assert name.removesuffix(".json") in refused("evaluate", name)


def test_a_cap_that_nobody_asked_for_is_said_once(command, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("policygrad.core.usual.LONGEST_EPISODE", 20)
    monkeypatch.setattr(warnings, "showwarning", cli._show_warning)
    path = tmp_path / "endless"
    command("train", "tests.worlds:Endless-v0", *TINY_FLAGS, "--out", path)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, out, err = command("evaluate", path, "--episodes", "3")
        assert (code, err, out.count("3 stopped at the cap")) == (0, "", 2)
        code, out, err = command("evaluate", path, "--episodes", "3", "--json")
    assert (code, parsed(out)["stochastic"]["unfinished"]) == (0, 3)
    assert err.startswith("policygrad: episodes were still running after 20 steps")
    assert len(err.splitlines()) == 1

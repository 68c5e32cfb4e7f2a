"""Settings from a file, training on, and changed settings, in the command."""

import json
import shutil
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file

from policygrad import cli
from tests.cli.test_commands import command, parsed, refused, run_path  # noqa: F401
from tests.worlds import TINY_FLAGS

# ruff: noqa: F811


def weights(path):
    return load_file(path / "policy.safetensors")


def same(a, b):
    one, two = weights(a), weights(b)
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'env = "CartPole-v1"\nenv_kwargs = {max_episode_steps = 20}\ntotal-steps = 64\n'
        "num_envs = 4\nbatch_steps = 32\nhidden = [8]\ncritic_epochs = 1\n"
    )
    return path


def test_case_28_config_of_a_run_repeats_it(command, tmp_path):
    flags = ["--seed", "3", "--env-kwargs", '{"max_episode_steps": 20}']
    command("train", "CartPole-v1", *TINY_FLAGS, *flags, "--out", "a")
    for place in ("a/config.json", "a"):
        out = tmp_path / place.replace("/", "-again")
        code, _, err = command("train", "--config", place, "--out", f"{out}-b")
        assert (code, "policygrad:" in err) == (0, False)
        assert same(tmp_path / "a", tmp_path / f"{out}-b")


def test_case_28_flags_override(command, toml, tmp_path):
    code, out, _ = command(
        "train", f"--config={toml}", "--seed", "2", "--total-steps", "96", "--json"
    )
    assert code == 0
    assert (parsed(out)["seed"], parsed(out)["env_steps"]) == (2, 96)
    config = json.loads((tmp_path / "runs/CartPole-v1-seed2/config.json").read_text())
    assert config["config"]["hidden"] == [8]
    assert config["env_kwargs"] == {"max_episode_steps": 20}
    with pytest.warns(UserWarning, match="are not passed to gymnax/CartPole-v1"):
        command("train", "gymnax/CartPole-v1", "--config", toml, "--out", "b")
    assert json.loads((tmp_path / "b/config.json").read_text())["env_kwargs"] == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["--algorithm", "ppo"],
        pytest.param(["--batch-episodes", "4"], marks=pytest.mark.slow),
        ["--estimator", "td"],
    ],
)
def test_beside_another_choice_only_what_was_asked_for_is_taken(command, tmp_path, flags):
    asked = [x for x in TINY_FLAGS if x not in ("--batch-steps", "32")]
    command("train", "CartPole-v1", *asked, "--discount", "0.5", "--out", "a")
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert config["asked"] == ["critic_epochs", "discount", "hidden", "num_envs", "total_steps"]
    code, _, err = command("train", "--config", "a", *flags, "--out", "b")
    assert code == 0, err
    command("train", "CartPole-v1", *asked, "--discount", "0.5", *flags, "--out", "c")
    assert same(tmp_path / "b", tmp_path / "c")
    ours, theirs = (json.loads((tmp_path / n / "config.json").read_text()) for n in "bc")
    assert ours == theirs


def test_case_28_many_seeds(command, toml, tmp_path):
    toml.write_text(toml.read_text().replace("CartPole-v1", "gymnax/CartPole-v1").replace(
        "env_kwargs = {max_episode_steps = 20}", "seed = 9"
    ))  # fmt: skip
    code, _, _ = command("train", "--config", toml, "--seeds", "0,1", "--out", "s")
    assert code == 0
    assert json.loads((tmp_path / "s/seed-1/config.json").read_text())["config"]["seed"] == 1


def test_help_shows_what_the_file_says(command, toml):
    toml.write_text(toml.read_text() + 'algorithm = "ppo"\nclip_ratio = 0.31\n')
    code, out, _ = command("train", "--config", toml, "--help")
    assert code == 0
    assert "0.31" in out
    assert "--config FILE" in out
    assert "--from RUN" in out


@pytest.mark.parametrize(
    ("line", "flags", "words"),
    [
        ("sed = 3", "", "mine.toml, sed: there is no such setting"),
        ("step_size = -1", "", "mine.toml, step_size: --step-size must be more than 0, got -1"),
        ("clip_ratio = 0.1", "", "mine.toml, clip_ratio: --clip-ratio is read by --algorithm ppo"),
        ("step_size = 0.1", "--algorithm natural", "mine.toml, step_size: --step-size is read by"),
        ("", "--batch-episodes 4", "mine.toml, batch_steps: --batch-steps 32 and --batch-episodes"),
        ("", "--num-envs 5", "mine.toml, batch_steps: --batch-steps 32 is not a multiple"),
        ("seed = true", "", "mine.toml, seed: --seed must be a whole number"),
    ],
)
def test_case_28_errors_name_the_file_and_the_key(refused, toml, line, flags, words, tmp_path):
    toml.write_text(f"{toml.read_text()}{line}\n")
    assert words in refused("train", "--config", toml, *flags.split())
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["train"], "no environment to train in"),
        (["train", "--config", "nowhere.toml"], "No such file"),
        (["train", "--config", "."], "or name a run"),
        (["train", "--from", "nowhere"], "no run or policy at nowhere"),
    ],
)
def test_what_is_missing(refused, argv, words):
    assert words in refused(*argv)


def test_case_12_from_a_run(command, run_path, tmp_path):
    code, _, _ = command("train", "--from", run_path, *TINY_FLAGS, "--seed", "5", "--out", "b")
    assert code == 0
    saved = json.loads((tmp_path / "b/config.json").read_text())
    assert (saved["env"], saved["from"]["path"]) == ("CartPole-v1", str(run_path))
    code, out, _ = command("resume", "b", "--total-steps", "96", "--json")
    assert (code, parsed(out)["env_steps"]) == (0, 96)
    code, _, _ = command("train", "--config", "b", "--total-steps", "64", "--out", "c")
    assert code == 0
    assert json.loads((tmp_path / "c/config.json").read_text())["from"] == saved["from"]


def test_case_12_from_a_run_of_other_spaces(refused, run_path):
    line = refused("train", "Acrobot-v1", "--from", run_path, *TINY_FLAGS)
    assert "observation space is Box(" in line
    assert "the environment's is Box(" in line


def test_case_31_resume_with_changed_settings(command, run_path):
    code, out, _ = command(
        "resume",
        run_path,
        "--total-steps",
        "96",
        "--step-size",
        "1e-5",
        "--checkpoint-seconds",
        "5",
    )
    assert code == 0
    saved = json.loads((run_path / "config.json").read_text())
    assert saved["config"]["step_size"] == 1e-5
    assert saved["changes"][0]["settings"]["checkpoint_seconds"] == 5
    code, out, _ = command("resume", run_path, "--help")
    assert code == 0
    assert "--gae-lambda" in out
    assert "--seed" not in out


@pytest.mark.parametrize("flags", ["--seed 4", "--num-envs 8", "--algorithm ppo", "--hidden 4"])
def test_case_31_what_may_not_change(refused, run_path, flags):
    line = refused("resume", run_path, "--total-steps", "96", *flags.split())
    assert f"keeps its {flags.split()[0]} (" in line
    assert "what may change: --total-steps" in line


@pytest.mark.slow
def test_case_31_a_linear_schedule_over_another_length_is_said(command, tmp_path, capsys):
    command("train", "gymnax/CartPole-v1", "--algorithm", "natural", *TINY_FLAGS, "--out", "a")
    with warnings.catch_warnings():  # as outside the tests
        warnings.simplefilter("default")
        with pytest.raises(SystemExit):
            cli.main(["resume", "a", "--total-steps", "128"])
        err = capsys.readouterr().err
    assert "steps shrink to zero over 128 steps now, not over 64" in err
    shutil.rmtree(tmp_path / "a")


@pytest.mark.parametrize(
    "flags",
    [
        ["--json"],
        ["--total-steps", "96", "--json"],
        ["--json", "--total-steps", "96"],
        ["--total-steps=96", "--no-tensorboard"],
        ["--step-size", "1e-4", "--no-wandb", "--json"],
        ["--checkpoint-seconds", "5"],
    ],
)
def test_flags_may_come_before_a_checkpoint(command, run_path, flags):
    code, _, err = command("resume", *flags, str(run_path / "checkpoints" / "000000000000"))
    assert code == 0, err


def test_the_run_may_follow_the_flags(command, run_path):
    code, _, _ = command("resume", "--total-steps", "96", run_path)
    assert code == 0

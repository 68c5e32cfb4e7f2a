"""The command itself: what it prints, with which code it ends, and how it refuses bad input."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from policygrad import cli
from policygrad.runs import RunDirectory
from policygrad.training.config import TrainConfig
from policygrad.training.given import Given
from policygrad.training.resolve import OF_NOISE, resolve
from tests.environments.test_make import without
from tests.runs.test_storage import HOSTILE
from tests.slow import params
from tests.worlds import ROOT, TINY_FLAGS, Chained, environment_variables, python

TRAIN = ["train", "CartPole-v1", *TINY_FLAGS]


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Runs the command in this process, in an empty directory: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        try:
            code = cli.run([str(a) for a in argv])
        except SystemExit as stop:  # how the parser of the command line ends
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def refused(command):
    """Runs the command; it must end with code 2 and one line. That line."""

    def run(*argv):
        code, out, err = command(*argv)
        assert code == 2, (code, out, err)
        assert out == ""
        assert "Traceback" not in err
        lines = err.strip().splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("policygrad: ")
        return lines[0]

    return run


@pytest.fixture
def run_path(trained, tmp_path):
    """A copy of a run, to be damaged."""
    shutil.copytree(trained.path, tmp_path / "run")
    return tmp_path / "run"


def parsed(text):
    """JSON as every parser reads it: no NaN, no Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


# ----- bad input


@pytest.mark.parametrize(
    ("env", "hint"),
    [
        ("CartPol-v1", "CartPole-v1"),
        ("gymnax/CartPol-v1", "gymnax/CartPole-v1"),
        ("tests.worlds:Chian-v0", "Chain-v0"),
    ],
)
def test_unknown_environment(refused, env, hint, tmp_path):
    line = refused("train", env, *TINY_FLAGS)
    assert env.rpartition(":")[2] in line
    assert hint in line
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("env", ["no_such_module:X-v0", "./here:X-v0"])
def test_environment_of_a_module_that_is_not_there(refused, env):
    assert env in refused("train", env, *TINY_FLAGS)


@pytest.mark.parametrize(
    ("package", "arguments", "command_line"),
    [
        ("gymnax", ["gymnax/CartPole-v1"], "policygrad[gymnax]"),
        ("tensorboardX", ["CartPole-v1", "--tensorboard"], "policygrad[tensorboard]"),
        ("wandb", ["CartPole-v1", "--wandb"], "policygrad[wandb]"),
    ],
)
def test_missing_extra(refused, monkeypatch, package, arguments, command_line, tmp_path):
    without(monkeypatch, package)
    line = refused("train", *arguments, *TINY_FLAGS, "--out", "a")
    assert f"pip install '{command_line}'" in line
    assert not (tmp_path / "a").exists()  # the same command must work once it is installed


def test_missing_mujoco(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    for module in [m for m in sys.modules if m.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, module)
    line = refused("train", "gymnasium/HalfCheetah-v5", *TINY_FLAGS)
    assert "pip install 'policygrad[mujoco]'" in line


def test_unsupported_space(refused):
    line = refused("train", "tests.worlds:Untold-v0", *TINY_FLAGS)
    assert "Text" in line
    assert "supported are Discrete, MultiDiscrete, MultiBinary, Box of floats" in line


OUT_OF_RANGE = [
    ("--discount", "1.5", "from 0 to 1"),
    ("--discount", "-0.1", "from 0 to 1"),
    ("--discount", "nan", "from 0 to 1"),
    ("--gae-lambda", "2", "from 0 to 1"),
    ("--step-size", "0", "more than 0"),
    ("--step-size", "inf", "more than 0"),
    ("--target-kl", "-1", "at least 0"),
    ("--total-steps", "0", "at least 1"),
    ("--num-envs", "0", "at least 1"),
    ("--batch-steps", "-4", "at least 1"),
    ("--batch-episodes", "0", "adaptive, or a whole number at least 1"),
    ("--hidden", "0", "at least 1"),
    ("--hidden", "8,0", "at least 1"),
    ("--n", "0", "at least 1"),
    ("--seed", "-1", "from 0 to"),
    ("--seed", "99999999999", "from 0 to"),
    ("--entropy-coefficient", "-1", "at least 0"),
    ("--max-global-norm", "-1", "at least 0"),
    ("--critic-step-size", "0", "more than 0"),
    ("--critic-epochs", "0", "at least 1"),
    ("--critic-minibatches", "0", "at least 1"),
    ("--checkpoint-seconds", "-1", "at least 0"),
    ("--keep-checkpoints", "0", "at least 1"),
    ("--monitor-every", "-1", "at least 0"),
    ("--max-episode-steps", "0", "at least 1"),
    ("--log-std", "-30", "from -20 to 10"),
]


@pytest.mark.parametrize(("flag", "value", "allowed"), OUT_OF_RANGE)
def test_hyperparameter_out_of_range(refused, flag, value, allowed):
    choice = {"--n": ["--estimator", "n-step"]}.get(flag, [])
    line = refused("train", "CartPole-v1", *choice, flag, value)
    assert flag in line
    assert allowed in line
    assert f"got {value.split(',')[-1]}" in line


@pytest.mark.parametrize(
    ("flag", "value", "hint"),
    [
        ("--estimator", "gea", "gae"),
        ("--baseline", "value-netwrk", "value-network"),
        ("--optimiser", "adm", "adam"),
        ("--step-size-schedule", "liner", "linear"),
        ("--time-limit", "bootstrap", "bootstraps"),
        ("--estimator", "zzz", "choose from gae, td"),
    ],
)
def test_unknown_choice(refused, flag, value, hint):
    line = refused("train", "CartPole-v1", flag, value)
    assert flag in line
    assert repr(value) in line
    assert hint in line


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batch-steps", "30", "--num-envs", "4"], "--batch-steps 30 is not a multiple"),
        (["--batch-steps", "32", "--batch-episodes", "4"], "exclude each other"),
        (["--estimator", "total-return"], "needs whole episodes"),
        (["--estimator", "reward-to-go", "--baseline", "constant"], "needs whole episodes"),
        (["--baseline", "leave-one-out", "--batch-episodes", "1"], "at least 2 episodes"),
        (
            ["--estimator", "total-return", "--time-limit", "bootstraps", "--batch-episodes", "4"],
            "--time-limit is read by --estimator gae or td or n-step or reward-to-go, but not by",
        ),
        (["--monitor-every", "5", "--num-envs", "1"], "--num-envs 1 leaves only one"),
        (["--monitor-every", "5", "--batch-episodes", "1"], "--batch-episodes 1 leaves only one"),
        (
            ["--algorithm", "ppo", "--batch-steps", "64", "--ppo-minibatches", "65"],
            "--ppo-minibatches is 65, and a batch has 64 steps; give at most that",
        ),
        (
            ["--memory", "gru", "--num-envs", "4", "--critic-minibatches", "5"],
            "--critic-minibatches is 5, and a batch has 4 environments, whose steps stay together",
        ),
        (
            ["--memory", "lstm", "--batch-episodes", "6", "--critic-minibatches", "7"],
            "--critic-minibatches is 7, and a batch has 6 episodes",
        ),
        (["--env-kwargs", "{"], "--env-kwargs is not JSON"),
        (["--env-kwargs", "[1]"], "--env-kwargs must be a JSON object"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_settings_that_do_not_go_together(refused, flags, words):
    assert words in refused("train", "CartPole-v1", *flags)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--discount", "abc"),
        ("--total-steps", "1e5"),
        ("--hidden", "8,x"),
        ("--batch-episodes", "adaptiv"),
    ],
)
def test_value_that_is_no_number_is_named(command, flag, value):
    code, out, err = command("train", "CartPole-v1", flag, value)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert flag in err
    assert value.split(",")[-1] in err


def test_output_directory_that_holds_a_run(refused, run_path):
    before = {p: p.read_bytes() for p in run_path.rglob("*") if p.is_file()}
    line = refused(*TRAIN, "--out", run_path)
    assert str(run_path) in line
    assert "policygrad resume" in line
    assert before == {p: p.read_bytes() for p in run_path.rglob("*") if p.is_file()}


def test_output_directory_that_is_a_file(refused, tmp_path):
    (tmp_path / "a").touch()
    assert "--out" in refused(*TRAIN, "--out", tmp_path / "a")


READERS = {
    "resume": ["resume", "RUN", "--total-steps", "100"],
    "evaluate": ["evaluate", "RUN", "--episodes", "2"],
    "plot": ["plot", "RUN"],
}
every_reader = pytest.mark.parametrize("arguments", READERS.values(), ids=READERS)


def with_run(arguments, path):
    return [path if a == "RUN" else a for a in arguments]


@every_reader
@pytest.mark.parametrize("name", ["nowhere", "empty", "file"])
def test_missing_run(refused, tmp_path, arguments, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert name in refused(*with_run(arguments, tmp_path / name))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x80
    path.write_bytes(content)


def pickled(path):
    path.write_bytes(HOSTILE["pickle"](path.parent / "executed"))


def object_array(path):
    path.write_bytes(HOSTILE["object array"](path.parent / "executed"))


DAMAGE = {f.__name__: f for f in (truncate, flip, pickled, object_array)}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize(
    ("arguments", "slot"),
    [
        ("resume", "config.json"),
        ("resume", "checkpoints/*/state.json"),
        ("resume", "checkpoints/*/state.safetensors"),
        ("evaluate", "config.json"),
        ("evaluate", "policy.json"),
        ("evaluate", "policy.safetensors"),
        ("plot", "metrics.jsonl"),
    ],
)
def test_damaged_run(refused, run_path, damage, arguments, slot):
    for file in run_path.glob(slot):
        damage(file)
    if slot == "metrics.jsonl" and damage in (truncate, flip):
        # whole lines, or another digit, are left: no damage to see
        (run_path / slot).write_text('{"update"\n{"update"')
    line = refused(*with_run(READERS[arguments], run_path))
    assert slot.rpartition("/")[2].split(".")[0] in line
    assert not list(run_path.rglob("executed"))


@pytest.mark.parametrize(
    ("arguments", "slot"),
    [
        ("resume", "config.json"),
        ("resume", "checkpoints/*/state.json"),
        ("evaluate", "policy.json"),
    ],
)
def test_run_of_a_newer_format(refused, run_path, arguments, slot):
    for file in run_path.glob(slot):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 3}))
    assert "upgrade policygrad" in refused(*with_run(READERS[arguments], run_path))


@pytest.mark.parametrize("value", ["0", "-1", "10"])
def test_resume_total_that_was_reached(refused, run_path, value):
    assert value in refused("resume", run_path, "--total-steps", value)


@pytest.mark.parametrize("flag", ["--episodes", "--num-envs", "--max-episode-steps"])
def test_evaluate_number_out_of_range(refused, run_path, flag):
    line = refused("evaluate", run_path, flag, "0")
    assert f"{flag} must be at least 1, got 0" in line


def test_evaluate_seed_out_of_range(refused, run_path):
    assert "--seed must be at least 0, got -1" in refused("evaluate", run_path, "--seed", "-1")


@pytest.mark.parametrize(
    ("env", "space"),
    [("Pendulum-v1", "observation space"), ("gymnax/Catch-bsuite", "observation space")],
)
def test_evaluate_in_an_environment_with_other_spaces(refused, run_path, env, space):
    assert space in refused("evaluate", run_path, "--env", env, "--episodes", "1")


def test_plot_file_of_unknown_kind(refused, run_path):
    assert "--out" in refused("plot", run_path, "--out", "curve.nonsense")
    assert "--out" in refused("plot", run_path, "--out", "no/such/folder/curve.png")


# ----- failures with code 1


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("what", ["nan reward", "inf observation"])
def test_not_finite(command, tmp_path, monkeypatch, what):
    monkeypatch.setattr(Chained, "made", 0)
    code, out, err = command(
        "train", "tests.worlds:Chained-v0", *TINY_FLAGS, "--total-steps", "400",
        "--env-kwargs", json.dumps({"what": what}), "--checkpoint-seconds", "0", "--out", "a",
    )  # fmt: skip
    assert code == 1
    assert out == ""
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert what.split()[1] in last
    assert "environment 2 at step" in last
    assert str(RunDirectory(tmp_path / "a").newest_checkpoint().name) in last


def test_environment_that_raises(command, tmp_path, monkeypatch):
    monkeypatch.setattr(Chained, "made", 0)
    code, out, err = command(
        "train", "tests.worlds:Chained-v0", *TINY_FLAGS, "--total-steps", "400",
        "--env-kwargs", '{"what": "raise"}', "--checkpoint-seconds", "0", "--out", "a",
    )  # fmt: skip
    assert (code, out) == (1, "")
    assert 'raise ZeroDivisionError("the pole is not there")' in err  # its own traceback
    assert "tests/worlds.py" in err
    assert "training.py" not in err
    error, kept = err.strip().splitlines()[-2:]
    assert "environment 2 raised ZeroDivisionError at step 2 of its episode 14" in error
    newest = int(RunDirectory(tmp_path / "a").newest_checkpoint().name)
    assert newest > 0
    assert kept.endswith(f"go on from {newest} steps with: policygrad resume a")


@pytest.mark.slow
def test_environment_that_raises_in_a_worker_shows_its_own_traceback(tmp_path):
    done = python(
        "-c", "from policygrad.cli import main; main()", "train", "tests.worlds:Chained-v0",
        *TINY_FLAGS, "--env-kwargs", '{"what": "raise", "lane": 0, "at": 5}', "--processes",
        "--out", str(tmp_path / "a"),
    )  # fmt: skip
    assert done.returncode == 1
    assert 'raise ZeroDivisionError("the pole is not there")' in done.stderr
    assert "environment" in done.stderr.strip().splitlines()[-2]


def test_endless_episode(command):
    code, _, err = command(
        "train", "tests.worlds:Endless-v0", "--num-envs", "2", "--batch-episodes", "2",
        "--max-episode-steps", "30", "--hidden", "8",
    )  # fmt: skip
    assert code == 1
    assert "did not end within 30 steps" in err.strip().splitlines()[-1]
    assert "Traceback" not in err


# ----- what is printed


def test_json_is_the_summary_alone_on_stdout(command):
    code, out, _ = command(*TRAIN, "--out", "a", "--json")
    summary = parsed(out)
    assert code == 0
    assert summary["env"] == "CartPole-v1"
    assert summary["env_steps"] >= 64
    assert summary["interrupted"] is False
    assert summary["path"] == "a"


def test_json_of_a_run_in_which_no_episode_ended(command):
    code, out, _ = command("train", "Pendulum-v1", *TINY_FLAGS, "--json")
    assert code == 0
    assert parsed(out)["return_mean"] is None


def test_train_names_its_directory(command, tmp_path):
    for name in ("CartPole-v1-seed3", "CartPole-v1-seed3-2"):
        code, out, err = command(*TRAIN, "--seed", "3")
        assert code == 0
        assert f"runs/{name}: " in out
        assert f"policygrad evaluate runs/{name}" in out
        assert (tmp_path / "runs" / name / "policy.safetensors").exists()
        assert "64 steps" in err


@pytest.mark.parametrize("sizes", [["--{}", "8,4"], ["--{}=8,4"], ["--{}", "8", "4"]])
@pytest.mark.parametrize("name", ["hidden", "critic-hidden"])
def test_sizes_of_layers_are_spelt_in_three_ways(command, tmp_path, name, sizes):
    code, *_ = command(*TRAIN, *(word.format(name) for word in sizes), "--out", "a")
    assert code == 0
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["config"][name.replace("-", "_")] == [8, 4]


def test_flags_that_others_rely_on(command, tmp_path):
    code, *_ = command(
        "train", "CartPole-v1", "--total-steps", "32", "--seed", "1", "--out", "a", "--json",
        "--num-envs", "4", "--batch-steps", "32", "--estimator", "gae", "--baseline",
        "value-network", "--discount", "0.9", "--gae-lambda", "0.8", "--step-size", "0.01",
        "--target-kl", "0", "--hidden", "8", "8", "--resets-at-rewards",
    )  # fmt: skip
    assert code == 0
    config = json.loads((tmp_path / "a" / "config.json").read_text())["config"]
    assert (config["discount"], config["gae_lambda"], config["target_kl"]) == (0.9, 0.8, 0.0)
    assert config["resets_at_rewards"] is True
    rows = RunDirectory(tmp_path / "a").read_metrics()
    assert rows[-1]["step_size"] == pytest.approx(0.01)


def test_evaluate_json(command, run_path):
    code, out, _ = command("evaluate", run_path, "--episodes", "8", "--json", "--seed", "3")
    result = parsed(out)
    assert code == 0
    assert result["seed"] == 3
    for name in ("deterministic", "stochastic"):
        returns = result[name]
        assert returns["episodes"] == 8 == len(returns["returns"])
        assert returns["ci95"][0] < returns["mean"] < returns["ci95"][1]
        assert returns["mean"] == returns["length_mean"] == np.mean(returns["returns"])


def test_evaluate_json_of_one_episode(command, run_path):
    """One return has no finite interval, and JSON has no infinity."""
    code, out, _ = command("evaluate", run_path, "--episodes", "1", "--json")
    assert code == 0
    assert parsed(out)["stochastic"]["episodes"] == 1


def test_evaluate_is_the_same_every_time_and_another_with_another_seed(command, run_path):
    one, two, other = (
        command("evaluate", run_path, "--episodes", "4", "--json", "--seed", seed)[1]
        for seed in (0, 0, 1)
    )
    assert one == two != other


def test_evaluate_prints_both_kinds(command, run_path):
    code, out, _ = command("evaluate", run_path, "--episodes", "4")
    assert code == 0
    assert "CartPole-v1, 4 episodes each, seed 0" in out
    assert "deterministic" in out
    assert "stochastic" in out
    assert "95 % interval" in out


def test_evaluate_compiled(command, trained_compiled):
    code, out, _ = command("evaluate", trained_compiled.path, "--episodes", "4", "--json")
    assert code == 0
    assert parsed(out)["env"] == "gymnax/CartPole-v1"


def test_evaluate_never_hangs(command, tmp_path):
    code, *_ = command("train", "tests.worlds:Endless-v0", *TINY_FLAGS, "--out", "a")
    assert code == 0
    code, out, _ = command(
        "evaluate", "a", "--episodes", "5", "--num-envs", "2", "--max-episode-steps", "20",
        "--json",
    )  # fmt: skip
    result = parsed(out)["stochastic"]
    assert code == 0
    assert (result["mean"], result["length_mean"], result["unfinished"]) == (20, 20, 5)


def test_resume(command, run_path):
    code, out, _ = command("resume", run_path, "--total-steps", "150", "--json")
    summary = parsed(out)
    assert code == 0
    assert summary["env_steps"] >= 150
    assert summary["resumed_exactly"] is True


def test_resume_says_where_it_could_not_be_exact(command):
    command("train", "tests.worlds:Forgetful-v0", *TINY_FLAGS, "--out", "a")
    with pytest.warns(UserWarning, match="could not be brought back"):
        code, _, _ = command("resume", "a", "--total-steps", "96")
    assert code == 0


def test_plot(command, run_path, trained_compiled, tmp_path):
    code, out, _ = command("plot", run_path, trained_compiled.path, "--out", "both.png")
    assert (code, out) == (0, "both.png\n")
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = command("plot", run_path, "--out", "one.svg", "--json")
    assert code == 0
    shown = parsed(out)
    assert (shown["path"], shown["runs"], shown["x"]) == ("one.svg", [str(run_path)], "steps")
    (line,) = shown["drawn"]
    assert (line["env"], line["metric"], line["seeds"]) == ("CartPole-v1", "return_mean", [0])


# ----- in a process of its own


def policygrad(*argv, **kwargs):
    return python("-c", "from policygrad.cli import main; main()", *map(str, argv), **kwargs)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["train", "CartPol-v1"], "CartPole-v1"),
        (["train", "CartPole-v1", "--discount", "1.5"], "from 0 to 1, got 1.5"),
        (["resume", "nowhere"], "no run at nowhere"),
    ],
)
def test_bad_input_ends_the_process_with_code_2(argv, words, tmp_path):
    done = policygrad(*argv, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert words in done.stderr
    assert not any(tmp_path.iterdir())


def test_train_in_a_process(tmp_path):
    done = policygrad(*TRAIN, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert parsed(done.stdout)["seed"] == 0


def test_output_that_is_cut_off_is_no_traceback(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", "from policygrad.cli import main; main()", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment_variables(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait()


HEAVY = ("jax", "matplotlib", "gymnax", "tensorboardX", "wandb", "mujoco", "flax", "torch")


def loaded_by(code):
    done = python("-c", f"import sys\n{code}\nprint('loaded:', *sys.modules, file=sys.stderr)")
    names = done.stderr.partition("loaded:")[2].split()
    return {name.partition(".")[0] for name in names}, done


@pytest.mark.parametrize("argv", [["--help"], ["resume", "--help"], ["evaluate", "--help"]])
def test_help_loads_nothing_heavy(argv):
    code = f"from policygrad.cli import main\ntry: main({argv})\nexcept SystemExit: pass"
    loaded, done = loaded_by(code)
    assert "policygrad" in loaded
    assert not loaded.intersection(HEAVY)
    assert "usage: policygrad" in done.stdout


def test_flags_of_a_run_load_no_plotting_and_no_extra():
    """They are those of the records that read them, which compute with JAX."""
    for argv in (["train", "--help"], ["train", "CartPole-v1", "--discount", "2"]):
        loaded, _ = loaded_by(
            f"from policygrad.cli import main\ntry: main({argv})\nexcept SystemExit: pass"
        )
        assert not loaded.intersection(set(HEAVY) - {"jax"})


UNREAD = [
    ("--clip-ratio 0.3", "--algorithm ppo, but not by --algorithm vanilla"),
    ("--algorithm natural --step-size 0.1", "--algorithm vanilla or ppo, but not by"),
    ("--algorithm trpo --optimiser sgd", "--algorithm vanilla or ppo, but not by"),
    ("--optimiser sgd --adam-epsilon 0.1", "--optimiser adam, but not by --optimiser sgd"),
    ("--estimator td --gae-lambda 0.5", "--estimator gae, but not by --estimator td"),
    ("--n 5", "--estimator n-step, but not by --estimator gae"),
    (
        "--estimator reward-to-go --baseline none --batch-episodes 4 --critic-epochs 2",
        "--baseline value-network or value-classifier, but not by --baseline none",
    ),
]


@pytest.mark.parametrize(("flags", "words"), UNREAD)
def test_a_flag_that_nothing_reads_is_refused_and_says_who_would_read_it(refused, flags, words):
    line = refused("train", "CartPole-v1", *flags.split())
    assert words in line
    assert "leave it out, or choose" in line


@pytest.mark.parametrize("algorithm", ["vanilla", "natural", "trpo", "ppo"])
def test_help_shows_what_the_algorithm_reads_and_no_more(command, algorithm):
    code, out, _ = command("train", "--algorithm", algorithm, "--help")
    assert code == 0
    own = {"vanilla": "--step-size ", "natural": "--damping", "trpo": "--kl-slack"}
    own["ppo"] = "--clip-ratio"
    assert own[algorithm] in out
    for other in {"--clip-ratio", "--kl-slack"} - {own[algorithm]}:
        assert other not in out
    assert "{vanilla,natural,trpo,ppo}" in out
    for group in ("run", "environment", "batch", "policy", "algorithm", "critic", "files"):
        assert f"{group} options" in out


def test_import_loads_no_plotting_and_no_extra():
    code = "import policygrad\nfrom policygrad import train, evaluate, load, estimators, rollout"
    for statement in ("import policygrad", code):
        loaded, _ = loaded_by(statement)
        assert "policygrad" in loaded
        assert not loaded.intersection(set(HEAVY) - {"jax"})
    loaded, _ = loaded_by("import policygrad")
    assert "jax" not in loaded


def test_every_public_name_is_there():
    import policygrad as package

    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        package.nonsense  # noqa: B018


def test_root_is_on_the_path_of_subprocesses():
    assert importlib.util.find_spec("tests.worlds") is not None
    assert str(ROOT) in environment_variables()["PYTHONPATH"]


@pytest.mark.parametrize("algorithm", params(["vanilla", "natural", "ppo"], {"natural"}))
def test_defaults_are_those_of_the_algorithm(command, algorithm):
    flags = ["--total-steps", "32", "--batch-steps", "32", "--critic-epochs", "1"]
    code, _, err = command("train", "CartPole-v1", "--algorithm", algorithm, *flags, "--out", "run")
    assert code == 0, err
    written = RunDirectory.open(Path("run")).read_config()["config"]
    asked = TrainConfig(
        algorithm=algorithm, total_steps=32, batch_steps=32, critic_epochs=1, processors=1
    )
    expected = resolve(asked, Given())[0].config.to_json()
    expected |= {"network": "fully-connected", "hidden": [64, 64], "clip_rewards": False}
    for of_noise in OF_NOISE:  # all actions are choices
        expected.pop(of_noise, None)
    assert written == json.loads(json.dumps(expected))
    assert written["discount"] == {"natural": 0.995, "trpo": 0.995}.get(algorithm, 0.99)
    assert ("step_size" in written) == (algorithm in ("vanilla", "ppo"))

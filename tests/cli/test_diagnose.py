"""`policygrad diagnose`: what it prints, what it writes, and what it refuses."""

import json
from datetime import datetime

import pytest

from policygrad.runs import RunDirectory
from policygrad.training.loop import Training
from tests.cli.test_commands import command as command
from tests.cli.test_commands import parsed
from tests.cli.test_commands import refused as refused
from tests.cli.test_commands import run_path as run_path
from tests.worlds import TINY_FLAGS, Chained


def test_a_run_as_json_and_in_words(command, run_path, tmp_path):
    code, out, err = command("diagnose", run_path, "--episodes", "8", "--json", "--out", "a.json")
    result = parsed(out)
    assert code == 0
    assert "running 8 episodes" in err
    assert result == json.loads((tmp_path / "a.json").read_text())
    assert result["healthy"] is (False if result["findings"] else None)  # two updates
    assert "too short to judge" in " ".join(result["doubts"])
    assert result["examination"]["sample"]["episodes"] == 8
    assert result["examination"]["settings"]["batch_steps"] == 32
    code, out, _ = command("diagnose", run_path, "--episodes", "8")
    assert code == 0
    for finding in result["findings"]:
        assert finding["name"] in out.replace("\n", " ")
    assert "Healthy" not in out
    assert "of random actions: " in out


@pytest.mark.slow
def test_a_report(command, run_path, tmp_path):
    code, _, err = command("diagnose", run_path, "--episodes", "8", "--report", "seen")
    assert code == 0
    assert "report: seen/report.html" in err
    page = (tmp_path / "seen" / "report.html").read_text()
    pictures = sorted(path.stem for path in (tmp_path / "seen").glob("*.png"))
    assert page.count("data:image/png") == len(pictures)
    assert {"cosine_against_episodes", "variance_by_component"} <= set(pictures)
    assert page.count("<svg") == 1
    numbers = json.loads((tmp_path / "seen" / "report.json").read_text())
    saved = json.loads((run_path / "config.json").read_text())
    assert numbers["trained"]["given"] == saved["asked"]
    assert numbers["trained"]["versions"] == {
        "policygrad": saved["policygrad"],
        **saved["versions"],
    }
    written = datetime.fromisoformat(numbers["trained"]["written"]).timestamp()
    assert written == pytest.approx((run_path / "metrics.jsonl").stat().st_mtime, abs=1e-3)
    assert "--batch-steps" in page
    assert numbers["examination"]["decomposition"]["episodes"] == 8


def test_an_environment_with_settings(command):
    code, out, _ = command(
        "diagnose", "--env", "CartPole-v1", *TINY_FLAGS, "--discount", "0.5", "--episodes", "8",
        "--json", "--no-gradients",
    )  # fmt: skip
    result = parsed(out)
    assert code == 0
    assert result["examination"]["env_steps"] >= 64
    assert "discount-too-low" in [f["name"] for f in result["findings"]]


@pytest.mark.parametrize(
    ("algorithm", "own"),
    [
        ("vanilla", {"discount": 0.99, "step_size": 1e-3, "critic_epochs": 10}),
        ("natural", {"discount": 0.995, "target_kl": 0.03, "critic_epochs": 20}),
        ("trpo", {"discount": 0.995, "target_kl": 0.03, "critic_epochs": 20}),
        ("ppo", {"step_size": 3e-4, "target_kl": 0.0, "max_global_norm": 0.5}),
    ],
)
def test_the_short_run_has_the_defaults_of_its_algorithm(command, monkeypatch, algorithm, own):
    class Stopped(Exception):
        pass

    trained = []

    def begin(assembly, directory, *schedules):
        trained.append(assembly.config)
        raise Stopped

    monkeypatch.setattr(Training, "begin", begin)
    for name in ("diagnose", "train"):
        with pytest.raises(Stopped):
            command(
                *([name, "--env"] if name == "diagnose" else [name]), "CartPole-v1",
                "--algorithm", algorithm, "--total-steps", "4096",
            )  # fmt: skip
    probe, run = trained
    assert probe == run
    assert {name: getattr(probe, name) for name in own} == own


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_a_run_that_failed_on_nan(command, tmp_path, monkeypatch):
    monkeypatch.setattr(Chained, "made", 0)
    code, *_ = command(
        "train", "tests.worlds:Chained-v0", *TINY_FLAGS, "--total-steps", "400", "--env-kwargs",
        '{"what": "nan reward"}', "--checkpoint-seconds", "0", "--out", "a",
    )  # fmt: skip
    assert code == 1
    failure = RunDirectory(tmp_path / "a").read_failure()
    assert failure is not None
    assert "nan in the reward" in failure.message
    code, out, _ = command("diagnose", "a", "--episodes", "8", "--json")
    assert code == 0
    assert [f["name"] for f in parsed(out)["findings"]] == ["rewards-not-finite"]


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_nan_in_an_environment_without_a_run(command, monkeypatch):
    monkeypatch.setattr(Chained, "made", 0)
    code, out, _ = command(
        "diagnose", "--env", "tests.worlds:Chained-v0", *TINY_FLAGS, "--env-kwargs",
        '{"what": "nan reward", "at": 3}', "--json", "--episodes", "8",
    )  # fmt: skip
    assert code == 0
    assert [f["name"] for f in parsed(out)["findings"]] == ["rewards-not-finite"]


def test_mistakes(refused, run_path):
    assert "name a run directory" in refused("diagnose")
    assert "no run at nowhere" in refused("diagnose", "nowhere")
    assert "its own settings" in refused("diagnose", run_path, "--discount", "0.5")
    assert "its own --env-kwargs" in refused("diagnose", run_path, "--env-kwargs", '{"a": 1}')
    assert "at least 8" in refused("diagnose", run_path, "--episodes", "1")
    assert "--out" in refused("diagnose", run_path, "--out", "no/such/file.json")
    assert "did you mean" in refused("diagnose", "--env", "CartPol-v1")
    assert "observation space" in refused("diagnose", run_path, "--env", "Pendulum-v1")
    assert "it is a directory" in refused("diagnose", run_path, "--out", run_path)
    config = str(RunDirectory(run_path).path / "config.json")
    assert "cannot write --report" in refused("diagnose", run_path, "--report", config)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--ray", "10.0.0.1:6379"], "--ray 10.0.0.1:6379 is for --workers only"),
        (["--worker-timeout", "5"], "--worker-timeout 5.0 is for --workers only"),
        (["--workers", "0"], "workers"),
        (["--workers", "2"], "--workers 2 are more than the 1 unit"),
        (["--workers", "2", "--episodes", "600", "--processes"], "exclude each other"),
        (["--workers", "1", "--cpus-per-worker", "-1"], "cpus"),
    ],
)
def test_flags_of_workers_that_do_not_fit_are_refused(refused, run_path, flags, told):
    assert told in refused("diagnose", run_path, *flags)

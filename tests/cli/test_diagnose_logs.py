"""`policygrad diagnose` on the logs of other libraries: what it prints, and what it refuses."""

import os

import numpy as np

from tests.cli.test_commands import command as command
from tests.cli.test_commands import parsed
from tests.cli.test_commands import refused as refused
from tests.logs.written import progress, sb3_rows
from tests.report.parsed import Parsed


def test_a_log_in_words_and_as_json(command, tmp_path):
    progress(tmp_path / "PPO_1", sb3_rows(learning_rate=0.03, approx_kl=0.5))
    code, out, _ = command("diagnose", "PPO_1")
    said = " ".join(out.split())
    assert code == 0
    assert "PPO_1: a log of Stable-Baselines3 (PPO), 12 rows, 24,576 steps" in said
    assert "1. The step size is too large" in said
    assert "→ Train with learning_rate=0.0003." in said
    assert "not looked at: actions-saturated" in said
    code, out, _ = command("diagnose", "PPO_1/progress.csv", "--json", "--out", "a.json")
    result = parsed(out)
    assert code == 0
    assert (tmp_path / "a.json").is_file()
    assert [f["name"] for f in result["findings"]] == ["step-size-too-large"]
    assert result["healthy"] is False
    assert result["examination"]["library"] == "Stable-Baselines3 (PPO)"
    assert {"name", "needs"} == set(result["not_looked_at"][0])


def test_nothing_found_is_not_called_healthy(command, tmp_path):
    progress(tmp_path / "a", sb3_rows())
    _, out, _ = command("diagnose", "a")
    assert "Nothing was found by 17 rules" in out
    told = " ".join(out.split())
    assert "A log does not say what random actions return." in told
    assert "36.36 in the first rows, 200 at its best, 183.6 in the last rows: it rose" in told
    assert "Healthy" not in out
    assert parsed(command("diagnose", "a", "--json")[1])["healthy"] is None


def test_a_report_of_a_log(command, tmp_path):
    log = progress(tmp_path / "a", sb3_rows(learning_rate=0.03, approx_kl=0.5))
    os.utime(log, (1e9, 1e9))
    code, _, err = command("diagnose", "a", "--report", "seen")
    assert code == 0
    assert "report: seen/report.html" in err
    found = Parsed((tmp_path / "seen" / "report.html").read_text())
    assert found.one("h1").text == "a"
    assert found.all("time")[0].attributes["datetime"] == "2001-09-09T01:46:40+00:00"
    assert [x.text for x in found.all("h3")] == [
        "1. The step size is too large: single updates replace the policy."
    ]
    assert len(found.all("svg")) == 1
    assert not found.all("img")


def test_settings_and_columns_are_given_as_flags(command, tmp_path):
    progress(tmp_path / "a", sb3_rows())
    flags = ("--setting", "gamma=0.5", "--setting", "gae_lambda=0.9")
    result = parsed(command("diagnose", "a", *flags, "--json")[1])
    assert [f["name"] for f in result["findings"]] == ["discount-too-low"]
    progress(tmp_path / "b", [{"score": 0.0, "d": 0.01}] * 5, "own.csv")
    result = parsed(command("diagnose", "b/own.csv", "--columns", "return=score,kl=d", "--json")[1])
    assert [f["name"] for f in result["findings"]] == ["rewards-zero"]


def test_mistakes(refused, command, tmp_path):
    progress(tmp_path / "a", sb3_rows())
    (tmp_path / "model.zip").write_bytes(b"PK")
    assert "hold pickles" in refused("diagnose", "model.zip")
    assert "leave out --episodes" in refused("diagnose", "a", "--episodes", "8")
    assert "leave out --env" in refused("diagnose", "a", "--env", "CartPole-v1")
    assert "NAME=NUMBER" in refused("diagnose", "a", "--setting", "gamma")
    assert "gamma must be from 0 to 1" in refused("diagnose", "a", "--setting", "gamma=2")
    assert "gamma must be from 0 to 1" in refused("diagnose", "a", "--setting", "gamma=nan")
    assert "has no setting gama" in refused("diagnose", "a", "--setting", "gama=1")
    assert "NAME=COLUMN" in refused("diagnose", "a", "--columns", "kl")
    assert "--setting is about a log" in refused("diagnose", "nowhere", "--setting", "gamma=1")
    assert "no such directory" in refused("diagnose", "a", "--out", "no/such/file.json")
    (tmp_path / "empty").mkdir()
    said = refused("diagnose", "empty")
    assert "neither a run nor a log" in said
    assert "trainer_state.json" in said
    progress(tmp_path / "c", [{"x": np.pi}] * 3)
    assert "no library is recognised" in refused("diagnose", "c")

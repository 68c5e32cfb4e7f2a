"""`policygrad diagnose --try` and `--points`: what they print, and what they refuse."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from policygrad.doctor import advising, points, trial_runs
from policygrad.doctor.changes import Change
from policygrad.training.many_seeds import SeedRuns
from tests.cli.test_commands import command as command
from tests.cli.test_commands import parsed
from tests.cli.test_commands import refused as refused
from tests.cli.test_commands import run_path as run_path

QUICK = ("--episodes", "8", "--no-gradients")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("RUN", "--seeds", "3"), "--seeds 3 is for a trial only; add --try"),
        (("RUN", "--budget", "64"), "--budget 64 is for a trial only; add --try"),
        (("--env", "CartPole-v1", "--try"), "--try trains the settings of a run anew"),
        (("--env", "CartPole-v1", "--points", "3"), "--points 3 trains the settings of a run"),
        (("RUN", "--points", "1"), "--points must be at least 2, got 1"),
        (("RUN", "--points", "2", "--no-gradients"), "leave out --no-gradients"),
        (("RUN", "--try", "--seeds", "1", *QUICK), "--seeds of a trial must be at least 2"),
    ],
)
def test_what_cannot_be_done_is_one_line(refused, run_path, flags, told):
    given = [str(run_path) if word == "RUN" else word for word in flags]
    assert told in refused("diagnose", *given)


def test_a_trial_in_words_and_as_json(command, run_path, tmp_path, monkeypatch):
    run = run_path
    change = Change("discount-too-low", {"discount": 0.9})
    monkeypatch.setattr(advising, "changes_of", lambda *_: (change,))
    trial = ("--try", "--seeds", "2", "--budget", "64")
    code, out, err = command("diagnose", run, *QUICK, *trial, "--out", tmp_path / "a.json")
    assert code == 0
    assert "trying 1 change beside the settings in use: 2 seeds of 64 steps each side" in err
    assert "at most 256 steps in all" in err
    words = " ".join(out.split())
    assert "--discount 0.9 (discount-too-low)" in words
    assert "The trial cost 256 environment steps." in words
    written = json.loads((tmp_path / "a.json").read_text())
    code, out, err = command("diagnose", run, *QUICK, *trial, "--json")
    result = parsed(out)
    assert result["trial"]["tried"][0]["verdict"] == written["trial"]["tried"][0]["verdict"]
    assert result["trial"]["steps"] == 0  # all of it was there
    assert (run / "trial.json").exists()


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_what_a_signal_stops_exits_with_its_number(
    command, run_path, trained, monkeypatch, name, code
):
    """A trial of runs one by one and together, and the comparison at several points."""
    stopped = replace(trained, interrupted=True, summary={**trained.summary, "stopped_by": name})
    monkeypatch.setattr(trial_runs.entry, "train", lambda *args, **kwargs: stopped)
    change = Change("discount-too-low", {"discount": 0.9})
    monkeypatch.setattr(advising, "changes_of", lambda *_: (change,))
    found, out, _ = command("diagnose", run_path, *QUICK, "--try", "--budget", "64")
    assert found == code
    assert "Interrupted: what had ended is kept" in out
    assert SeedRuns(None, {0: trained, 1: stopped}).exit_code == code
    with pytest.raises(KeyboardInterrupt) as caught:
        points.compare_at(run_path, points=2, last=SimpleNamespace(updates=2, env_steps=64))
    assert caught.value.exit_code == code

"""Trials of real runs: they repeat `train`, leave the run alone, and can be gone on with."""

import hashlib
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

import policygrad
from policygrad import estimators
from policygrad.core.errors import RunError, UserError
from policygrad.diagnostics.findings import Finding
from policygrad.doctor import advising
from policygrad.doctor.result import Diagnosis
from policygrad.doctor.subject import Subject
from policygrad.doctor.trial_runs import TrialRuns
from policygrad.doctor.trying import Interrupted
from policygrad.doctor.verdict import outcome_of
from policygrad.training.history import checksum_of
from policygrad.training.loop import Training
from tests.worlds import PLAIN, TINY, Chain

TRIED = {**TINY, "total_steps": 96}
CHANGE = {"discount": 0.5}


@pytest.fixture(scope="module")
def run(tmp_path_factory, trained_compiled):
    path = tmp_path_factory.mktemp("trial") / "run"
    shutil.copytree(trained_compiled.path, path)
    return path


def advised(run, *proposed):
    """A diagnosis of the run with one finding, which proposes these changes."""
    found = policygrad.diagnose(run, episodes=8, gradients=False).examination
    finding = Finding("made-up", "", "", {}, "", 1.0, "", tuple(proposed))
    return Diagnosis((finding,), found)


def contents(folder):
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "trial.json")
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.slow
def test_a_trial_trains_as_train_does_and_leaves_the_run_alone(run):
    before, told = contents(run), []
    trial = policygrad.try_advice(
        run, diagnosis=advised(run, CHANGE), seeds=2, budget=96,
        on_update=lambda settings, seed, metrics: told.append((dict(settings), seed)),
    )  # fmt: skip
    assert contents(run) == before
    assert trial.seeds == (1, 2)  # 0 is the run's own
    (tried,) = trial.tried
    assert tried.verdict is not None
    assert (tried.verdict.seeds, tried.steps) == (2, 4 * 96)
    assert {(bool(settings), seed) for settings, seed in told} == {
        (False, 1), (False, 2), (True, 1), (True, 2)
    }  # fmt: skip
    for side, changed in zip(trial.sides, ({}, CHANGE), strict=True):
        alone = policygrad.train("gymnax/CartPole-v1", seed=1, **{**TRIED, **changed})
        truth = outcome_of(alone.metrics)
        found = side.outcomes[1]
        assert (found.end, found.area) == pytest.approx((truth.end, truth.area), rel=1e-4)
    saved = json.loads((run / "trial.json").read_text())
    assert saved["tried"][0]["change"]["settings"] == CHANGE
    assert saved["steps"] == 4 * 96
    # a second time nothing is trained again
    told.clear()
    again = policygrad.try_advice(
        run, diagnosis=advised(run, CHANGE), seeds=2, budget=96,
        on_update=lambda settings, seed, metrics: told.append(seed),
    )  # fmt: skip
    assert not told
    assert again.tried[0].verdict == tried.verdict
    # with another budget all is trained anew, into a file beside it; a damaged file stays too
    directory = Subject.of(run, {}).directory
    shorter = advising.TrialFile(directory, TrialRuns.of(Subject.of(run, {}), 64, None), own=False)
    assert (shorter.name, shorter.read()) == ("trial-2.json", ())
    (run / "trial-2.json").write_text("{")
    shorter = advising.TrialFile(directory, TrialRuns.of(Subject.of(run, {}), 64, None), own=False)
    assert (shorter.name, shorter.read()) == ("trial-3.json", ())
    (run / "trial-2.json").unlink()
    runs = TrialRuns.of(Subject.of(run, {}), 96, None)
    assert len(advising.TrialFile(directory, runs, own=False).read()) == 2


def test_a_trial_says_what_it_costs_and_has_two_updates_at_least(run):
    runs = TrialRuns.of(Subject.of(run, {}), 70, None)  # batches of 32 steps
    assert runs.cost([CHANGE, {"batch_episodes": 4}], 3) == (3 * (96 + 96 + 70), False)
    assert runs.cost([CHANGE], 3) == (3 * (96 + 96), True)
    with pytest.raises(UserError, match=r"10 steps is a single update of 32.*--budget of 64"):
        policygrad.try_advice(run, diagnosis=advised(run, CHANGE), seeds=2, budget=10)
    trial = policygrad.try_advice(
        run, diagnosis=advised(run, {"batch_steps": 96}), seeds=2, budget=70
    )
    assert trial.tried[0].verdict is None
    assert "single update of 96" in trial.tried[0].reason


def test_without_a_proposal_nothing_is_trained(trained, monkeypatch):
    monkeypatch.setattr(Training, "begin", None)
    said = []
    trial = policygrad.try_advice(trained.path, diagnosis=advised(trained.path), begin=said.append)
    assert said == ["nothing to try: no finding proposes another setting"]
    assert (trial.tried, trial.steps) == ((), 0)
    assert not (trained.path / "trial.json").exists()
    assert trial.budget == 50_000


@pytest.mark.slow
def test_an_object_has_to_be_passed_again(tmp_path):
    policygrad.train(
        Chain, out=tmp_path / "a", estimator=estimators.gae(discount=0.9), **PLAIN,
    )  # fmt: skip
    subject = Subject.of(tmp_path / "a", {"env": Chain})
    with pytest.raises(UserError, match=r"estimator as objects.*try_advice.*estimator=…, env=…"):
        TrialRuns.of(subject, 64, None)
    whole = Subject.of(tmp_path / "a", {"env": Chain, "estimator": estimators.gae(discount=0.9)})
    runs = TrialRuns.of(whole, 64, None)
    runs.check({"step_size": 0.1})
    with pytest.raises(UserError, match="gae-lambda"):
        runs.check({"gae_lambda": 0.9})
    done = {}
    runs.train({"step_size": 0.1}, [3], done)
    assert done[3].steps == 64


def test_an_interrupted_run_ends_the_trial(run, monkeypatch):
    runs = TrialRuns.of(Subject.of(run, {}), 96, None)
    from policygrad.doctor import trial_runs

    def ended(*args, **kwargs):
        return SimpleNamespace(interrupted=True, exit_code=143)

    monkeypatch.setattr(trial_runs, "train_seeds", ended)
    with pytest.raises(Interrupted) as caught:
        runs.train({}, [1], {})
    assert caught.value.exit_code == 143
    monkeypatch.setattr(trial_runs.entry, "train", ended)
    with pytest.raises(Interrupted) as caught:
        replace(runs, together=False).train({}, [1], {})
    assert caught.value.exit_code == 143


@pytest.mark.parametrize("wrong", [{"seeds": 1}, {"budget": 0}])
def test_numbers_out_of_range_are_refused(trained, wrong):
    with pytest.raises(UserError, match=f"--{next(iter(wrong))}"):
        policygrad.try_advice(trained.path, **wrong)


def test_a_run_of_schedules_is_refused(run):
    subject = Subject.of(run, {})
    scheduled = replace(subject, saved={**subject.saved, "schedules": ["clip_ratio"]})
    with pytest.raises(UserError, match="cannot be tried: callbacks changed clip_ratio"):
        TrialRuns.of(scheduled, 64, None)


def test_a_run_that_began_from_a_policy_begins_from_it_again(run, trained):
    subject = Subject.of(run, {})
    saved = {**subject.saved, "begins_from_a_policy": True}
    with pytest.raises(UserError, match=r"began from a policy passed in Python.*policy=…"):
        TrialRuns.of(replace(subject, saved=saved), 64, None)
    start = {"path": str(trained.path), "sha256": checksum_of(trained.path)}
    runs = TrialRuns.of(replace(subject, saved={**saved, "from": start}), 64, None)
    assert runs.start == str(trained.path)
    other = {**start, "sha256": "0"}
    with pytest.raises(RunError, match="holds another one by now"):
        TrialRuns.of(replace(subject, saved={**saved, "from": other}), 64, None)

"""What a trial tries, in which order, beside what, and what it keeps."""

import pytest

from policygrad.core.errors import UserError
from policygrad.diagnostics.rules import diagnose
from policygrad.doctor.changes import Change, changes_of, flags_of, with_change
from policygrad.doctor.trial_runs import Cost
from policygrad.doctor.trials_shown import announced, lines_of
from policygrad.doctor.trying import Interrupted, Side, try_changes
from policygrad.doctor.verdict import Outcome
from policygrad.training.given import Given
from policygrad.training.resolve import resolve
from tests.diagnostics.test_rules import BROKEN

SEEDS = (1, 2, 3, 4, 5)
A, B, C = Change("a", {"x": 1}), Change("a", {"x": 2}), Change("b", {"y": 3})


class Runs:
    """Runs whose return is a function of their settings, with a little that differs by seed."""

    def __init__(self, of, stop_at=None, refuses=()):
        self.of, self.stop_at, self.refuses, self.trained = of, stop_at, refuses, []

    def check(self, settings):
        if any(name in settings for name in self.refuses):
            raise UserError("--y is not read")

    def train(self, settings, seeds, done):
        for seed in seeds:
            if len(self.trained) == self.stop_at:
                raise Interrupted(143)
            self.trained.append((tuple(settings.items()), seed))
            end = self.of(settings) + 0.01 * seed * (1 + len(settings))
            done[seed] = Outcome(0.0, end, end / 2, 10)


def tried(changes, runs, **more):
    return try_changes(changes, runs, budget=10, seeds=SEEDS, **more)


def test_what_is_adopted_is_what_the_next_change_is_tried_beside():
    runs = Runs(lambda s: 10.0 * s.get("x", 0) + 100.0 * s.get("y", 0) + 1.0)
    trial = tried([A, B, C], runs)
    assert [t.verdict and t.verdict.word for t in trial.tried] == ["adopt", None, "adopt"]
    assert "another change for a was adopted" in trial.tried[1].reason
    assert trial.tried[2].against == {"x": 1}
    assert trial.adopted == {"x": 1, "y": 3}
    # three seeds each of: in use, x, x and y; those of x were trained once
    assert len(runs.trained) == 9
    assert [t.steps for t in trial.tried] == [60, 0, 30]
    assert trial.steps == 90
    shown = "\n".join(lines_of(trial))
    assert "→ Train with --x 1, --y 3. The trial cost 90 environment steps." in shown
    assert "adopt: --y 3 (b), beside --x 1" in shown


def test_the_next_change_of_a_finding_is_tried_where_the_first_is_kept():
    trial = tried([A, B], Runs(lambda s: {0: 5.0, 1: 1.0, 2: 9.0}[s.get("x", 0)]))
    assert [t.verdict.word for t in trial.tried] == ["keep", "adopt"]
    assert trial.adopted == {"x": 2}


def test_where_nothing_is_clear_all_seeds_are_trained():
    runs = Runs(lambda s: 0.0)
    noise = iter([0, 9, 3, 5, 1, 8, 2, 0, 7, 4])
    runs.of = lambda s: float(next(noise))
    trial = tried([A], runs)
    assert trial.tried[0].verdict.word == "cannot be told"
    assert trial.tried[0].verdict.seeds == len(SEEDS)
    assert sorted(seed for _, seed in runs.trained) == sorted(2 * SEEDS)


def test_a_change_that_a_run_cannot_have_is_not_tried():
    trial = tried([C, A], Runs(lambda s: 10.0 * s.get("x", 0), refuses=("y",)))
    assert "cannot be trained: --y is not read" in trial.tried[0].reason
    assert trial.adopted == {"x": 1}


def test_an_interrupted_trial_keeps_what_ended_and_goes_on_from_there():
    told = []
    of = lambda s: 10.0 * s.get("x", 0) + 100.0 * s.get("y", 0)  # noqa: E731
    trial = tried([A, C], Runs(of, stop_at=7), tell=told.append)
    assert (trial.interrupted, trial.exit_code) == (True, 143)
    assert [t.verdict.word for t in trial.tried] == ["adopt"]
    assert told[-1] == trial
    assert trial.steps == 70
    again = Runs(of)
    whole = tried([A, C], again, known=trial.sides)
    assert len(again.trained) == 2  # of nine, seven had ended
    assert whole.adopted == tried([A, C], Runs(of)).adopted == {"x": 1, "y": 3}
    assert isinstance(trial.sides[0], Side)


def test_what_ended_is_told_where_an_error_ends_the_trial():
    told = []

    class Failing(Runs):
        def train(self, settings, seeds, done):
            if settings:
                raise RuntimeError
            super().train(settings, seeds, done)

    with pytest.raises(RuntimeError):
        tried([A], Failing(lambda s: 0.0), tell=told.append)
    assert len(told[-1].sides[0].outcomes) == 3


def test_what_a_trial_costs_is_said_before():
    said = announced([A, C], 5, 1000, Cost(15_360, exact=True))
    assert "2 changes" in said
    assert "3 to 5 seeds of 1,000 steps" in said
    assert "at most 15,360 steps" in said
    assert "about, and at most, 15,000" in announced([A], 5, 1000, Cost(15_000, exact=False))
    assert "at most 15,360 steps in all; 5,120 steps were made before" in announced(
        [A, C], 5, 1000, Cost(15_360, exact=True), 5_120
    )


@pytest.mark.parametrize(
    ("name", "broken"), [(name, e) for name, cases in BROKEN.items() for e in cases]
)
def test_what_a_finding_proposes_is_what_it_says_and_can_be_trained(name, broken):
    (finding,) = [f for f in diagnose(broken) if f.name == name]
    asked = {k: v for k, v in broken.settings.items() if v is not None}
    for change in changes_of([finding], broken.settings):
        config = resolve(with_change(asked, change.settings), Given())[0].config
        for setting, value in change.settings.items():
            if value is not None:
                assert getattr(config, setting) == value
        named = [s for s in change.settings if s != "clipped_gaussian"]
        for setting in named:
            if change.settings[setting] is not None:
                assert f"--{setting.replace('_', '-')}" in finding.change.replace("--no-", "--")
    if "--" in finding.change and "No flag" not in finding.change:
        # a trial compares what samples return, and not the mode; it leaves the environment as it is
        cannot = {"too-few-episodes", "rewards-constant", "rewards-unscaled", "mode-loses-most",
                  "no-episode-ends"}  # fmt: skip
        assert finding.proposes or name in cannot or broken.algorithm is None


def test_a_setting_that_the_change_leaves_unread_is_dropped():
    config = with_change({"estimator": "n-step", "n": 1}, {"estimator": "gae", "gae_lambda": 0.9})
    assert (config.estimator, config.n, config.gae_lambda) == ("gae", None, 0.9)
    config = with_change(
        {"batch_episodes": 1, "max_episode_steps": 9}, {"batch_episodes": None, "batch_steps": 64}
    )
    assert (config.batch_episodes, config.batch_steps, config.max_episode_steps) == (None, 64, None)
    with pytest.raises(UserError, match="gae-lambda"):
        with_change({"estimator": "td"}, {"gae_lambda": 0.9})


def test_what_is_set_already_is_not_proposed_again():
    (finding,) = diagnose(BROKEN["discount-too-low"][0])
    assert changes_of([finding], {"discount": 0.99}) == ()
    assert changes_of([finding, finding], {"discount": 0.5})[0].flags == "--discount 0.99"
    assert flags_of({"tanh_gaussian": False}) == "--no-tanh-gaussian"

"""Which run may be called healthy, and what is said of one that may not."""

import json
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from policygrad.core.plain import to_json
from policygrad.diagnostics import Spread, diagnose
from policygrad.diagnostics.clean_bill import (
    STANDS,
    all_the_same,
    doubts,
    headline,
    healthy,
    lines_of,
)
from policygrad.diagnostics.language import OTHER
from policygrad.diagnostics.rules import RULES, looked_at, not_looked_at
from policygrad.diagnostics.standing import (
    WINDOW,
    contrast,
    difference,
    mean_of,
    spread_of_episodes,
    standing_of,
)
from tests.diagnostics.test_rules import (
    AS_RANDOM,
    BROKEN,
    HALVED,
    RANDOM,
    UPDATES,
    examination,
    halved,
    noisy,
    series,
    unlearned,
)

MODE = replace(RANDOM, returns=Spread(110.0, 30.0, 50.0, 200.0), unfinished=3)
# from 20 to 100; random actions return 22
RISEN = examination(at_random=RANDOM, by_mode=MODE, noise=noisy(1.0))


def test_a_run_far_above_random_actions_and_at_its_best_is_healthy():
    assert diagnose(RISEN) == ()
    assert doubts(RISEN) == ()
    assert healthy((), RISEN) is True
    assert (headline((), RISEN) or "").startswith("Healthy, as far as was looked at: 33 rules")
    assert lines_of(RISEN) == [
        "mean return (95 % intervals):",
        "   now: 100 [89.93, 110.1], of 64 fresh episodes",
        "   by the mode: 110 [102.4, 117.6], of 64 episodes, 3 stopped without an end; the "
        "difference is 10 [-2.476, 22.48]",
        "   of random actions: 22 [18.98, 25.02], of 64 episodes; the difference is 78 [67.52, "
        "88.48]",
        "   best in training: 100, at update 20 of 20; not lost since",
    ]


DOUBTFUL = {
    "is not clearly above that of random actions: the difference is 0 [": replace(
        RISEN, sample=replace(RISEN.sample, **AS_RANDOM)
    ),
    "clearly below its best in training: the difference is 217 [": examination(
        metrics={"return_mean": halved}, seen=HALVED, at_random=RANDOM
    ),
    "too short to judge: it has 2 updates": replace(
        RISEN, metrics={k: x[-2:] for k, x in series().items()}
    ),
    "not known what random actions return": replace(RISEN, at_random=None),
    "no fresh episodes could be looked at": replace(RISEN, sample=None),
    "Too few episodes ended": replace(RISEN, metrics=series(episodes=np.linspace(0, 9, UPDATES))),
}


@pytest.mark.parametrize("doubt", DOUBTFUL)
def test_what_speaks_against_a_clean_bill(doubt):
    said = doubts(DOUBTFUL[doubt])
    assert any(doubt in each for each in said), said
    assert healthy((), DOUBTFUL[doubt]) is None
    assert "Healthy" not in (headline((), DOUBTFUL[doubt]) or "")


def test_stopped_episodes_are_compared_with_none_of_training():
    """Where training's go on; a limit of the task or of the run stops both."""
    cut = replace(RISEN, sample=replace(RISEN.sample, unfinished=1), time_limit=None)
    at = standing_of(cut)
    assert at is not None
    assert at.lost is None
    assert np.isnan([at.best, at.start]).all()
    assert doubts(cut) == (
        "1 of 64 fresh episodes were stopped after 300 steps, where those of training go on; so it "
        "is not known how far the return is below its best in training.",
    )
    assert lines_of(cut)[-1] == (
        "   best in training: not compared, since fresh episodes were stopped"
    )
    limit = {"max_episode_steps": 300, "batch_episodes": 16}
    for both in (replace(cut, time_limit=500), replace(cut, settings={**cut.settings, **limit})):
        assert lines_of(both)[-1] == "   best in training: 100, at update 20 of 20; not lost since"


@pytest.mark.parametrize("name", BROKEN)
def test_no_broken_run_is_healthy(name):
    for broken in BROKEN[name]:
        findings = diagnose(broken)
        assert healthy(findings, broken) is False
        assert headline(findings, broken) is None


def test_a_run_with_a_fault_that_has_learned_all_the_same_is_said_to():
    found = diagnose(BROKEN["step-size-too-large"][0])
    assert found
    assert (
        all_the_same(found, RISEN) == f"All the same the run has learned: its return is {STANDS}."
    )
    assert all_the_same((), RISEN) is None
    fallen = [e for doubt, e in DOUBTFUL.items() if "too short" not in doubt]
    assert [all_the_same(found, e) for e in fallen] == [None] * 5


@pytest.mark.parametrize(("returns", "said"), [
    (np.linspace(20, 100, UPDATES), "All the same the return rose."),
    (np.linspace(100, 20, UPDATES), None),
    (np.full(UPDATES, np.nan), None),
])  # fmt: skip
def test_a_log_whose_return_rises_is_said_to(returns, said):
    log = replace(examination(metrics={"return_mean": returns}), language=OTHER, sample=None)
    assert all_the_same(diagnose(BROKEN["step-size-too-large"][0]), log) == said


def test_a_dip_within_noise_is_not_lost():
    """The best of twenty equal means of a hundred episodes is above what fresh ones return."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        means = rng.normal(100, 40 / 10, UPDATES)
        fresh = Spread.of(rng.normal(100, 40, 64))
        counts = np.arange(1, UPDATES + 1) * 200.0
        e = examination(
            metrics={"return_mean": np.append(20, means[1:]), "episodes": counts},
            seen={"returns": fresh}, at_random=RANDOM,
        )  # fmt: skip
        wrong += any("below its best" in doubt for doubt in doubts(e))
    assert wrong == 0  # a tenth of the gain of 80 is lost as well, beyond an interval of 95 %


@pytest.mark.parametrize(
    ("updates", "each"), [(1, 20), (2, 20), (10, 100), (20, 50), (100, 100), (500, 20)]
)
def test_a_return_that_never_changed_is_seldom_lost(updates, each):
    """An interval of 95 % begins above 0 in one of 40. Of 1,500, 54 is three standard errors more;
    the intervals of few means, which vary most, were too short by half without their error."""
    rng, wrong = np.random.default_rng(updates + each), 0
    ends = each * np.arange(1, updates + 1)
    for _ in range(1500):
        total = np.append(0.0, np.cumsum(rng.normal(size=ends[-1])))
        window = np.minimum(ends, WINDOW)
        e = replace(
            RISEN,
            at_random=None,
            by_mode=None,
            metrics={"return_mean": (total[ends] - total[ends - window]) / window,
                     "episodes": ends.astype(float)},
            sample=replace(RISEN.sample, returns=Spread.of(rng.normal(size=64))),
        )  # fmt: skip
        at = standing_of(e)
        assert at is not None
        assert at.lost is not None
        wrong += at.lost.low > 0
    assert wrong <= 54, wrong


def test_hardly_any_policy_at_random_seems_better_than_random_actions():
    """Of 300, by chance 0.15 are expected; the returns have the long tail of CartPole's."""
    rng = np.random.default_rng(0)
    better = 0
    for _ in range(300):
        one, other = (Spread.of(8 + rng.exponential(14, 64)) for _ in range(2))
        e = examination(
            metrics=unlearned, seen={"returns": one}, at_random=replace(RANDOM, returns=other)
        )
        better += not any("not clearly above" in doubt for doubt in doubts(e))
    assert better <= 2


def test_the_intervals_are_student_s_and_welch_s():
    rng = np.random.default_rng(1)
    x, y = rng.normal(3, 2, 20), rng.normal(1, 5, 50)
    one = mean_of(Spread.of(x), 20)
    low, high = stats.t.interval(0.95, 19, x.mean(), stats.sem(x))
    assert (one.low, one.high) == pytest.approx((low, high))
    apart = difference((Spread.of(x), 20), (Spread.of(y), 50))
    known = stats.ttest_ind(x, y, equal_var=False).confidence_interval()
    assert (apart.low, apart.high) == pytest.approx((known.low, known.high))
    wide = difference((Spread.of(x), 20), (Spread.of(y), 50), level=0.999)
    known = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.999)
    assert (wide.low, wide.high) == pytest.approx((known.low, known.high))
    equal = Spread(1.0, 0.0, 1.0, 1.0)
    assert difference((equal, 8), (equal, 8)).high == 0


def test_the_interval_of_a_contrast_covers_as_often_as_it_says():
    """Of 2,000 contrasts of unequal groups 95 % ± 1.5 % are covered: three standard errors."""
    rng, weights, spreads, counts = np.random.default_rng(3), (0.5, -1, 0.5), (1, 5, 20), (8, 20, 9)
    covered = 0
    for _ in range(2000):
        groups = [Spread.of(rng.normal(0, s, n)) for s, n in zip(spreads, counts, strict=True)]
        found = contrast(*zip(weights, groups, counts, strict=True))
        covered += found.low <= 0 <= found.high
    assert abs(covered / 2000 - 0.95) < 0.015


@pytest.mark.parametrize(("new", "most"), [(100, 1.5), (25, 1.2)])
def test_the_spread_of_episodes_follows_from_their_running_mean(new, most):
    """Whatever the trend; a little too large where no episode is in two means."""
    returns = np.random.default_rng(2).normal(0, 30, 40_000)
    counts = np.arange(100, len(returns), new)
    means = np.array([returns[n - 100 : n].mean() for n in counts]) + 0.01 * counts
    found = spread_of_episodes(means, counts.astype(float))
    assert 30 * 0.9 < found < 30 * most


def test_the_median_of_a_gaussian_is_what_it_is_divided_by():
    from policygrad.diagnostics.standing import MEDIAN

    assert pytest.approx(NormalDist().inv_cdf(0.75), abs=1e-4) == MEDIAN


def test_the_share_that_was_lost():
    at = standing_of(examination(metrics={"return_mean": halved}, seen=HALVED))
    assert at is not None
    assert (at.start, at.best, at.best_update, at.last) == (20, 420, 10, 203)
    assert at.lost is not None
    assert at.lost.value == 217
    assert at.share_lost is not None
    assert at.share_lost.value == pytest.approx(217 / 400)
    assert json.dumps(to_json(at), allow_nan=False)


def test_what_was_not_looked_at_is_named():
    assert looked_at(RISEN) == tuple(rule.name for rule in RULES)
    short = replace(
        RISEN, metrics={k: x[:2] for k, x in series().items()}, noise=None, at_random=None
    )
    needs = {each.name: each.needs for each in not_looked_at(short)}
    assert needs["step-size-too-small"] == "3 updates"
    assert needs["return-collapsed"] == "10 updates"
    assert needs["baseline-hurts"] == "the gradients of fresh episodes"
    assert needs["below-random"] == "episodes of random actions"
    assert needs["noise-costs-most"] == "episodes of random actions"
    alone = {each.name: each.needs for each in not_looked_at(replace(RISEN, by_mode=None))}
    assert alone == dict.fromkeys(
        ("noise-costs-most", "mode-loses-most"), "episodes of the policy's mode"
    )
    assert set(looked_at(short)) == {rule.name for rule in RULES} - needs.keys()
    nothing = {each.name for each in not_looked_at(replace(short, sample=None))}
    assert "rewards-zero" in nothing
    assert "rewards-not-finite" not in nothing


@pytest.mark.parametrize(
    ("returns", "how"),
    [
        (
            np.linspace(20, 200, 12),
            "36.36 in the first rows, 200 at its best, 183.6 in the last rows: it rose",
        ),
        (
            22 + np.resize([-1.0, 1.0, 0.5], 12),
            "22.5 in the first rows, 23 at its best, 22.5 in the last rows: it did not rise, "
            "beyond chance",
        ),
        (
            np.linspace(-200, -900, 12),
            "-263.6 in the first rows, -200 at its best, -836.4 in the last rows: it fell",
        ),
        (
            [1.0, 2.0],
            "1.5 in the first rows, 2 at its best, 1.5 in the last rows: too few rows to say "
            "whether it",
        ),
    ],
)
def test_a_log_says_of_its_return_whether_it_rose(returns, how):
    log = replace(RISEN, metrics={"return_mean": np.asarray(returns)}, language=OTHER, sample=None)
    (line,) = lines_of(log)
    assert how in line
    assert healthy((), log) is None

"""The verdict on a change, against SciPy's paired t-test and against simulated trials."""

import math

import numpy as np
import pytest
import scipy.stats

from policygrad.doctor.changes import Change
from policygrad.doctor.trying import try_changes
from policygrad.doctor.verdict import Outcome, difference, judge, looks_of, outcome_of
from tests.slow import params

TRIALS = 2_000
SEEDS = tuple(range(5))


class Drawn:
    """Runs whose returns are drawn: without a change from one distribution, with it from another.

    A draw is the return at the end and the mean over the run.
    """

    def __init__(self, rng, without, with_change):
        self.rng, self.draws = rng, {False: without, True: with_change}

    def check(self, settings):
        pass

    def train(self, settings, seeds, done):
        for seed in seeds:
            end, area = self.draws[bool(settings)](self.rng)
            done[seed] = Outcome(0.0, end, area, 100)


def words(without, with_change, trials=TRIALS, seeds=SEEDS):
    """The verdicts of many simulated trials, and how many pairs each took."""
    rng, found = np.random.default_rng(0), []
    for _ in range(trials):
        runs = Drawn(rng, without, with_change)
        trial = try_changes([Change("a", {"b": 1})], runs, budget=100, seeds=seeds)
        verdict = trial.tried[0].verdict
        found.append((verdict.word, verdict.seeds))
    return [word for word, _ in found], [n for _, n in found]


def both(draw):
    """The end, and a mean over the run that goes with it."""

    def of(rng):
        end = draw(rng)
        return end, 0.6 * end + 0.2 * draw(rng)

    return of


NULL = {
    "normal": lambda rng: rng.normal(200.0, 50.0),
    "half of the runs learn nothing": lambda rng: rng.choice([20.0, 500.0]) + rng.normal(0, 1.0),
    "one in five fails": lambda rng: 20.0 if rng.random() < 0.2 else 480.0 + rng.normal(0, 5.0),
    "heavy tails": lambda rng: 100.0 * rng.standard_t(2),
    "skew": lambda rng: rng.exponential(100.0),
    "solved": lambda rng: 500.0,
    "few values": lambda rng: rng.binomial(100, 0.02) / 100,
}


@pytest.mark.parametrize(
    "name", params(NULL.keys(), {"normal", "one in five fails", "skew", "solved", "few values"})
)
def test_a_change_without_effect_is_adopted_in_at_most_five_percent(name):
    """2,000 trials of two looks; at a rate of 5 %, more than 128 come in 1 of 1,000 suites."""
    draw = both(NULL[name])
    found, _ = words(draw, draw)
    assert found.count("adopt") <= scipy.stats.binom.ppf(0.999, TRIALS, 0.05)


def test_neither_is_one_that_lowers_the_returns():
    found, _ = words(
        both(lambda rng: rng.normal(200, 50)), both(lambda rng: rng.normal(150, 50)), 500
    )
    assert found.count("adopt") <= 10
    assert found.count("keep") >= 50


def test_a_run_at_the_bottom_against_one_at_the_top_is_clear():
    bottom = both(lambda rng: rng.normal(21.0, 3.0))
    top = both(lambda rng: rng.normal(400.0, 60.0))
    found, pairs = words(bottom, top, 500)
    assert found.count("adopt") >= 495
    assert pairs.count(3) >= 300  # three seeds were enough
    found, _ = words(bottom, top, 500, seeds=SEEDS[:3])
    assert found.count("adopt") >= 450


def test_half_as_much_again_is_told_by_five_seeds_more_often_than_not():
    found, _ = words(
        both(lambda rng: rng.normal(100, 20)), both(lambda rng: rng.normal(160, 20)), 500
    )
    assert found.count("adopt") >= 400


def test_a_difference_that_is_not_worth_it_is_kept():
    found, pairs = words(both(lambda rng: 500.0), both(lambda rng: 500.0), 1)
    assert (found, pairs) == (["keep"], [3])


def test_one_that_learns_faster_and_ends_equal_is_adopted():
    slow = {s: Outcome(20.0, 500.0, 200.0 + s, 100) for s in SEEDS}
    fast = {s: Outcome(20.0, 500.0, 350.0 - s, 100) for s in SEEDS}
    assert judge(slow, fast, 1).word == "adopt"
    assert judge(fast, slow, 1).word == "keep"
    lower = {s: Outcome(20.0, 480.0 + 10 * s, 350.0 - s, 100) for s in SEEDS}
    assert judge(slow, lower, 1).word == "adopt"  # its end may be as high
    higher = {s: Outcome(20.0, 501.0, 200.0, 100) for s in SEEDS}
    assert judge(higher, fast, 1).word == "keep"


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_is_that_of_the_paired_t_test(seeds):
    rng = np.random.default_rng(seeds)
    a, b = rng.normal(size=(2, seeds))
    of = lambda x: {i: Outcome(0.0, x[i], 2 * x[i], 100) for i in range(seeds)}  # noqa: E731
    looks = len(looks_of(seeds))
    verdict = judge(of(a), of(b), looks)
    truth = scipy.stats.ttest_rel(b, a).confidence_interval(1 - 0.05 / looks)
    assert (verdict.end.low, verdict.end.high) == pytest.approx((truth.low, truth.high))
    assert (verdict.area.low, verdict.area.high) == pytest.approx((2 * truth.low, 2 * truth.high))
    assert verdict.confidence == 1 - 0.05 / looks
    assert difference(list(b - a), 0.05 / looks).value == pytest.approx(float(np.mean(b - a)))


def test_equal_gains_are_no_certainty():
    """As a fresh trial of three pairs found them: +0.06 with an interval of no width."""

    def of(*ends):
        return {i: Outcome(0.0, end, end, 100) for i, end in enumerate(ends)}

    verdict = judge(of(0.31, 0.42, 0.36), of(0.37, 0.48, 0.42), 2)
    assert verdict.word == "cannot be told"
    assert verdict.end.low < 0 < verdict.end.value == pytest.approx(0.06)
    # both sides constant: three signs may all be plus by chance, seven not
    assert judge(of(0, 0, 0), of(1, 1, 1), 1).word == "cannot be told"
    assert judge(of(*[0] * 7), of(*[1] * 7), 1).word == "adopt"
    assert judge(of(1, 1, 1), of(0, 0, 0), 1).word == "keep"


def rows(*pairs):
    return [{"env_steps": steps, "return_mean": mean} for steps, mean in pairs]


def test_the_area_is_that_under_the_curve():
    found = outcome_of(rows((10, None), (20, 4.0), (30, math.nan), (50, 1.0)), 50)
    assert (found.start, found.end, found.steps) == (4.0, 1.0, 50)
    assert found.area == pytest.approx((4 * 10 + 4 * 10 + 4 * 10 + 1 * 20) / 50)


def test_a_run_that_stopped_keeps_what_it_had():
    found = outcome_of(rows((10, 2.0), (20, 6.0)), 100, "NaN")
    assert found == Outcome(2.0, 6.0, (2 * 10 + 6 * 90) / 100, 20, "NaN")
    nothing = outcome_of([], 100, "NaN")
    assert nothing.steps == 0
    good = {s: Outcome(5.0, 50.0 + s, 30.0 + s, 100) for s in SEEDS}
    verdict = judge(dict.fromkeys(SEEDS, nothing), good, 1)
    assert (verdict.word, verdict.without) == ("adopt", 5.0)


def test_without_an_episode_nothing_can_be_told():
    nothing = dict.fromkeys(SEEDS, outcome_of(rows((10, None)), 10))
    verdict = judge(nothing, nothing, 1)
    assert verdict.word == "cannot be told"
    assert "no episode ended" in verdict.note

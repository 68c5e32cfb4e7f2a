"""The verdict on a change, against SciPy's paired t-test and against simulated trials."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from policygrad.doctor.changes import Change
from policygrad.doctor.trials_shown import lines_of
from policygrad.doctor.trying import try_changes
from policygrad.doctor.verdict import Outcome, difference, judge, looks_of, outcome_of
from tests.slow import params

TRIALS = 2_000
SEEDS = tuple(range(5))


class Given:
    """Runs whose outcomes are given: without a change, and with one."""

    def __init__(self, without, with_change):
        self.of = {False: without, True: with_change}

    def check(self, settings):
        pass

    def train(self, settings, seeds, done):
        done.update({seed: self.of[bool(settings)][seed] for seed in seeds})


class Drawn:
    """Runs whose returns are drawn: without a change from one distribution, with it from another.

    A draw is the return at the end, the mean over the run and, where the run stops by itself, why.
    """

    def __init__(self, rng, without, with_change):
        self.rng, self.draws = rng, {False: without, True: with_change}

    def check(self, settings):
        pass

    def train(self, settings, seeds, done):
        for seed in seeds:
            end, area, *why = self.draws[bool(settings)](self.rng)
            done[seed] = Outcome(0.0, end, area, 100, *why)


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


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_nor_where_runs_stop_by_themselves_on_both_sides_alike(rate):
    """As above; what a run had reached when it stopped is far above the rest."""

    def draw(rng):
        if rng.random() < rate:
            return rng.normal(900.0, 50.0), rng.normal(500.0, 30.0), "NaN"
        return rng.normal(200.0, 50.0), rng.normal(120.0, 30.0)

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
    found = outcome_of(rows((10, None), (20, 4.0), (30, math.nan), (50, 1.0)))
    assert (found.start, found.end, found.steps) == (4.0, 1.0, 50)
    assert found.area == pytest.approx((4 * 10 + 4 * 10 + 4 * 10 + 1 * 20) / 50)


def test_a_run_that_stopped_is_told_by_the_steps_that_it_took():
    found = outcome_of(rows((10, 2.0), (20, 6.0)), "NaN")
    assert found == Outcome(2.0, 6.0, (2 * 10 + 6 * 10) / 20, 20, "NaN")
    assert outcome_of([], "NaN").steps == 0


# ----- runs that stop by themselves: however much they had learned, no training goes on from there

WHY = "the gradient is NaN"
LASTS = {s: Outcome(20.0 + s, 102.0 + s, 70.0 + s, 50_000) for s in SEEDS}
STOPS = {s: Outcome(21.0 + s, 150.0 + 3 * s, 90.0 + s, 20_000, WHY) for s in SEEDS}


def first(n, side):
    return {seed: side[seed] for seed in SEEDS[:n]}


@pytest.mark.parametrize("n", [3, 5])
def test_a_change_under_which_all_runs_stop_is_not_adopted(n):
    verdict = judge(first(n, LASTS), first(n, STOPS), 2)
    assert verdict.word == "keep"
    assert (verdict.stopped_without, verdict.stopped_with_change) == (0, n)
    assert f"{n} of {n} runs with the change and 0 of {n} without it stopped" in verdict.note
    assert f"(seed 0: {WHY})" in verdict.note


@pytest.mark.parametrize("n", [3, 5])
def test_settings_under_which_all_runs_stop_are_not_kept(n):
    verdict = judge(first(n, STOPS), first(n, LASTS), 2)
    assert verdict.word == "adopt"
    assert verdict.without == 20.0  # the worst that was seen
    assert f"0 of {n} runs with the change and {n} of {n} without it stopped" in verdict.note


def test_one_that_stopped_before_an_episode_ended_counts_as_the_worst_too():
    verdict = judge(dict.fromkeys(SEEDS, outcome_of([], WHY)), LASTS, 1)
    assert (verdict.word, verdict.without) == ("adopt", 20.0)


def test_a_change_with_which_more_runs_stop_is_never_adopted():
    low = {s: Outcome(20.0, 21.0 + s, 20.5, 100) for s in range(12)}
    high = {s: Outcome(20.0, 500.0 + s, 300.0 + s, 100) for s in range(12)}
    assert judge(low, high, 1).word == "adopt"
    verdict = judge(low, high | {3: replace(high[3], failed=WHY)}, 1)
    assert verdict.end.low > 0
    assert verdict.word == "cannot be told"
    alike = judge(
        low | {5: replace(low[5], failed=WHY)}, high | {3: replace(high[3], failed=WHY)}, 1
    )
    assert alike.word == "adopt"


def test_one_with_which_fewer_stop_is_kept_out_only_where_it_is_lower_all_the_same():
    flat = dict.fromkeys(SEEDS, Outcome(20.0, 20.0, 20.0, 100))
    stopped = {s: replace(x, failed=WHY) for s, x in flat.items()}
    assert judge(flat, flat, 1).word == "keep"
    assert judge(stopped, flat, 1).word == "cannot be told"  # it gains nothing, but goes on
    assert judge(stopped, stopped, 1).word == "keep"
    high = {s: Outcome(20.0, 500.0 + s, 300.0 + s, 100) for s in range(12)}
    low = {s: Outcome(20.0, 21.0 + s, 20.5, 100) for s in range(12)}
    assert judge(high | {3: replace(high[3], failed=WHY)}, low, 1).word == "keep"


def test_that_runs_stopped_is_said_beside_the_numbers():
    def lines(without, with_change):
        trial = try_changes(
            [Change("a", {"b": 1})], Given(without, with_change), budget=100, seeds=SEEDS
        )
        assert trial.to_json()["tried"][0]["verdict"]["note"] == trial.tried[0].verdict.note
        return "\n".join(lines_of(trial))

    shown = lines(STOPS, LASTS)
    assert shown.startswith("adopt: --b 1")
    assert "Mean return at the end 103 in place of 20" in shown
    assert "0 of 3 runs with the change and 3 of 3 without it stopped by themselves" in shown
    assert "It gains little or nothing, but fewer runs stop with it." in lines(
        dict.fromkeys(SEEDS, Outcome(20.0, 20.0, 20.0, 100, WHY)),
        dict.fromkeys(SEEDS, Outcome(20.0, 20.0, 20.0, 100)),
    )
    assert "All runs stop, with it and without it." in lines(STOPS, STOPS)
    stopped = lines(
        dict.fromkeys(SEEDS, outcome_of([], WHY)), {s: outcome_of([], WHY) for s in SEEDS}
    )
    assert "5 of 5 runs with the change and 5 of 5 without it stopped" in stopped
    assert "Mean return" not in stopped
    assert "budget" not in stopped


def test_without_an_episode_nothing_can_be_told():
    nothing = dict.fromkeys(SEEDS, outcome_of(rows((10, None))))
    verdict = judge(nothing, nothing, 1)
    assert verdict.word == "cannot be told"
    assert "no episode ended" in verdict.note

"""The rules on a policy's mode and its samples: where they begin, and what they advise."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from policygrad.diagnostics import RULES, Spread
from policygrad.diagnostics.rules.rule import Rule
from policygrad.diagnostics.standing import Beside
from tests.diagnostics.test_rules import CONTINUOUS, UPDATES, examination

NOISE, MODE = (
    next(rule for rule in RULES if rule.name == name)
    for name in ("noise-costs-most", "mode-loses-most")
)
FLAT = np.full(UPDATES, 40.0)


def episodes(mean: float, std: float = 0.0, **changes: Any) -> Beside:
    spread = Spread(mean, std, mean, mean)
    return replace(Beside(64, 0, spread, spread), **changes)


def beside(
    better: float, worse: float, *, rule: Rule, random: Beside | None = None, **changes: Any
):
    """What a rule finds where one way of acting returns so much, the other so much."""
    mode, sampled = (better, worse) if rule is NOISE else (worse, better)
    e = examination(
        metrics={"return_mean": changes.pop("returns", FLAT)},
        settings=changes.pop("settings", None),
        seen={**CONTINUOUS, "returns": Spread(sampled, 0.0, sampled, sampled)}
        | changes.pop("seen", {}),
    )
    by_mode = changes.pop("by_mode", episodes(mode))
    return rule(replace(e, at_random=random or episodes(0.0), by_mode=by_mode, **changes))


@pytest.mark.parametrize("rule", [NOISE, MODE])
def test_half_of_what_was_learned_is_lost(rule):
    assert beside(100, 49.9, rule=rule) is not None
    assert beside(100, 50, rule=rule) is None
    assert beside(100, 50.1, rule=rule) is None
    found = beside(100, 20, rule=rule, random=episodes(-100))
    assert found is None  # 80 of 200
    found = beside(100, 20, rule=rule, random=episodes(10))
    assert found is not None
    assert found.numbers["share_lost"] == pytest.approx(80 / 90)


def test_half_is_lost_beyond_the_interval():
    """m − s − (m − r)/2 has the standard error of s alone, where only s varies."""
    half = stats.t.ppf(0.975, 63) * 30 / np.sqrt(63)
    for off, found in ((-1e-6, True), (1e-6, False)):
        s = 50 - half + off
        e = beside(100, s, rule=NOISE, seen={"returns": Spread(s, 30.0, s, s)})
        assert (e is not None) is found
    # half the error counts where only the better of both varies
    half /= 2
    for off, found in ((-1e-6, True), (1e-6, False)):
        s = 50 - half + off
        assert (beside(100, s, rule=NOISE, by_mode=episodes(100, 30.0)) is not None) is found


@pytest.mark.parametrize("rule", [NOISE, MODE])
def test_where_just_half_is_lost_one_run_in_forty_is_found(rule):
    """Of 400 ten are expected, and 20 are exceeded once in 600 times; returns have a long tail."""
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(400):
        better, worse, random = (
            Spread.of(mean + rng.exponential(20, 64) - 20) for mean in (100, 50, 0)
        )
        mode, sampled = (better, worse) if rule is NOISE else (worse, better)
        e = examination(seen={**CONTINUOUS, "returns": sampled}, metrics={"return_mean": FLAT})
        beside_it = [Beside(64, 0, x, x) for x in (random, mode)]
        found += rule(replace(e, at_random=beside_it[0], by_mode=beside_it[1])) is not None
    assert 1 <= found <= 20


@pytest.mark.parametrize("rule", [NOISE, MODE])
def test_something_has_to_be_learned(rule):
    wide = [episodes(0.0, std) for std in (99.9, 100.0)]
    assert beside(100, 10, rule=rule, random=wide[0]) is not None
    assert beside(100, 10, rule=rule, random=wide[1]) is None
    # above random actions by ten of their deviations, but by chance
    spread = Spread(100.0, 0.0, 100.0, 100.0)
    for std, found in ((200.0, True), (260.0, False)):
        varied = replace(spread, std=std)
        better: dict[str, Any] = (
            {"by_mode": episodes(100, std)} if rule is NOISE else {"seen": {"returns": varied}}
        )
        assert (beside(100, 0, rule=rule, **better) is not None) is found  # t = 3.97, 3.05


@pytest.mark.parametrize("rule", [NOISE, MODE])
def test_short_runs_are_not_judged(rule):
    e = examination(metrics={"return_mean": FLAT})
    for updates in (UPDATES - 1, UPDATES):
        metrics = {name: x[:updates] for name, x in e.metrics.items()}
        found = beside(100, 0, rule=rule, metrics=metrics)
        assert (found is not None) is (updates == UPDATES)


@pytest.mark.parametrize("rule", [NOISE, MODE])
@pytest.mark.parametrize(
    ("entropy", "returns", "found"),
    [
        (0.501, np.linspace(20, 40, UPDATES), False),
        (0.5, np.linspace(20, 40, UPDATES), True),
        (0.501, FLAT, True),
    ],
)
def test_choices_that_are_still_open_are_not_judged(rule, entropy, returns, found):
    seen = {"entropy": entropy, "greatest_entropy": 1.0, "action_noise": np.nan}
    said = beside(500, 40, rule=rule, seen=seen | {"action_components": 0}, returns=returns)
    assert (said is not None) is found


def test_noise_that_goes_by_itself_is_not_reported():
    """60 are lost; 15 gained in the second half are 60 in two more runs."""
    late = np.concatenate([np.zeros(UPDATES // 2), np.linspace(0, 1, UPDATES // 2)])
    assert beside(100, 40, rule=NOISE, returns=15 * late) is None
    found = beside(100, 40, rule=NOISE, returns=14.9 * late)
    assert found is not None
    assert "rose by 14.9: at this pace 40 more updates would make up for it" in found.evidence
    found = beside(100, 40, rule=NOISE, returns=-late)
    assert found is not None
    assert "did not rise" in found.evidence


def test_a_mode_that_no_episode_ends_with():
    """What it returns is not known; but that it loses most is, and how many had to be stopped."""
    stays: dict[str, Any] = {}
    for stopped, found in ((31, True), (32, False)):
        stays = {"by_mode": episodes(100, unfinished=stopped), "time_limit": None}
        assert (beside(100, 0, rule=NOISE, **stays) is not None) is found
        assert beside(100, 0, rule=NOISE, **dict(stays, time_limit=500)) is not None
        limit = {"max_episode_steps": 50, "batch_episodes": 16}
        assert beside(100, 0, rule=NOISE, settings=limit, **stays) is not None
    stays["by_mode"] = episodes(0, unfinished=32)
    found = beside(100, 0, rule=MODE, **stays)
    assert found is not None
    assert "by the mode 32 had not ended after 0 steps" in found.evidence


@pytest.mark.parametrize(
    ("settings", "seen", "advice"),
    [
        ({}, {"action_noise": 0.43}, "Train with --log-std shared, or --log-std -1.3. Or act"),
        ({"log_std": "shared"}, {"action_noise": 0.3}, "Train with --log-std -1.9. Or act"),
        ({}, {"action_noise": 0.7, "action_components": 2}, "Train with --log-std -1. Or act"),
        ({"algorithm": "ppo", "entropy_coefficient": 0.01, "log_std": -3.0}, {},
         "Train with --entropy-coefficient 0, or --log-std -3.5. Or act"),
        ({"algorithm": "ppo", "entropy_coefficient": 0.01}, {"action_components": 0},
         "Train with --entropy-coefficient 0. Or act"),
        ({}, {"action_components": 0}, "Train longer. Or act"),
    ],
)  # fmt: skip
def test_the_advice_is_less_noise_than_there_is(settings, seen, advice):
    found = beside(100, 0, rule=NOISE, settings=settings, seen=seen)
    assert found is not None
    assert found.change.startswith(advice)
    assert "policygrad evaluate RUN" in found.change
    other = beside(100, 0, rule=MODE, settings=settings, seen=seen)
    assert other is not None
    assert other.change.startswith("Act by samples: agent.act(observation, key)")
    assert ("train with --" in other.change) is ("Train with --" in advice)
    assert other.proposes == ()


def test_a_policy_of_ones_own_has_no_flags():
    found = beside(100, 0, rule=NOISE, passed_as_objects=("policy",))
    assert found is not None
    assert found.change.startswith("Give the policy less noise. Or act")
    assert found.proposes == ()

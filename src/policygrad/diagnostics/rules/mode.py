"""What a policy's samples lose against its most probable actions, and these against samples."""

import math

from policygrad.core.settings import flag
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.facts import return_rises, series
from policygrad.diagnostics.rules.rule import Found, Proposals, Rule, Thresholds
from policygrad.diagnostics.rules.settings import Settings
from policygrad.diagnostics.rules.standing import shown
from policygrad.diagnostics.sample import Sample
from policygrad.diagnostics.spread import Spread
from policygrad.diagnostics.standing import (
    SURELY,
    Beside,
    Standing,
    contrast,
    difference,
    standing_of,
)
from policygrad.policies.space_policy import initial_log_std

NARROWER = 0.5  # in log σ; what small noise costs goes with σ², so that about a third is left


def noise_costs_most(e: Examination, t: Thresholds) -> Found | None:
    """Samples return less than half of what the mode is above random actions, beyond chance.

    With means m of the mode, s of samples and r of random actions: the noise costs more than the
    share c of what was learned if m − s > c (m − r). The lower end of the 95 % interval of
    m − s − c (m − r) has to lie above zero, so that of many runs in which exactly that share is
    lost one in forty is found. The noise of training may go by itself: nothing is said while the
    return rises so fast that samples would reach the mode's return in two more runs as long.
    """
    s, r, m, at = e.sample, e.at_random, e.by_mode, standing_of(e)
    if s is None or r is None or m is None or at is None or e.updates < t["updates"]:
        return None
    if _still_open(e, s, t) or _without_end(e, m, t) or not _lost(m, s, r, t):
        return None
    assert at.above_samples is not None
    cost, returns = at.above_samples, series(e, "return_mean")
    half = returns[len(returns) // 2 :]
    rise = float(half[-1] - half[0]) if len(half) else 0.0
    if rise * 2 * t["runs"] >= cost.value:
        return None
    pace = "did not rise"
    if rise > 0:
        left = cost.value / rise * e.updates / 2
        pace = f"rose by {rise:.4g}: at this pace {left:,.0f} more updates would make up for it"
    share = cost.value / (m.returns.mean - r.returns.mean)
    change, proposes = _less_noise(e, s)
    return Found(
        "The noise of the policy costs most of what was learned: its mode returns far more than "
        "its samples.",
        f"{_beside(m, s, r, at)} The noise costs {shown(cost)}, {share:.0%} of what the mode is "
        f"above random actions. In the second half of {e.updates} "
        f"updates the mean return {pace}.",
        {"mode_return": m.returns.mean, "return": s.returns.mean,
         "random_return": r.returns.mean, "cost": cost.value, "cost_low": cost.low,
         "cost_high": cost.high, "share_lost": share, "rise": rise},
        f"{change or 'Train longer'}. Or act by the mode, as an exported policy does; policygrad "
        "evaluate RUN plays both ways.",
        proposes,
    )  # fmt: skip


def mode_loses_most(e: Examination, t: Thresholds) -> Found | None:
    """The mode returns less than half of what samples are above random actions, beyond chance.

    With the means of `noise_costs_most`: the lower end of the 95 % interval of s − m − c (s − r)
    lies above zero.
    """
    s, r, m, at = e.sample, e.at_random, e.by_mode, standing_of(e)
    if s is None or r is None or m is None or at is None or e.updates < t["updates"]:
        return None
    if _still_open(e, s, t) or not _lost(s, m, r, t):
        return None
    lost = difference(_of(s), _of(m))
    share = lost.value / (s.returns.mean - r.returns.mean)
    stopped = (
        f" Of the episodes by the mode {m.unfinished} had not ended after {m.lengths.most:,.0f} "
        "steps, where they were stopped."
        if m.unfinished
        else ""
    )
    change, _ = _less_noise(e, s)
    nearer = (
        f" With less noise both come nearer: {change[0].lower()}{change[1:]}." if change else ""
    )
    return Found(
        "The mode of the policy returns far less than its samples: acting by it will disappoint.",
        f"{_beside(m, s, r, at)} The mode loses {shown(lost)}, {share:.0%} of what the samples are "
        f"above random actions.{stopped}",
        {"mode_return": m.returns.mean, "return": s.returns.mean,
         "random_return": r.returns.mean, "lost": lost.value, "lost_low": lost.low,
         "lost_high": lost.high, "share_lost": share},
        "Act by samples: agent.act(observation, key), or policy.act(observation, rng) of an "
        f"export; policygrad evaluate RUN plays both ways.{nearer} Where the best policy acts at "
        "random, as against an opponent or where states are hidden, nothing is wrong.",
    )  # fmt: skip


def _lost(better: Beside | Sample, worse: Beside | Sample, random: Beside, t: Thresholds) -> bool:
    """Whether `worse` lacks more than a share of what `better` is above random actions, and this is
    more than chance and more than a single episode varies."""
    share, a, b, r = t["share"], _of(better), _of(worse), _of(random)
    learned = difference(a, r, level=SURELY)
    if not (learned.low > 0 and learned.value > t["spreads"] * random.returns.std):
        return False
    return contrast((1 - share, *a), (-1, *b), (share, *r)).low > 0


def _of(x: Beside | Sample) -> tuple[Spread, int]:
    return x.returns, x.episodes


def _still_open(e: Examination, s: Sample, t: Thresholds) -> bool:
    """Whether choices are mostly random still, and the return rises: the mode of such a policy is
    that of small differences, and training decides them."""
    nearly_uniform = s.entropy > t["share_of_greatest"] * s.greatest_entropy  # not of densities
    return nearly_uniform and return_rises(e, late=True)


def _without_end(e: Examination, m: Beside, t: Thresholds) -> bool:
    """Whether the mode stays where no episode ends, so that its return is not known."""
    limited = e.time_limit is not None or Settings.of(e)["max_episode_steps"] is not None
    return not limited and m.unfinished >= t["unfinished"] * m.episodes


def _beside(m: Beside, s: Sample, r: Beside, at: Standing) -> str:
    assert at.by_mode is not None
    assert at.at_random is not None
    return (
        f"{m.episodes} episodes by the mode return {shown(at.by_mode)}, {s.episodes} fresh ones by "
        f"samples {shown(at.now)}, {r.episodes} of random actions {shown(at.at_random)}."
    )


def _less_noise(e: Examination, s: Sample) -> tuple[str, Proposals]:
    """How to train with less noise, in words and as settings; empty where no setting says it."""
    settings = Settings.of(e)
    proposes: Proposals = ()
    if settings.entropy_coefficient > 0 and settings.describes("algorithm"):
        proposes = ({"entropy_coefficient": 0.0},)
    asked = settings["log_std"]
    if s.action_components and asked is not None and settings.describes("policy"):
        first = initial_log_std(asked, s.action_components)
        if asked != "shared" and initial_log_std("shared", s.action_components) < first:
            proposes = (*proposes, {"log_std": "shared"})
        now = math.log(max(s.action_noise, 1e-8))
        proposes = (*proposes, {"log_std": round(min(first, now) - NARROWER, 1)})
    if not proposes:
        return ("Give the policy less noise", ()) if s.action_components else ("", ())
    flags = [
        f"{flag(name)} {x if isinstance(x, str) else f'{x:g}'}"
        for each in proposes
        for name, x in each.items()
    ]
    return f"Train with {', or '.join(flags)}", proposes


LEARNED = {
    "updates": 20,
    "share": 0.5,
    "spreads": 1.0,
    "share_of_greatest": 0.5,
}  # what both rules ask of a run

RULES = (
    Rule(
        "noise-costs-most",
        {**LEARNED, "runs": 2, "unfinished": 0.5},
        "Half of what the mode is above random actions is lost, by the lower end of the 95 % "
        "interval (Welch 1947). The mode is above random actions by a standard deviation of their "
        "episodes, and beyond a 99.9 % interval. Nothing is said while the return rises so fast "
        "that two more runs would make up for it, or while choices are mostly random and the "
        "return rises.",
        0.4,
        noise_costs_most,
        ("below-random", "no-better-than-random"),
    ),
    Rule(
        "mode-loses-most",
        LEARNED,
        "Half of what samples are above random actions is lost, by the lower end of the 95 % "
        "interval (Welch 1947). Samples are above random actions by a standard deviation of their "
        "episodes, and beyond a 99.9 % interval. Nothing is said while choices are mostly random "
        "and the return rises.",
        0.2,
        mode_loses_most,
    ),
)

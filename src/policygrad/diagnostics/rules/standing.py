"""What the return says by itself: it was lost, it is that of random actions, no episode ends."""

import numpy as np

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.facts import return_rises
from policygrad.diagnostics.intervals import Measured
from policygrad.diagnostics.rules.advice import other_step
from policygrad.diagnostics.rules.rule import Found, Proposals, Rule, Thresholds
from policygrad.diagnostics.rules.settings import Settings
from policygrad.diagnostics.standing import Standing, standing_of

NOT_KNOWN = "Why is not known."


def return_collapsed(e: Examination, t: Thresholds) -> Found | None:
    """The return has lost a part of what it had gained, by more than chance."""
    at = standing_of(e)
    if at is None or e.sample is None or at.lost is None or e.updates < t["updates"]:
        return None
    part, least = t["share"] * at.gained, t["spreads"] * e.sample.returns.std
    lost = at.lost.low > part and at.best - at.last > part
    if not (lost and min(at.gained, at.lost.value) > least):
        return None
    share = min(at.lost.value / at.gained, 1.0)
    kl = e.metric("kl")[at.best_update :]
    kl = kl[np.isfinite(kl)]
    moved = f" Since then the KL of an update was {kl.max():.2g} at most." if len(kl) else ""
    return Found(
        f"The return has fallen: the policy lost {share:.0%} of what it had learned.",
        f"The mean return was {at.best:.4g} at update {at.best_update} of {e.updates}, "
        f"{at.gained:.4g} above its start, and is {at.last:.4g} now; {e.sample.episodes} fresh "
        f"episodes return {shown(at.now)}.{moved}",
        {"first_return": at.start, "best_return": at.best, "last_return": at.last,
         "best_update": at.best_update, "fresh_return": at.now.value, "share_lost": share},
        *_safer(e),
    )  # fmt: skip


def _safer(e: Examination) -> tuple[str, Proposals]:
    """A baseline where there is none, and smaller steps."""
    settings = Settings.of(e)
    change, proposes = other_step(settings, smaller=True)
    if settings["algorithm"] == "natural":
        change = f"{change.removesuffix('.')}, or with --algorithm trpo, which refuses bad steps."
        proposes = (*proposes, {"algorithm": "trpo"})
    if settings["baseline"] == "none" and settings.describes("estimator"):
        change = (
            "Train with --baseline value-network: without a baseline the gradient is noisier. Or: "
            f"{change[0].lower()}{change[1:]}"
        )
        proposes = ({"baseline": "value-network"}, *proposes)
    return change, proposes


def below_random(e: Examination, t: Thresholds) -> Found | None:
    """The mean return is below that of random actions, by more than chance, and did not rise."""
    at, r = standing_of(e), e.at_random
    if at is None or r is None or at.above_random is None or return_rises(e):
        return None
    if e.updates < t["updates"] or not at.above_random.high < -t["spreads"] * r.returns.std:
        return None
    return Found(
        "The policy is worse than random actions, and its return did not rise in training.",
        _beside(e, at),
        {"return": at.now.value, "random_return": r.returns.mean,
         "difference": at.above_random.value, "difference_low": at.above_random.low,
         "difference_high": at.above_random.high},
        f"{NOT_KNOWN} Look at what the policy does (policygrad watch), at the sign of the reward, "
        f"and at how random its actions are still ({_randomness(e)}).",
    )  # fmt: skip


def no_better_than_random(e: Examination, t: Thresholds) -> Found | None:
    """After many updates the return is not above that of random actions, and did not rise."""
    at, r = standing_of(e), e.at_random
    if at is None or r is None or at.above_random is None or return_rises(e):
        return None
    ended = e.metric("episodes")
    enough = e.updates >= t["updates"] and len(ended) and ended[-1] >= t["episodes"]
    # where no random episode does better than the others, nothing says that better is possible
    room = r.returns.most - r.returns.mean > t["spreads"] * r.returns.std
    known = at.above_random
    near = at.surely_above <= 0 and known.value < t["spreads"] * r.returns.std
    if not (enough and room and near):
        return None
    noise, numbers = "", {}
    batch = e.batch_episodes
    if e.noise is not None and batch > 0 and e.noise.total.noise_scale.low > batch:
        cosine = (1 + e.noise.total.noise_scale.low / batch) ** -0.5
        numbers["cosine_at_most"] = cosine
        noise = (
            " The gradient of a batch is mostly noise: its cosine with the true gradient is at "
            f"most {cosine:.2f}, so that a larger batch may help."
        )
    return Found(
        "The policy is no better than random actions, and its return did not rise in training.",
        f"{_beside(e, at)} One of the random episodes returned {r.returns.most:.4g}.{noise}",
        {"return": known.value + r.returns.mean, "random_return": r.returns.mean,
         "difference": known.value, "difference_low": known.low, "difference_high": known.high,
         **numbers},
        f"{NOT_KNOWN} Train longer; look whether the observation holds what the reward depends on, "
        "and whether the environment acts as it is told. Where random actions are as good as any, "
        "nothing is wrong.",
    )  # fmt: skip


def _beside(e: Examination, at: Standing) -> str:
    assert e.sample is not None
    assert e.at_random is not None
    assert at.at_random is not None
    assert at.above_random is not None
    return (
        f"{e.sample.episodes} fresh episodes return {shown(at.now)}, {e.at_random.episodes} of "
        f"random actions {shown(at.at_random)}: a difference of {shown(at.above_random)}, after "
        f"{e.updates} updates."
    )


def _randomness(e: Examination) -> str:
    s = e.sample
    assert s is not None
    if np.isfinite(s.action_noise):
        return f"their noise is {s.action_noise:.2g} half ranges"
    return f"their entropy is {s.entropy:.2g} of at most {s.greatest_entropy:.2g} nats"


def no_episode_ends(e: Examination, t: Thresholds) -> Found | None:
    """Fresh episodes go on without an end, as those of late training do, without a time limit."""
    s = e.sample
    if s is None or s.unfinished < t["share"] * s.episodes:
        return None
    if Settings.of(e)["max_episode_steps"] is not None:  # a limit that was asked for
        return None
    counts = e.metric("episodes")
    ended = int(counts[-1]) if len(counts) else 0
    late = ended - int(counts[-max(2, round(0.2 * len(counts)))]) if len(counts) > 1 else ended
    if late and e.cut_short:  # episodes end, only later than where the doctor stops them
        return None
    stopped = ended >= t["episodes"]
    in_training = f"{_episodes(ended)} ended, {late:,} of them in the last fifth"
    seen = (
        f"{s.unfinished} of {s.episodes} fresh episodes had not ended after "
        f"{s.lengths.most:,.0f} steps, where they were stopped. In training "
        f"{in_training if ended else 'none ended'}."
    )
    if e.at_random is not None:
        r = e.at_random
        seen += (
            f" Of {r.episodes} episodes of random actions {r.unfinished or 'none'} had to be "
            f"stopped; they took {r.lengths.mean:,.0f} steps."
        )
    return Found(
        "Episodes have stopped ending: the policy stays where no episode ends."
        if stopped
        else "No episode ends, so that the policy is hardly ever reset, and no return is known.",
        seen,
        {"unfinished": s.unfinished, "fresh_episodes": s.episodes, "episodes": ended,
         "late_episodes": late},
        "Give the environment a time limit (gymnasium.wrappers.TimeLimit; of a Gymnasium id "
        "--env-kwargs '{\"max_episode_steps\": 500}'). If the end is what should be reached, "
        "reward it, and let waiting cost something.",
    )  # fmt: skip


def _episodes(n: int) -> str:
    return "1 episode" if n == 1 else f"{n:,} episodes"


def shown(x: Measured) -> str:
    """A mean with its 95 % interval."""
    return f"{x.value:.4g} [{x.low:.4g}, {x.high:.4g}]"


RULES = (
    Rule(
        "no-episode-ends",
        {"share": 0.5, "episodes": 10},
        "By definition: the environment has no time limit, half of the fresh episodes or more do "
        "not end by themselves, and none of training ended in its last fifth.",
        0.6,
        no_episode_ends,
        (
            "rewards-constant",
            "too-few-episodes",
            "below-random",
            "no-better-than-random",
            "noise-costs-most",
            "mode-loses-most",
        ),
    ),
    Rule(
        "return-collapsed",
        {"updates": 10, "share": 0.4, "spreads": 2.0},
        "Two fifths of the gain are lost, by the lower end of an interval which counts that the "
        "best is one of many means. Gain and loss are more than two standard deviations of an "
        "episode's return.",
        0.45,
        return_collapsed,
        ("below-random", "no-better-than-random"),
    ),
    Rule(
        "below-random",
        {"updates": 10, "spreads": 0.5},
        "By definition; by half a standard deviation of a random episode's return, beyond a 95 % "
        "interval (Welch 1947).",
        0.42,
        below_random,
    ),
    Rule(
        "no-better-than-random",
        {"updates": 20, "episodes": 100, "spreads": 0.5},
        "The 99.9 % interval of the difference (Welch 1947) holds zero, after many updates. One of "
        "the random episodes returned half a standard deviation more than they do on average.",
        0.25,
        no_better_than_random,
    ),
)

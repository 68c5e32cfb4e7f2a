"""What a log says of how the policy moves: its steps, its entropy, its batches."""

import numpy as np

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.facts import (
    begin,
    chance_of_returns,
    deterministic,
    end,
    learning_rate,
    of_choices,
    return_rises,
    return_rose,
    series,
)
from policygrad.diagnostics.rules.logged.words import give, language_of, less, word_of
from policygrad.diagnostics.rules.rule import Found, Thresholds


def step_size_too_large(e: Examination, t: Thresholds) -> Found | None:
    """The KL of updates, the share of clipped ratios, or the learning rate is far too large."""
    kl, clipped = series(e, "kl"), series(e, "clip_fraction")
    leaps = int(np.sum(kl > t["leap"]))
    by_kl = len(kl) > 0 and (
        np.median(kl) > t["typical"] or leaps >= max(t["leaps"], t["share"] * len(kl))
    )
    by_clip = len(clipped) > 0 and np.median(clipped) > t["clipped"]
    rate = learning_rate(e)
    by_rate = rate is not None and rate >= t["step_size"]
    if not (by_kl or by_clip or by_rate):
        return None
    seen = []
    if len(kl):
        seen.append(
            f"{word_of(e, 'kl')} is {np.median(kl):.2g} in the median and reached {kl.max():.3g} "
            "(usual are 0.003 to 0.03)"
        )
    if len(clipped):
        seen.append(f"{word_of(e, 'clip_fraction')} is {np.median(clipped):.2g} in the median")
    if rate is not None:
        seen.append(f"{language_of(e).word('step_size')} is {rate:.2g}")
    return Found(
        "The step size is too large: single updates replace the policy.",
        "; ".join(seen) + ".",
        {"median_kl": float(np.median(kl)) if len(kl) else np.nan, "leaps": leaps, "rate": rate},
        f"Train with {_usual_rate(e, rate, smaller=True)}.",
    )


def step_size_too_small(e: Examination, t: Thresholds) -> Found | None:
    """The KL of updates is far below the usual; or a tiny rate, and an entropy at rest.

    The updates of a policy that is deterministic are small for any rate.
    """
    kl, rate, entropy = np.abs(series(e, "kl")), learning_rate(e), series(e, "entropy")
    usual, returns = language_of(e).usual_step_size, series(e, "return_mean")
    early = kl[: max(1, len(kl) // 2)]  # a rate that falls to 0 ends with a KL of 0
    if deterministic(e, t):
        return None
    if usual is not None and rate is not None and rate > t["near_usual"] * usual:
        return None
    if len(kl) >= t["updates"] and not language_of(e).kl_before_step:
        if not np.median(early) < t["typical"] or kl.max() > t["usual"]:
            return None
        tiny = usual is not None and rate is not None and rate < t["share_of_usual"] * usual
        still = len(returns) and not np.ptp(returns)
        if not tiny and (return_rises(e) or (still and rate is not None)):
            return None  # it learns, or all returns are equal and there is nothing to follow
        seen = (
            f"{word_of(e, 'kl')} is {np.median(early):.2g} in the median of the first half (usual "
            "are 0.003 to 0.03)"
        )
        if rate is not None:
            seen += f"; {language_of(e).word('step_size')} is {rate:.2g}"
    elif usual is None or rate is None:
        return None
    else:
        seen = f"{language_of(e).word('step_size')} is {rate:.2g} (the default is {usual:g})"
        rests = len(entropy) >= t["updates"] and (
            np.ptp(entropy) < t["rest"] * max(1.0, abs(float(entropy[0])))
        )
        if rate < t["share_of_usual"] * usual and rests:
            seen += (
                f"; {word_of(e, 'entropy')} stays within {np.ptp(entropy):.2g} of "
                f"{abs(entropy[0]):.3g}"
            )
        elif rate >= t["nothing"] * usual or return_rises(e):
            return None
    return Found(
        "The step size is too small: updates leave the policy as it is.",
        f"{seen}.",
        {"median_kl": float(np.median(kl)) if len(kl) else np.nan, "rate": rate},
        f"Train with {_usual_rate(e, rate, smaller=False)}.",
    )


def _usual_rate(e: Examination, rate: float | None, *, smaller: bool) -> str:
    """What the learning rate should be: the usual if it is far from that, else a tenth or ten."""
    usual = language_of(e).usual_step_size
    if usual is not None and (rate is None or (rate > 3 * usual if smaller else rate < usual / 3)):
        return give(e, "step_size", usual)
    if rate:
        return give(e, "step_size", float(f"{rate / 10 if smaller else rate * 10:.1g}"))
    return less(e, "step_size", "smaller" if smaller else "larger")


def entropy_bonus_too_large(e: Examination, t: Thresholds) -> Found | None:
    """The bonus is known and large; or the entropy rises without end, or stays at its greatest."""
    entropy, kl = series(e, "entropy"), series(e, "kl")
    c = e.settings.get("entropy_coefficient")
    if len(entropy) < t["updates"]:
        return None
    first, now = float(entropy[0]), float(entropy[-1])
    word = language_of(e).word("entropy_coefficient")
    moved = f"the policy's entropy went from {first:.4g} to {now:.4g} nats in {len(entropy)} rows"
    advice = f"Train with {give(e, 'entropy_coefficient', 0.01)} or 0."
    if c is not None:
        risen = now >= first + t["risen"] or _pinned(entropy, t)
        if not (c >= t["outweighs"] or (c >= t["coefficient"] and risen)):
            return None
        seen = f"{word} is {c:g}, where advantages have unit size; {moved}."
        return _bonus(seen, c, first, now, advice)
    rate, usual = learning_rate(e), language_of(e).usual_step_size
    if (len(kl) and np.median(kl) > t["leaps"]) or (rate is not None and rate >= t["step_size"]):
        return None  # steps that are too large move the entropy anywhere
    moves = (len(kl) and np.median(np.abs(kl)) > t["moves"]) or (
        not len(kl) and rate is not None and usual is not None and rate > usual / 3
    )
    times = np.arange(len(entropy))
    steady = np.ptp(entropy) > 0 and np.corrcoef(times, entropy)[0, 1] > t["steady"]
    rising = steady and now >= first + t["risen"] and _pushed(e, rate, t)
    discrete = not len(series(e, "action_std"))
    if not (rising or (moves and discrete and _pinned(entropy, t))):
        return None
    how = moved if rising else f"the policy's entropy stays at {first:.4g} nats, its greatest"
    seen = (
        f"The log does not say {word}, but {how}, while the policy is updated with steps of usual "
        "size: nothing else holds it there."
    )
    return _bonus(seen, np.nan, first, now, advice)


def _pushed(e: Examination, rate: float | None, t: Thresholds) -> bool:
    """Whether the noise of the actions widens about as fast as the step size lets it.

    Adam and RMSProp move ln σ by about the learning rate a step, if all steps agree. A bonus that
    outweighs everything else makes them agree; by chance, or by what the task wants, fewer do. True
    where the log does not say how many steps were taken.
    """
    std, taken = series(e, "action_std"), series(e, "gradient_steps")
    if rate is None or not len(std) or not len(taken):
        return True
    return bool(np.log(std[-1] / std[0]) > t["pushed"] * rate * (taken[-1] - taken[0]))


def _pinned(entropy: np.ndarray, t: Thresholds) -> bool:
    """Whether the entropy stays where it began, at the greatest of n actions: ln n, n ≥ 2."""
    first = float(entropy[0])
    if not first > 0 or np.ptp(entropy) >= t["pinned"] * first:
        return False
    actions = max(2, round(np.exp(min(first, 20.0))))
    return abs(first - np.log(actions)) < t["greatest"] * first


def _bonus(seen: str, c: float, first: float, now: float, advice: str) -> Found:
    return Found(
        "The entropy bonus is too large: the policy is paid for being random.",
        seen,
        {"entropy_coefficient": c, "first_entropy": first, "entropy": now},
        advice,
    )


def entropy_collapsed(e: Examination, t: Thresholds) -> Found | None:
    """The entropy, or the noise of the actions, is near zero; the return fell, or never rose.

    In a healthy run the entropy falls as the return rises.
    """
    entropy, std, returns = (series(e, name) for name in ("entropy", "action_std", "return_mean"))
    if len(returns) < t["updates"] or return_rises(e):
        return None
    gone = deterministic(e, t)
    if len(std):
        seen = f"{word_of(e, 'action_std')} is {end(std):.3g}"
    elif len(entropy) >= t["updates"] and of_choices(e):
        gone = gone or end(entropy) < t["share"] * float(entropy.max())
        seen = (
            f"The policy's entropy is {end(entropy):.3g} nats, and was {entropy.max():.3g} at its "
            "greatest"
        )
    else:
        return None
    top, spread = int(np.argmax(returns)), chance_of_returns(e)
    best, flat = float(returns[top]), not return_rose(e, t["chances"])
    fell = best - end(returns) >= t["chances"] * max(spread[top], end(spread))
    if not gone or not (flat or fell):
        return None
    advice = (
        language_of(e).phrases["explore"]
        if "entropy_coefficient" in language_of(e).lacks
        else give(e, "entropy_coefficient", 0.01)
    )
    began = " If the run began with a policy that solves the task, nothing is wrong."
    return Found(
        "The entropy has collapsed: the policy hardly explores any more.",
        f"{seen}; the mean return is {end(returns):.4g}, was {returns[0]:.4g} at first and "
        f"{best:.4g} at its best.",
        {"best_return": best, "return": end(returns)},
        f"Train with {advice}, or with {less(e, 'step_size')}.{began if flat else ''}",
    )


def batch_of_one_episode(e: Examination, t: Thresholds) -> Found | None:
    """A batch is about as long as one episode at first, and short."""
    steps, lengths = e.settings.get("batch_steps"), series(e, "length_mean")
    if language_of(e).single_episodes or steps is None or not len(lengths):
        return None
    episodes, lanes = steps / begin(lengths), e.settings.get("num_envs") or 1
    if not (t["least"] <= episodes <= t["most"] and steps <= t["steps"] and lanes < t["lanes"]):
        return None
    word = language_of(e).word("rollout_steps")
    return Found(
        "The batch is one single episode: its gradient is one sample, and there are no other "
        "episodes to compare its advantages with.",
        f"A batch has {steps:.0f} steps, and an episode took {begin(lengths):.0f} at first.",
        {"batch_steps": steps, "batch_episodes": episodes},
        f"Train with {give(e, 'rollout_steps', 2048)}, or with more environments side by side "
        f"({language_of(e).word('num_envs')})."
        if "rollout_steps" in language_of(e).settings
        else f"Train with a larger batch ({word}).",
    )


def groups_without_spread(e: Examination, t: Thresholds) -> Found | None:
    """In nearly all groups every answer earns the same, so that no advantage is left."""
    share = series(e, "groups_without_spread")
    if len(share) < t["updates"] or not end(share) >= t["share"]:
        return None
    return Found(
        "The answers of a group nearly always earn the same: their advantages are zero, and the "
        "batch is mostly without a gradient.",
        f"In {end(share):.0%} of the groups all rewards are equal "
        f"({word_of(e, 'groups_without_spread')}).",
        {"share": end(share)},
        "Take prompts of middling difficulty, a reward with more than two values, a higher "
        f"temperature, or larger groups ({language_of(e).word('group_size')}).",
    )

"""What a log says of how actions are judged: discount, λ and critic."""

import numpy as np

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.facts import (
    begin,
    end,
    reach,
    return_rises,
    reward_of_a_step,
    series,
    upset,
)
from policygrad.diagnostics.rules.logged.words import give, language_of, word_of
from policygrad.diagnostics.rules.rule import Found, Thresholds
from policygrad.diagnostics.rules.settings import USUAL_DISCOUNT, USUAL_LAMBDA


def discount_too_low(e: Examination, t: Thresholds) -> Found | None:
    """γ is known and its horizon short; or a trained critic's targets look a step or two ahead."""
    lengths, discount = series(e, "length_mean"), e.settings.get("discount")
    if not len(lengths):
        return None
    longest = float(lengths.max())
    change = f"Train with {give(e, 'discount', USUAL_DISCOUNT)}."
    cause = (
        "The discount is too low for a task this long: rewards that an action leads to later count "
        "for almost nothing."
    )
    if discount is not None:
        horizon = 1 / (1 - discount) if discount < 1 else np.inf
        if horizon > t["horizon"] or longest < t["episodes_horizons"] * horizon:
            return None
        seen = (
            f"{language_of(e).word('discount')} is {discount:g}, a horizon of {horizon:.3g} steps, "
            f"while episodes last up to {longest:.0f}."
        )
        return Found(cause, seen, {"discount": discount, "horizon": horizon}, change)
    ahead = _reach(e, t)
    if ahead is None or longest < t["episodes_ahead"]:
        return None
    if not (ahead < t["at_once"] or (ahead < _near(e, t) and _fell(e, t))):
        return None
    seen = (
        f"The log does not say {language_of(e).word('discount')}. But {_short(e, ahead)}, and the "
        f"critic does learn, while episodes last up to {longest:.0f} steps."
    )
    return Found(cause, seen, {"reach": ahead, "longest_episode": longest}, change)


def lambda_too_low(e: Examination, t: Thresholds) -> Found | None:
    """λ is known and small; or targets look a step ahead, and the critic does not learn them."""
    known = e.settings.get("gae_lambda")
    if known is not None:
        trained = _untrained(e, t) is None
        explained = series(e, "explained_variance_before")
        if known >= t["lambda"] or (trained and end(explained) >= t["explained"]):
            return None
        seen = (
            f"{language_of(e).word('gae_lambda')} is {known:g}, so that later rewards count only "
            "through the critic's values."
        )
        return _low_lambda(e, seen, trained, {"lambda": known})
    ahead = _reach(e, t)
    if ahead is None or not t["at_once"] <= ahead < _near(e, t) or not _rests(e, t):
        return None
    # what the critic explains is no evidence: it says much the same of a state and of the next
    seen = (
        f"The log does not say {language_of(e).word('gae_lambda')}. But {_short(e, ahead)}, and it "
        f"does not fall: at the end it is {end(np.sqrt(series(e, 'value_error'))):.3g}."
    )
    return _low_lambda(e, seen, False, {"reach": ahead})


def _low_lambda(
    e: Examination, seen: str, trained: bool, numbers: dict[str, float | None]
) -> Found:
    also = f", and a critic that is trained: {give(e, 'critic_coefficient', 0.5)}"
    return Found(
        f"λ is too low: the advantages rest on a critic that is {'badly ' if trained else 'un'}"
        "trained.",
        seen,
        numbers,
        f"Train with {give(e, 'gae_lambda', USUAL_LAMBDA)}{'' if trained else also}.",
    )


def critic_not_trained(e: Examination, t: Thresholds) -> Found | None:
    """The critic's loss has no weight; or its error and what it explains stay as they began."""
    seen = _untrained(e, t)
    if seen is None:
        return None
    return Found(
        "The critic is not trained: its loss has no weight, or its step size is almost zero.",
        f"{seen[0].upper()}{seen[1:]}.",
        {"explained_variance": end(series(e, "explained_variance_before"))},
        f"Train with {give(e, 'critic_coefficient', 0.5)}.",
    )


def _untrained(e: Examination, t: Thresholds) -> str | None:
    """What shows that the critic is not trained; None if nothing does."""
    weight = e.settings.get("critic_coefficient")
    if weight is not None:
        word = language_of(e).word("critic_coefficient")
        return None if weight > t["weight"] else f"{word} is {weight:g}"
    explained, errors = series(e, "explained_variance_before"), series(e, "value_error")
    if min(len(explained), len(errors)) < t["rows"] or not _rests(e, t) or upset(e, t):
        return None
    if np.ptp(explained) > t["moved"] or np.max(np.abs(explained)) > t["moved"]:
        return None
    return (
        f"the critic's loss ({word_of(e, 'value_error')}) went from {begin(errors):.3g} to "
        f"{end(errors):.3g}, and it explains {end(explained):.2g} of the variance of its targets "
        f"({word_of(e, 'explained_variance_before')}) now, {begin(explained):.2g} at first"
    )


def _near(e: Examination, t: Thresholds) -> float:
    """How many steps ahead are few: with targets of five steps or so, fewer."""
    return t["ahead_of_few"] if language_of(e).single_episodes else t["ahead"]


def _fell(e: Examination, t: Thresholds) -> bool:
    """Whether the critic's error fell."""
    errors = series(e, "value_error")
    return end(errors) < t["fell"] * begin(errors)


def _rests(e: Examination, t: Thresholds) -> bool:
    """Whether the critic's error stays as it began.

    Where beginning and end have rows in common, all rows have to be alike.
    """
    errors = series(e, "value_error")
    alike = float(errors.min()) > t["fell"] * float(errors.max())
    return not _fell(e, t) and (alike or len(errors) >= t["apart"])


def _reach(e: Examination, t: Thresholds) -> float | None:
    """How far ahead the targets look at least.

    None where rewards may have been normalised: continuous tasks usually are, to errors of about 1,
    and the log holds returns as they were before.
    """
    errors = series(e, "value_error")
    if len(errors) < t["updates"] or not reward_of_a_step(e) > 0 or upset(e, t):
        return None
    if len(series(e, "action_std")) and np.sqrt(begin(errors)) < t["normalised"]:
        return None
    return reach(e)


def _short(e: Examination, ahead: float) -> str:
    error, reward = ahead * reward_of_a_step(e), reward_of_a_step(e)
    return (
        f"what the critic is fitted to is as large as {ahead:.2g} rewards of a step (the root mean "
        f"square of its errors, by {word_of(e, 'value_error')}, is {error:.3g}, and a mean reward "
        f"{reward:.3g}), so that it looks no further ahead, unless rewards are normalised"
    )


def critic_explains_nothing(e: Examination, t: Thresholds) -> Found | None:
    """The critic predicts far worse than a constant, at the end of a run that does not rise."""
    explained = series(e, "explained_variance_before")
    late = explained[-max(1, len(explained) // 3) :]
    if len(explained) < t["updates"] or return_rises(e):
        return None
    if not np.median(late) < t["explained"]:
        return None
    return Found(
        "The critic explains nothing: it predicts returns worse than a constant would.",
        f"Its explained variance ({word_of(e, 'explained_variance_before')}) is "
        f"{np.median(late):.3g} in the median of the last third of {len(explained)} rows.",
        {"explained_variance": float(np.median(late))},
        f"Train the critic more ({language_of(e).word('critic_coefficient')}, "
        f"{language_of(e).word('step_size')}), or scale the rewards: "
        f"{language_of(e).phrase('scale_rewards')}.",
    )

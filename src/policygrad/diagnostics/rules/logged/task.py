"""What a log says of the task itself: its rewards, its observations, its actions."""

import numpy as np

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.facts import (
    begin,
    chance_of_returns,
    deterministic,
    end,
    episodes,
    series,
    taken_for_new,
    upset,
)
from policygrad.diagnostics.rules.logged.words import language_of, less, word_of
from policygrad.diagnostics.rules.rule import Found, Thresholds


def rewards_not_finite(e: Examination, t: Thresholds) -> Found | None:
    """A return that was logged is NaN or infinite."""
    wrong = e.logged.not_finite.get("return_mean", 0) if e.logged else 0
    if wrong < t["returns"]:
        return None
    return Found(
        "The environment returns rewards that are NaN, infinite or too large to compute with.",
        f"{wrong} of the logged returns ({word_of(e, 'return_mean')}) are NaN or infinite.",
        {"returns_not_finite": wrong},
        "Correct the environment's reward: look for divisions by zero, and for roots and "
        "logarithms of negative numbers. No setting can repair it.",
    )


def rewards_zero(e: Examination, t: Thresholds) -> Found | None:
    """Every logged return is zero."""
    returns = series(e, "return_mean")
    if len(returns) < t["returns"] or np.any(np.abs(returns) > t["return"]):
        return None
    return Found(
        "Every return is zero, so that no action is better than another.",
        f"All {len(returns)} means of the logged returns ({word_of(e, 'return_mean')}) are 0.",
        {"returns": len(returns)},
        "Give the environment a reward that the policy can earn by chance. Look for a wrapper that "
        "drops the reward, for a goal that is too far away, and for a shaped reward that is "
        "missing. No setting helps.",
    )


def rewards_constant(e: Examination, t: Thresholds) -> Found | None:
    """The mean return, and the mean length where it is logged, never changed."""
    returns, lengths = series(e, "return_mean"), series(e, "length_mean")
    if len(returns) < t["returns"] or np.ptp(returns) > t["spread"] or not np.any(returns):
        return None
    if len(lengths) and np.ptp(lengths) > t["spread"]:
        return None
    if deterministic(e, t):  # a policy that always does the same earns the same
        return None
    long = f", after {lengths[0]:g} steps each" if len(lengths) else ""
    return Found(
        "Every episode earns the same return: the reward does not distinguish good actions from "
        "bad ones.",
        f"All {len(returns)} means of the logged returns are {returns[0]:g}{long}.",
        {"return": float(returns[0])},
        "Reward progress, or make the goal reachable by chance (an easier start, a longer "
        "episode). If the run began with a policy that solves the task, nothing is wrong.",
    )


def rewards_unscaled(e: Examination, t: Thresholds) -> Found | None:
    """The critic's errors are far larger or smaller than a network can fit."""
    errors, returns = np.sqrt(series(e, "value_error")), np.abs(series(e, "return_mean"))
    if not len(returns):
        return None
    size, returns = begin(errors), float(np.median(returns))
    small = 0 < returns < t["least"] and size < t["least"]
    if not (size > t["most"] or small):
        return None
    factor = 10.0 ** -np.floor(np.log10(size if size > t["most"] else returns))
    return Found(
        f"The rewards are out of scale: they are far too {'small' if small else 'large'}.",
        f"The critic is wrong by {size:.3g} at first (root of {word_of(e, 'value_error')}), and "
        f"the mean return is about {returns:.3g} in size.",
        {"value_error": size, "return_size": returns},
        f"Multiply the rewards by about {factor:.0e} in the environment, or "
        f"{language_of(e).phrase('scale_rewards')}.",
    )


def observations_constant(e: Examination, t: Thresholds) -> Found | None:
    """The critic says the same of every state, from the first update on."""
    explained, errors = series(e, "explained_variance_before"), series(e, "value_error")
    if len(explained) < t["updates"] or not np.any(errors > 0) or upset(e, t):
        return None
    if np.sqrt(begin(errors)) > t["error"]:  # beside such returns any critic at random is constant
        return None
    same = np.abs(explained) < t["explained"]
    if not (np.mean(same) >= t["share"] and same[: int(t["updates"])].all()):
        return None
    return Found(
        "The observations are constant, or do not reach the network: the critic gives every state "
        "the same value.",
        f"The explained variance ({word_of(e, 'explained_variance_before')}) is 0 to rounding in "
        f"{int(same.sum())} of {len(same)} rows, from the first on; only a constant explains "
        "exactly nothing.",
        {"rows": int(same.sum())},
        "Correct the environment's observation: look for a wrapper that returns zeros, a buffer "
        "that is not written, or a normalisation that divides by something huge. No setting can "
        "repair it.",
    )


def actions_saturated(e: Examination, t: Thresholds) -> Found | None:
    """The standard deviation of the actions is far wider than bounds usually are."""
    std = series(e, "action_std")
    first, now = begin(std), end(std)
    if not (len(std) and now >= t["std"] and first >= t["first"]):
        return None
    return Found(
        "The actions are saturated at their bounds: the policy's noise is wider than the bounds, "
        "and most actions are clipped.",
        f"The standard deviation of the actions ({word_of(e, 'action_std')}) was {first:.3g} at "
        f"first and is {now:.3g} now. The log does not say the bounds; usual are ±1, and a "
        "standard deviation of 1 at first.",
        {"first_std": first, "std": now},
        f"To begin with less noise, {language_of(e).phrase('log_std')}. If the bounds are as "
        "wide as the noise, scale the actions to ±1.",
    )


def return_collapsed(e: Examination, t: Thresholds) -> Found | None:
    """The return has lost half of what it had gained, by more than chance."""
    returns = series(e, "return_mean")
    if len(returns) < t["updates"]:
        return None
    smooth = np.convolve(returns, np.ones(3) / 3, "valid")
    top, first, last = int(np.argmax(smooth)), begin(returns), end(returns)
    best, spread = float(smooth[top]), chance_of_returns(e)
    gained, lost = best - first, best - last
    if not (gained > t["spreads"] * begin(spread) and lost > t["spreads"] * end(spread)):
        return None
    if not last < first + t["kept"] * gained:
        return None
    if not gained > t["gain"] * abs(first):
        return None
    return Found(
        "The return has collapsed: the policy lost what it had learned.",
        f"The mean return rose from {first:.4g} to {best:.4g} in row {top + 2} of {len(returns)}, "
        f"and is {last:.4g} now{taken_for_new(e)}.",
        {"first_return": first, "best_return": best, "last_return": last},
        f"Train with {less(e, 'step_size')}, or one that falls to 0.",
    )


def too_few_episodes(e: Examination, t: Thresholds) -> Found | None:
    """Fewer than ten episodes ended in training."""
    lengths, ended = series(e, "length_mean"), episodes(e)
    if not len(lengths) or not e.env_steps or not ended < t["episodes"]:
        return None
    return Found(
        "Too few episodes have ended for the returns to mean anything.",
        f"About {ended:.0f} episodes ended in {e.env_steps:,} steps of training; an episode "
        f"takes about {float(np.median(lengths)):,.0f}.",
        {"episodes": ended, "env_steps": e.env_steps},
        "Train longer: for at least a hundred episodes.",
    )


def training_stopped(e: Examination, t: Thresholds) -> Found | None:
    """A number of the update that was logged is NaN or infinite."""
    wrong = {
        k: n for k, n in (e.logged.not_finite if e.logged else {}).items() if k != "return_mean"
    }
    if sum(wrong.values()) < t["failures"]:
        return None
    return Found(
        "Training broke down: numbers of the update are not finite.",
        "; ".join(f"{n} entries of {word_of(e, k)} are NaN or infinite" for k, n in wrong.items())
        + ".",
        {f"{k}_not_finite": n for k, n in wrong.items()},
        f"Train with {less(e, 'step_size')} and {less(e, 'max_global_norm')}, and look for NaN in "
        "observations and rewards.",
    )

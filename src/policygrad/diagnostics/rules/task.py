"""What is wrong with the task itself: its rewards, observations, bounds and time limits."""

import math

import numpy as np

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.rules.advice import SQUASHED, other_step, settings_of_algorithm
from policygrad.diagnostics.rules.rule import (
    EVERYTHING,
    SYMPTOMS,
    Found,
    Proposals,
    Rule,
    Thresholds,
)
from policygrad.diagnostics.rules.settings import Settings


def rewards_zero(e: Examination, t: Thresholds) -> Found | None:
    """Every reward is zero, in fresh episodes and in training."""
    s = e.sample
    if s is None or not max(abs(s.rewards.least), abs(s.rewards.most)) <= t["reward"]:
        return None
    returns = e.metric("return_mean")
    if (abs(returns) > t["reward"]).any():
        return None
    return Found(
        "Every reward is zero, so that no action is better than another.",
        f"All rewards of {s.steps:,} steps in {s.episodes} fresh episodes are 0"
        + (", and so was every mean return in training." if len(returns) else "."),
        {"steps": s.steps, "episodes": s.episodes},
        "Give the environment a reward that the policy can earn by chance. Look for a wrapper that "
        "drops the reward, for a goal that is too far away, and for a shaped reward that is "
        "missing. No flag of train helps.",
    )


def rewards_constant(e: Examination, t: Thresholds) -> Found | None:
    """All episodes have equal rewards and equal lengths, and the mean return never changed."""
    s = e.sample
    if s is None or s.episodes < t["episodes"] or s.rewards.std > t["spread"]:
        return None
    if s.lengths.least != s.lengths.most:
        return None
    returns = e.metric("return_mean")
    returns = returns[returns == returns]
    if len(returns) and returns.max() - returns.min() > t["spread"]:
        return None  # it differed while the policy was worse: the task is solved
    log_std = Settings.of(e).log_std
    narrow = np.isfinite(s.action_noise) and log_std is not None and log_std < 0
    return Found(
        "Every episode earns the same return: the reward is constant and does not distinguish good "
        "actions from bad ones.",
        f"All {s.steps:,} rewards in {s.episodes} fresh episodes are {s.rewards.mean:g}, every "
        f"episode has {s.lengths.most:.0f} steps, and the mean return never changed in training.",
        {"reward": s.rewards.mean, "length": s.lengths.most},
        "Reward progress, or make the goal reachable by chance (an easier start, a longer episode, "
        "--log-std 0 for wider exploration with continuous actions).",
        ({"log_std": 0.0},) if narrow else (),
    )


def observations_constant(e: Examination, t: Thresholds) -> Found | None:
    """No observed number changes from step to step."""
    s = e.sample
    if s is None or s.lengths.most < t["steps"] or not s.observation_components:
        return None
    if s.constant_components < s.observation_components:
        return None
    return Found(
        "The observations are constant: the policy and the critic see nothing of the state.",
        f"None of {s.observation_components} observed numbers changed in {s.steps:,} steps of "
        f"{s.episodes} fresh episodes.",
        {"components": s.observation_components, "steps": s.steps},
        "Correct the environment's observation: look for a wrapper that returns zeros, or a buffer "
        "that is not written. No flag of train can repair it.",
    )


def rewards_unscaled(e: Examination, t: Thresholds) -> Found | None:
    """Returns are too large or too small for a critic, or only reward scaling makes them fit."""
    s = e.sample
    if s is None or not s.discounted_size > 0:
        return None
    settings = Settings.of(e)
    scaled = settings["scale_rewards"]
    size = s.discounted_size
    if scaled:
        # a policy that has learned to avoid enormous rewards no longer shows them
        scales = e.metric("reward_scale")
        size = float(np.max(1 / scales[scales > 0], initial=size))
        wrong, outside = size > t["most_scaled"], f"above {t['most_scaled']:g}"
    elif not settings.value_network:
        return None
    else:
        wrong = not t["least"] <= size <= t["most"]
        outside = f"outside {t['least']:g} to {t['most']:g}"
    if not wrong:
        return None
    least, most = s.rewards.least, s.rewards.most
    proposes: Proposals = ()
    factor = 10.0 ** -math.floor(math.log10(min(size, 1e38)))  # which float32 can hold
    if scaled:
        change = (
            f"Multiply the rewards by about {factor:.0e} in the environment, and keep "
            "--scale-rewards on, which is all that corrects their size now."
        )
    else:
        change = (
            "Train with --scale-rewards, which divides them by the size of the return, or multiply "
            f"them by about {factor:.0e} in the environment."
        )
        proposes = ({"scale_rewards": True},)
    return Found(
        "The rewards are out of scale: "
        + ("they are far too large." if size > 1 else "they are far too small."),
        f"Rewards lie between {least:.3g} and {most:.3g} and the discounted return to go has the "
        f"size {size:.3g}, {outside}; reward scaling is {'on' if scaled else 'off'}.",
        {"discounted_size": size, "least_reward": least, "most_reward": most},
        change,
        proposes,
    )


def observations_unnormalised(e: Examination, t: Thresholds) -> Found | None:
    """Observations are not normalised, and too large or too small for tanh units."""
    s, settings = e.sample, Settings.of(e)
    if s is None or not settings.describes("policy") or settings["normalise_observations"]:
        return None
    least, most = s.observation_size.least, s.observation_size.most
    if not (most > t["most"] or most < t["least"]):
        return None
    return Found(
        "The observations are not normalised, and their size is wrong for the network.",
        f"The root mean squares of the observed numbers reach from {least:.3g} to {most:.3g}, and "
        "the numbers go into tanh units unchanged.",
        {"least_size": least, "most_size": most},
        "Train with --normalise-observations.",
        ({"normalise_observations": True},),
    )


def actions_saturated(e: Examination, t: Thresholds) -> Found | None:
    """The policy's noise is so wide that most actions are clipped to a bound."""
    s, settings = e.sample, Settings.of(e)
    least = t["squashed_noise"] if settings["tanh_gaussian"] else t["noise"]
    if s is None or not (s.at_bounds >= t["share"] and s.action_noise >= least):
        return None
    log_std = settings.log_std
    if log_std is not None and log_std > 0:
        change = f"Train with --log-std -0.5 in place of {log_std:g}."
        proposes: Proposals = ({"log_std": -0.5},)
    elif settings.entropy_coefficient:
        change = "Train with --entropy-coefficient 0; the bonus widens the noise."
        proposes = settings_of_algorithm(e, {"entropy_coefficient": 0.0})
    else:
        change = "Train with --tanh-gaussian, or with a tenth of the --step-size."
        step_size = settings.of_algorithm("step_size")
        tenth = settings_of_algorithm(e, {"step_size": step_size / 10}) if step_size else ()
        proposes = (*SQUASHED, *tenth) if settings.describes("policy") else tenth
    return Found(
        "The actions are saturated at their bounds: the policy's noise is wider than the bounds, "
        "and most actions are clipped.",
        f"{s.at_bounds:.0%} of the action components in {s.episodes} fresh episodes are at a "
        f"bound; the noise has a standard deviation of {s.action_noise:.3g} half ranges.",
        {"at_bounds": s.at_bounds, "action_noise": s.action_noise, "log_std": log_std},
        change,
        proposes,
    )


def mean_action_saturated(e: Examination, t: Thresholds) -> Found | None:
    """Nearly all most probable actions lie beyond a bound, and the return did not rise by it."""
    s, settings = e.sample, Settings.of(e)
    if s is None or s.mean_at_bounds < t["share"] or at_its_best(e, t["progress"]):
        return None
    return Found(
        "The actions are saturated at their bounds: the policy's mean lies beyond a bound, where "
        "all actions are the same to the environment.",
        f"{s.mean_at_bounds:.0%} of the most probable action components in {s.episodes} fresh "
        f"episodes lie at a bound or beyond it; the mean return is {s.returns.mean:.4g}.",
        {"mean_at_bounds": s.mean_at_bounds, "at_bounds": s.at_bounds},
        "Train with --tanh-gaussian, or with a smaller --step-size or --target-kl.",
        (*SQUASHED, *other_step(settings, smaller=True)[1]),
    )


def at_its_best(e: Examination, progress: float) -> bool:
    """Whether the returns rose in training and ended near the top of what they reached.

    The top is that of many means of a hundred episodes, and two of them differ by chance by 0.3
    standard deviations of an episode's return.
    """
    returns = e.metric("return_mean")
    returns = returns[returns == returns]
    if not len(returns):
        return False
    span = returns.max() - returns[0]
    chance = 0.3 * e.sample.returns.std if e.sample else 0.0
    short = returns.max() - returns[-1]
    return bool(span > 0 and short <= max((1 - progress) * span, chance))


def time_limit_dominates(e: Examination, t: Thresholds) -> Found | None:
    """Episodes are truncated so early that most of the return's weight lies after the limit."""
    s, settings = e.sample, Settings.of(e)
    if s is None or s.truncated < t["share"] or not settings.describes("estimator"):
        return None
    if settings["time_limit"] is None:  # returns are of whole episodes: nothing is estimated
        return None
    if settings.resets_at_rewards:
        return None
    discount, length = float(settings["discount"]), s.lengths.mean
    ends = settings.limit_terminates
    behind = discount**length
    numbers = {"truncated": s.truncated, "length": length, "weight_behind_limit": behind}
    seen = (
        f"{s.truncated:.0%} of {s.episodes} fresh episodes are truncated, after {length:.0f} steps"
    )
    if ends and behind > t["weight_ended"] and settings.bootstraps:
        return Found(
            "Time limits dominate. They are treated as the end of the task, but the policy does "
            "not see the time that is left.",
            f"{seen}, where γ^length is still {behind:.2f}; --time-limit is terminates.",
            numbers,
            "Train with --time-limit bootstraps, or add the time that is left to the observation.",
            ({"time_limit": "bootstraps"},),
        )
    lower = max(0.0, 1 - 3 / max(length, 3))
    if not ends and behind > t["weight"]:
        return Found(
            "Time limits dominate: episodes are truncated long before γ^t has become small, so "
            "that returns are mostly the critic's estimate of what comes after the limit.",
            f"{seen}, where γ^length is still {behind:.2f}: that share of the return's weight "
            "comes after the limit.",
            numbers,
            f"Raise the environment's time limit to {3 / (1 - min(discount, 0.999)):.0f} steps or "
            f"more, or train with --discount {lower:.2f}.",
            ({"discount": round(lower, 2)},),
        )
    return None


RULES = (
    Rule(
        "rewards-zero",
        {"reward": 0.0},
        "By definition: if every reward is zero, ∇J = 0 for every policy.",
        1.0,
        rewards_zero,
        EVERYTHING,
    ),
    Rule(
        "observations-constant",
        {"steps": 2},
        "By definition: a function of a constant observation is constant.",
        1.0,
        observations_constant,
        EVERYTHING,
    ),
    Rule(
        "rewards-constant",
        {"episodes": 8, "spread": 0.0},
        "By definition: all episodes have the same return, so no action is seen to be better. It "
        "may be the consequence of any setting that keeps the policy from the goal.",
        0.75,
        rewards_constant,
        (*SYMPTOMS, "step-size-too-small"),
    ),
    Rule(
        "rewards-unscaled",
        {"least": 1e-2, "most": 300.0, "most_scaled": 1e5},
        "van Hasselt et al. 2016: a network whose outputs begin at size 1 and move by Adam's steps "
        "fits targets of about that size. With scaling on, the digits of float32 are the limit: "
        "above 1e5 they resolve about 0.01 of reward.",
        0.95,
        rewards_unscaled,
        (*SYMPTOMS, "critic-not-trained", "lambda-too-low", "step-size-too-small"),
    ),
    Rule(
        "actions-saturated",
        {"share": 0.5, "noise": 1.5, "squashed_noise": 0.8},
        "Half of the draws of a Gaussian around the middle leave the bounds if its standard "
        "deviation is 1.5 half ranges. A Gaussian squashed by tanh has at most 1. With narrower "
        "noise it is the mean that lies at a bound, which may be right. Fujita & Maeda 2018 "
        "describe what clipping does.",
        0.87,
        actions_saturated,
        (*SYMPTOMS, "step-size-too-small"),
    ),
    Rule(
        "mean-action-saturated",
        {"share": 0.95, "progress": 0.9},
        "Beyond a bound the environment's response to an action is flat, so the gradient is only "
        "noise. Policies that switch between the bounds and whose return rose are not reported.",
        0.5,
        mean_action_saturated,
        ("return-collapsed",),
    ),
    Rule(
        "observations-unnormalised",
        {"least": 0.01, "most": 10.0},
        "LeCun et al. 1998: inputs should have unit variance. A tanh unit with orthogonal weights "
        "is saturated by inputs above about 3.",
        0.8,
        observations_unnormalised,
        SYMPTOMS,
    ),
    Rule(
        "time-limit-dominates",
        {"share": 0.9, "weight": 0.8, "weight_ended": 0.05},
        "Pardo et al. 2018; γ^length is the weight of what comes after the limit.",
        0.6,
        time_limit_dominates,
    ),
)

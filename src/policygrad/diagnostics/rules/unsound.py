"""What is not finite, or no action at all: in fresh episodes, or what stopped training."""

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.rules.advice import other_step
from policygrad.diagnostics.rules.rule import EVERYTHING, Found, Proposals, Rule, Thresholds
from policygrad.diagnostics.rules.settings import Settings
from policygrad.diagnostics.sample import Sample


def observations_not_finite(e: Examination, t: Thresholds) -> Found | None:
    """An observation is NaN or infinite, in a fresh episode, or an observation stopped training."""
    seen = e.sample.observations_not_finite if e.sample else 0
    stopped = _stopped_on(e, "observation")
    if seen < t["numbers"] and not stopped:
        return None
    return Found(
        "The environment returns observations that are NaN, infinite or too large to compute with.",
        _where(seen, "observed numbers", e.sample, stopped),
        {"observations_not_finite": seen},
        "Correct the environment's observation. A simulation that diverged should end its episode.",
    )


def rewards_not_finite(e: Examination, t: Thresholds) -> Found | None:
    """A reward is NaN or infinite, in a fresh episode, or a reward stopped training."""
    seen = e.sample.rewards_not_finite if e.sample else 0
    stopped = _stopped_on(e, "reward")
    if seen < t["rewards"] and not stopped:
        return None
    return Found(
        "The environment returns rewards that are NaN, infinite or too large to compute with.",
        _where(seen, "rewards", e.sample, stopped),
        {"rewards_not_finite": seen},
        "Correct the environment's reward: look for divisions by zero, and for roots and "
        "logarithms of negative numbers. No flag of train can repair it.",
    )


def mask_permits_nothing(e: Examination, t: Thresholds) -> Found | None:
    """An action mask permits no action, in a fresh episode or when training stopped."""
    seen = e.sample.masks_without_action if e.sample else 0
    stopped = _stopped_on(e, "mask")
    if seen < t["masks"] and not stopped:
        return None
    return Found(
        "The environment's action mask permits no action at all.",
        _where(seen, "action masks", e.sample, stopped, "permit no action"),
        {"masks_without_action": seen},
        "Correct the environment's action_mask: it needs a 1 for every action that is possible. A "
        "state without any should end the episode.",
    )


def training_stopped(e: Examination, t: Thresholds) -> Found | None:
    """Training stopped by itself, on a number that the environment did not return."""
    named = ("observation", "reward", "mask")  # which have rules of their own
    failures = int(e.failure is not None and e.failure.kind not in named)
    if e.failure is None or failures < t["failures"]:
        return None
    proposes: Proposals = ()
    if e.failure.kind == "critic":
        change = "Train with a smaller --critic-step-size, and with --scale-rewards."
        if step_size := Settings.of(e)["critic_step_size"]:
            proposes = ({"critic_step_size": step_size / 10, "scale_rewards": True},)
    else:
        change = "Train with a smaller --step-size or --target-kl, or look at the policy's outputs."
        proposes = other_step(Settings.of(e), smaller=True)[1]
    return Found(
        "Training stopped by itself, because an update was not finite.",
        f"Training stopped after {e.failure.env_steps:,} steps: {e.failure.message}.",
        {"env_steps": e.failure.env_steps},
        change,
        proposes,
    )


def _stopped_on(e: Examination, kind: str) -> str | None:
    """Why training stopped, if a number of this kind stopped it."""
    return e.failure.message if e.failure is not None and e.failure.kind == kind else None


def _where(
    seen: int, what: str, sample: Sample | None, stopped: str | None, wrong: str = "are not finite"
) -> str:
    parts = []
    if seen and sample:
        parts.append(
            f"{seen:,} {what} in {sample.episodes} fresh episodes ({sample.steps:,} steps) {wrong}"
        )
    if stopped:
        parts.append(f"training stopped on {stopped}")
    return "; ".join(parts) + "."


RULES = (
    Rule(
        "observations-not-finite",
        {"numbers": 1},
        "One NaN in an observation makes the action NaN, and then the reward.",
        1.0,
        observations_not_finite,
        EVERYTHING,
    ),
    Rule(
        "rewards-not-finite",
        {"rewards": 1},
        "One NaN in a reward makes every weight of the batch NaN.",
        1.0,
        rewards_not_finite,
        EVERYTHING,
    ),
    Rule(
        "mask-permits-nothing",
        {"masks": 1},
        "By definition: a policy cannot act if no action has a probability.",
        1.0,
        mask_permits_nothing,
        EVERYTHING,
    ),
)

TRAINING_STOPPED = Rule(
    "training-stopped",
    {"failures": 1},
    "By definition: an update that is not finite is not taken. It is a consequence of other "
    "causes, which are named first if they are found.",
    0.65,
    training_stopped,
)

"""The same causes where only the log of another library is known: other evidence, and less of it.

A rule here has the name, the weight and the consequences of the rule for our own runs, so that a
finding means the same. What it looks at differs: there are no fresh episodes, and γ, λ and the
weights of bonus and critic are known only where the library writes them. Where they are not, they
show in what they do to the numbers that are logged.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from policygrad.diagnostics.facts import LATE, MOVED, TELLING, USUAL, WIDE
from policygrad.diagnostics.language import Language
from policygrad.diagnostics.rules import learning as own_learning
from policygrad.diagnostics.rules import standing as own_standing
from policygrad.diagnostics.rules import task as own_task
from policygrad.diagnostics.rules import unsound as own_unsound
from policygrad.diagnostics.rules import values as own_values
from policygrad.diagnostics.rules.logged import learning, task, values
from policygrad.diagnostics.rules.rule import SYMPTOMS, Rule

OWN = {
    rule.name: rule
    for rule in (
        *own_unsound.RULES, *own_task.RULES, own_unsound.TRAINING_STOPPED, *own_learning.RULES,
        *own_values.RULES, *own_standing.RULES,
    )
}  # fmt: skip
DETERMINISTIC = {"nats": 0.01, "std": 0.02}  # of two actions, one is taken in 999 of 1000 steps
UPSET = {**DETERMINISTIC, "step_size": 0.01}
CRITIC = {
    **UPSET,
    "updates": 3, "rows": 4, "apart": 6, "weight": 1e-6, "fell": 0.7, "moved": 0.06, "ahead": 2.2,
    "ahead_of_few": 1.6, "at_once": 0.75, "normalised": 2.0,
}  # fmt: skip


def _rule(
    name: str,
    test: Callable[..., Any],
    thresholds: Mapping[str, float],
    needs: tuple[tuple[str, ...], ...],
    source: str | None = None,
) -> Rule:
    own = OWN[name]
    return replace(own, test=test, thresholds=thresholds, needs=needs, source=source or own.source)


GROUPS = Rule(
    "groups-without-spread",
    {"share": 0.8, "updates": 4},
    "By definition: an advantage within a group is zero if all its rewards are equal. With four "
    "fifths of such groups a batch is a fifth of its size.",
    0.6,
    learning.groups_without_spread,
    needs=(("groups_without_spread",),),
)


def of_others(rule: Rule, language: Language) -> bool:
    """Whether a rule is about what this library does not have at all."""
    if rule.name == "entropy-bonus-too-large":
        return "entropy_coefficient" in language.lacks
    return rule is GROUPS and "groups_without_spread" not in language.metrics


RULES: tuple[Rule, ...] = (
    _rule("rewards-not-finite", task.rewards_not_finite, {"returns": 1}, (("return_mean",),)),
    _rule("rewards-zero", task.rewards_zero, {"returns": 3, "return": 0.0}, (("return_mean",),)),
    _rule(
        "observations-constant",
        task.observations_constant,
        {"updates": 3, "explained": 1e-5, "share": 0.9, "error": 1e3, **UPSET},
        (("explained_variance_before",), ("value_error",)),
        "By definition: 1 − Var(G − c)/Var(G) = 0 for a constant c, and a function of a constant "
        "observation is constant. A critic at random differs from 0 by far more than rounding.",
    ),
    replace(
        _rule(
            "rewards-constant",
            task.rewards_constant,
            {"returns": 3, "spread": 0.0, **DETERMINISTIC},
            (("return_mean",), ("length_mean",), (TELLING,)),
            "By definition: all episodes have the same return, so no action is seen to be better. "
            "Of a hundred episodes none differs: with 95 % certainty fewer than 3 of 100 ever do "
            "(Hanley & Lippman-Hand 1983).",
        ),
        explains=SYMPTOMS,  # a step that is too small may be the cause of it
    ),
    _rule(
        "rewards-unscaled",
        task.rewards_unscaled,
        {"least": 1e-3, "most": 3000.0},
        (("value_error",), ("return_mean",)),
        "van Hasselt et al. 2016: a network whose outputs begin at size 1 and move by Adam's steps "
        "fits targets of about that size. Ten times the size that is too large for a critic of "
        "ours, since raw rewards of usual tasks reach into the hundreds.",
    ),
    _rule(
        "actions-saturated",
        task.actions_saturated,
        {"std": 3.0, "first": 2.5},
        (("action_std",),),
        "With bounds of ±1 three of four draws of a standard deviation of 3 are clipped. All "
        "libraries begin with 1 or less.",
    ),
    _rule(
        "training-stopped",
        task.training_stopped,
        {"failures": 1},
        (("loss", "value_error", "kl", "entropy", "gradient_norm", "reference_kl"),),
    ),
    _rule(
        "batch-of-one-episode",
        learning.batch_of_one_episode,
        {"least": 0.7, "most": 1.4, "steps": 512, "lanes": 2},
        (("batch_steps",), ("length_mean",)),
        "With one episode the variance can be neither estimated nor averaged away; Greensmith et "
        "al. 2004. Batches of more than 512 steps are usual where episodes are long.",
    ),
    _rule(
        "entropy-bonus-too-large",
        learning.entropy_bonus_too_large,
        {
            "coefficient": 0.05, "outweighs": 0.3, "risen": 0.3, "steady": 0.9, "pinned": 2e-3,
            "greatest": 0.01, "moves": 1e-6, "leaps": 0.05, "step_size": 0.01, "updates": 4,
            "pushed": 0.5,
        },
        (("entropy",),),
    ),
    _rule(
        "step-size-too-large",
        learning.step_size_too_large,
        {"typical": 0.1, "leap": 0.5, "leaps": 2, "share": 0.1, "clipped": 0.5, "step_size": 0.01},
        (("kl", "clip_fraction", "step_size"),),
    ),
    _rule(
        "step-size-too-small",
        learning.step_size_too_small,
        {
            "typical": 1e-5, "usual": 3e-3, "updates": 3, "rest": 0.01, "share_of_usual": 1 / 30,
            "nothing": 1e-3, "near_usual": 1 / 3, **DETERMINISTIC,
        },
        ((MOVED, "step_size"), (MOVED, USUAL)),
        "A thousandth of the usual KL of 0.01 is a thirtieth of the usual step. Other libraries "
        "log the KL of a single minibatch, or of the last epoch. Where no KL is logged, "
        "a learning rate of a thirtieth of the default and an entropy that rests, or a thousandth.",
    ),
    _rule(
        "entropy-collapsed",
        learning.entropy_collapsed,
        {"share": 0.03, "updates": 6, "chances": 3.0, **DETERMINISTIC},
        (("entropy", "action_std"), ("return_mean",)),
    ),
    _rule(
        "return-collapsed",
        task.return_collapsed,
        {"updates": 10, "kept": 0.5, "spreads": 4.0, "gain": 0.25},
        (("return_mean",),),
        "Half of the gain is lost, gain and loss are more than four standard deviations "
        "of a row of the log, and the gain was a quarter of where the run began. Where a row is a "
        "mean over the newest episodes, its standard deviation is that of one episode by the root "
        "of their number: it cannot be told from the small steps between rows.",
    ),
    _rule(
        "too-few-episodes",
        task.too_few_episodes,
        {"episodes": 10},
        (("env_steps",), ("length_mean",)),
    ),
    GROUPS,
    _rule(
        "discount-too-low",
        values.discount_too_low,
        {
            "horizon": 5.0, "episodes_horizons": 8.0, "episodes_ahead": 15.0, **CRITIC,
        },
        (("length_mean",), ("discount", "value_error")),
    ),
    _rule(
        "lambda-too-low",
        values.lambda_too_low,
        {"lambda": 0.5, "explained": 0.8, **CRITIC},
        (("gae_lambda", "value_error"),),
    ),
    _rule(
        "critic-not-trained",
        values.critic_not_trained,
        CRITIC,
        (("critic_coefficient", "value_error"), ("critic_coefficient", LATE)),
        "A critic that is trained lowers its error, and what it explains changes. One that is not "
        "says the same of a state for ever.",
    ),
    _rule(
        "critic-explains-nothing",
        values.critic_explains_nothing,
        {"updates": 10, "explained": -1.0},
        (("explained_variance_before",), (WIDE,)),
        "A constant explains zero; below −1 the critic's errors are larger than returns differ. "
        "Among the returns of a few steps in a row there is hardly any variance to explain.",
    ),
)  # fmt: skip
"""The rules for logs. A rule stands before those whose findings it may explain."""

"""The doctor's rules: what may be wrong with a run, and the findings that follow from them."""

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.facts import FRESH_EPISODES, GRADIENTS, MODE, OF_RUNS, RANDOM, known
from policygrad.diagnostics.findings import Finding, NotLookedAt
from policygrad.diagnostics.language import Language
from policygrad.diagnostics.rules import learning, logged, mode, standing, task, unsound, values
from policygrad.diagnostics.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    *unsound.RULES,
    *task.RULES,
    unsound.TRAINING_STOPPED,
    *learning.RULES,
    *values.RULES,
    *standing.RULES,
    *mode.RULES,
)
"""Every rule. A rule stands before those whose findings it may explain."""


ONLY_OURS = {
    "mask-permits-nothing": FRESH_EPISODES,
    "observations-not-finite": FRESH_EPISODES,
    "observations-unnormalised": FRESH_EPISODES,
    "mean-action-saturated": FRESH_EPISODES,
    "time-limit-dominates": FRESH_EPISODES,
    "discount-too-high": FRESH_EPISODES,
    "batch-below-noise-scale": GRADIENTS,
    "baseline-hurts": GRADIENTS,
    "lambda-far-from-best": GRADIENTS,
    "critic-overfits": "refit",
    "no-episode-ends": FRESH_EPISODES,
    "below-random": RANDOM,
    "no-better-than-random": RANDOM,
    "noise-costs-most": MODE,
    "mode-loses-most": MODE,
}
"""Rules that the log of another library is never enough for, and what they would need."""

WITHOUT_EPISODES = (
    "observations-not-finite", "rewards-not-finite", "mask-permits-nothing", "training-stopped",
    "batch-of-one-episode", "entropy-bonus-too-large", "step-size-too-large",
    "step-size-too-small", "too-few-episodes", "critic-not-trained",
)  # fmt: skip
"""Rules that read a run's files as well; all others look at fresh episodes."""


def diagnose(
    examination: Examination, rules: tuple[Rule, ...] | None = None
) -> tuple[Finding, ...]:
    """What is wrong, most likely cause first; empty for a healthy run.

    Args:
        examination: of a run or of an environment.
        rules: the rules to apply; None for those that look at what was examined. A finding that
            another finding explains is left out.

    Returns:
        Findings in order of falling weight; findings of equal weight in the order of the rules.
    """
    if rules is None:
        rules = RULES if examination.language is None else _applied(examination)
    found = [(rule, finding) for rule in rules if (finding := rule(examination)) is not None]
    causes = [
        finding
        for place, (rule, finding) in enumerate(found)
        if not any(
            above.silences(rule) and (at < place or rule.name in above.explains)
            for at, (above, _) in enumerate(found)
        )
    ]
    return tuple(sorted(causes, key=lambda finding: -finding.weight))


def _applied(e: Examination) -> tuple[Rule, ...]:
    return tuple(rule for rule in _of(e.language) if not _missing(e, rule))


def _of(language: Language | None) -> list[Rule]:
    """The rules that are about what a library has."""
    return [x for x in logged.RULES if language is None or not logged.of_others(x, language)]


def _missing(e: Examination, rule: Rule) -> list[tuple[str, ...]]:
    """What the rule needs and is not known; of each group one thing would do."""
    return [group for group in rule.needs if not any(known(e, fact) for fact in group)]


def looked_at(examination: Examination) -> tuple[str, ...]:
    """Names of the rules that were applied, and had what they need."""
    if examination.language is not None:
        return tuple(rule.name for rule in _applied(examination))
    lacking = {each.name for each in not_looked_at(examination)}
    return tuple(rule.name for rule in RULES if rule.name not in lacking)


def not_looked_at(examination: Examination) -> tuple[NotLookedAt, ...]:
    """The rules that would need more than is known of a run, and what."""
    language = examination.language
    if language is None:
        lacking = ((rule.name, _lacks(examination, rule)) for rule in RULES)
        return tuple(NotLookedAt(name, needs) for name, needs in lacking if needs is not None)
    lacking = [
        NotLookedAt(
            rule.name,
            " and ".join(
                " or ".join(OF_RUNS.get(fact) or language.logged_as(fact) for fact in group)
                for group in missing
            ),
        )
        for rule in _of(language)
        if (missing := _missing(examination, rule))
    ]
    ours = [NotLookedAt(name, OF_RUNS[fact]) for name, fact in ONLY_OURS.items()]
    return (*lacking, *ours)


def _lacks(e: Examination, rule: Rule) -> str | None:
    """What a rule for runs of this library lacks; None if nothing."""
    needs = ONLY_OURS.get(rule.name)
    if e.sample is None and rule.name not in WITHOUT_EPISODES:
        return OF_RUNS[FRESH_EPISODES]
    if e.noise is None and needs == GRADIENTS:
        return OF_RUNS[GRADIENTS]
    if e.at_random is None and needs in (RANDOM, MODE):
        return OF_RUNS[RANDOM]
    if e.by_mode is None and needs == MODE:
        return OF_RUNS[MODE]
    least = rule.thresholds.get("updates", 0)
    return f"{least:g} updates" if e.updates < least else None


__all__ = ["RULES", "Rule", "diagnose", "looked_at", "not_looked_at"]

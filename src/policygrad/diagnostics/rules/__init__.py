"""The doctor's rules: what may be wrong with a run, and the findings that follow from them."""

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding
from policygrad.diagnostics.rules import learning, task, unsound, values
from policygrad.diagnostics.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    *unsound.RULES,
    *task.RULES,
    unsound.TRAINING_STOPPED,
    *learning.RULES,
    *values.RULES,
)
"""Every rule. A rule stands before those whose findings it may explain."""


def diagnose(examination: Examination, rules: tuple[Rule, ...] = RULES) -> tuple[Finding, ...]:
    """What is wrong, most likely cause first; empty for a healthy run.

    Args:
        examination: of a run or of an environment.
        rules: the rules to apply. A finding that another finding explains is left out.

    Returns:
        Findings in order of falling weight; findings of equal weight in the order of the rules.
    """
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


__all__ = ["RULES", "Rule", "diagnose"]

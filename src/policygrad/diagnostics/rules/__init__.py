"""What may be wrong with a run, as a table of rules, and the verdict that follows from it."""

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding
from policygrad.diagnostics.rules import learning, task, values
from policygrad.diagnostics.rules.rule import Rule

RULES: tuple[Rule, ...] = (*task.RULES, *learning.RULES, *values.RULES)
"""Every rule. One stands above those whose findings it may explain."""


def diagnose(examination: Examination, rules: tuple[Rule, ...] = RULES) -> tuple[Finding, ...]:
    """What is wrong, most likely cause first; nothing where nothing is.

    Args:
        examination: of a run or of an environment.
        rules: those to apply. A finding that another one explains is left out.

    Returns:
        Findings by falling weight, equal ones in the order of the rules.
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

"""docs/rules.md says what the rules say: names, conditions, numbers, sources and advice."""

import re
from pathlib import Path

from policygrad.diagnostics import RULES
from policygrad.diagnostics.rules import logged
from tests.diagnostics.test_rules import BROKEN

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
SECTIONS = dict(re.findall(r"^### (\S+)\n\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))
ROWS = {name: row for row in PAGE.splitlines() for name in re.findall(r"^\| `([a-z-]+)` \|", row)}
FLAG = re.compile(r"--[a-z-]+")


def numbers(rule):
    return ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in rule.thresholds.items())


def condition(rule):
    return rule.test.__doc__.splitlines()[0]


def test_every_rule_has_its_place():
    assert list(SECTIONS) == [rule.name for rule in RULES]
    assert list(ROWS) == [rule.name for rule in logged.RULES]


def test_a_section_says_what_its_rule_says():
    for rule in RULES:
        found = SECTIONS[rule.name]
        assert found.startswith(f"{condition(rule)}\n\n- **To change**: "), rule.name
        assert f"- **Decided by**: {numbers(rule)}. **Weight**: {rule.weight:g}.\n" in found
        assert f"- **Why**: {rule.source}\n" in found, rule.name


def test_every_flag_that_a_rule_advises_stands_in_its_section():
    """In all cases in which the tests of the rules break a run."""
    for rule in RULES:
        advised = {flag for e in BROKEN[rule.name] for flag in FLAG.findall(rule(e).change)}
        (told,) = re.findall(r"\*\*To change\*\*: (.*)", SECTIONS[rule.name])
        assert advised <= set(FLAG.findall(told)), rule.name


def test_a_row_says_what_its_rule_for_logs_says():
    for rule in logged.RULES:
        _, _, when, needs, decided, _ = ROWS[rule.name].split("|")
        assert (when.strip(), decided.strip()) == (condition(rule), numbers(rule))
        assert all(fact in needs for group in rule.needs for fact in group), rule.name

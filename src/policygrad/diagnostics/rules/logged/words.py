"""How a finding speaks to the user of another library."""

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.language import METRICS, OTHER, Language


def language_of(e: Examination) -> Language:
    """The library's, or plain words."""
    return OTHER if e.language is None else e.language


def word_of(e: Examination, metric: str) -> str:
    """What the log calls a number: the column that was read, or what it is."""
    names = language_of(e).metrics.get(metric)
    return names[0] if names else METRICS[metric]


def less(e: Examination, name: str, how: str = "smaller") -> str:
    """A smaller value of a setting, in the library's words."""
    return f"a {how} {language_of(e).word(name).removeprefix('the ')}"


def give(e: Examination, name: str, value: float) -> str:
    """How the library is given a value of a setting."""
    return language_of(e).give(name, value)

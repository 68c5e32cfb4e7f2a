"""A rule as data: a name, thresholds, where they come from, and a test of an examination."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding

Thresholds = Mapping[str, float]
Proposals = tuple[Mapping[str, Any], ...]
EVERYTHING = ("*",)
# findings that many causes bring about; left out where such a cause is found
SYMPTOMS = (
    "training-stopped",
    "entropy-collapsed",
    "return-collapsed",
    "below-random",
    "no-better-than-random",
    "noise-costs-most",
    "mode-loses-most",
    "mean-action-saturated",
    "batch-below-noise-scale",
    "baseline-hurts",
    "critic-explains-nothing",
    "critic-overfits",
    "lambda-far-from-best",
)


class Found(NamedTuple):
    """What a test found: the fields of a `Finding` that differ from run to run."""

    cause: str
    evidence: str
    numbers: Mapping[str, Any]
    change: str
    proposes: Proposals = ()


@dataclass(frozen=True)
class Rule:
    """One thing that may be wrong with a run.

    Attributes:
        name: in kebab-case.
        thresholds: by name; the test reads them and holds no number of its own.
        source: a paper, or the reason for the thresholds.
        weight: of its findings, in (0, 1].
        test: looks at an examination; returns what was found, or None.
        explains: names of the rules whose findings are consequences of this rule's finding, and
            are left out if it is reported; "*" for all rules after it in `RULES`.
        needs: what has to be known (`diagnostics.facts`); of each group one thing is enough. Only
            logs of other libraries lack any of it.
    """

    name: str
    thresholds: Thresholds
    source: str
    weight: float
    test: Callable[[Examination, Thresholds], Found | None]
    explains: tuple[str, ...] = ()
    needs: tuple[tuple[str, ...], ...] = ()

    def __call__(self, examination: Examination) -> Finding | None:
        """The finding, or None if the test found nothing."""
        found = self.test(examination, self.thresholds)
        if found is None:
            return None
        numbers = {**found.numbers, **{f"threshold_{k}": v for k, v in self.thresholds.items()}}
        return Finding(
            self.name, found.cause, found.evidence, numbers, found.change, self.weight,
            self.source, found.proposes,
        )  # fmt: skip

    def silences(self, other: "Rule") -> bool:
        """Whether the other rule's finding is a consequence of this rule's finding."""
        return other is not self and (other.name in self.explains or self.explains == EVERYTHING)

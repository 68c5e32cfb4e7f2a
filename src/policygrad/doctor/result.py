"""The verdict on a run: what is wrong, and what was looked at."""

from dataclasses import dataclass
from typing import Any

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding, NotLookedAt


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on a run.

    Attributes:
        findings: what is wrong, most likely cause first.
        examination: everything that was examined.
        looked_at: names of the rules that were applied.
        not_looked_at: rules that would need more than the log of another library says.
    """

    findings: tuple[Finding, ...]
    examination: Examination
    looked_at: tuple[str, ...] = ()
    not_looked_at: tuple[NotLookedAt, ...] = ()

    @property
    def healthy(self) -> bool | None:
        """Whether nothing was found; None if nothing was found, but not all was looked at."""
        return False if self.findings else None if self.not_looked_at else True

    def to_json(self) -> dict[str, Any]:
        """Plain data; None for numbers that are infinite or not defined."""
        return {
            "healthy": self.healthy,
            "findings": [finding.to_json() for finding in self.findings],
            "looked_at": list(self.looked_at),
            "not_looked_at": [each.to_json() for each in self.not_looked_at],
            "examination": self.examination.to_json(),
        }

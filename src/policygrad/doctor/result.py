"""The verdict on a run: what is wrong, and what was looked at."""

from dataclasses import dataclass
from io import StringIO
from typing import Any

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding, NotLookedAt
from policygrad.doctor.telling import tell


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """The verdict on a run. `print` shows what `policygrad diagnose` does.

    Attributes:
        findings: what is wrong, most likely cause first.
        examination: everything that was examined.
        looked_at: names of the rules that were applied.
        not_looked_at: rules that would need more than the log of another library says.
        name: the run, the log or the environment that was looked at.
    """

    findings: tuple[Finding, ...]
    examination: Examination
    looked_at: tuple[str, ...] = ()
    not_looked_at: tuple[NotLookedAt, ...] = ()
    name: str = "the run"

    def __str__(self) -> str:
        from rich.console import Console

        text = StringIO()
        tell(self, Console(file=text, highlight=False, color_system=None))
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def __repr__(self) -> str:
        found = ", ".join(finding.name for finding in self.findings) or "no findings"
        return f"<Diagnosis of {self.name}: {found}>"

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

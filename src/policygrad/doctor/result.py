"""The verdict on a run: what is wrong, and what was looked at."""

from dataclasses import dataclass
from io import StringIO
from typing import Any

from policygrad.core.plain import to_json
from policygrad.diagnostics.clean_bill import doubts, healthy
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding, NotLookedAt
from policygrad.diagnostics.standing import Standing, standing_of
from policygrad.doctor.telling import tell


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """The verdict on a run. `print` shows what `policygrad diagnose` does.

    Nothing found is not yet healthy: a healthy run stands clearly above random actions and not
    clearly below its best, and was looked at for long enough.

    Attributes:
        findings: what is wrong, most likely cause first.
        examination: everything that was examined.
        looked_at: names of the rules that were applied.
        not_looked_at: rules that would need more than is known, and what.
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
        """Whether the run is healthy; None if nothing was found, but it cannot be told."""
        return healthy(self.findings, self.examination)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why a run in which nothing was found is not called healthy."""
        return doubts(self.examination)

    @property
    def standing(self) -> Standing | None:
        """What the return is beside; None without fresh episodes."""
        return standing_of(self.examination)

    def to_json(self) -> dict[str, Any]:
        """Plain data; None for numbers that are infinite or not defined."""
        return {
            "healthy": self.healthy,
            "doubts": list(self.doubts),
            "standing": to_json(self.standing),
            "findings": [finding.to_json() for finding in self.findings],
            "looked_at": list(self.looked_at),
            "not_looked_at": [each.to_json() for each in self.not_looked_at],
            "examination": self.examination.to_json(),
        }

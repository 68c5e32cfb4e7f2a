"""A finding: what a rule reports if something is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policygrad.core.plain import to_json


@dataclass(frozen=True)
class Finding:
    """One likely cause of trouble, its evidence, and what to change.

    Attributes:
        name: of the rule, in kebab-case.
        cause: what is wrong, one plain sentence.
        evidence: what was seen, one plain sentence with its numbers.
        numbers: the same numbers by name, the thresholds among them.
        change: what to change, with the flag of `policygrad train` and a value.
        weight: in (0, 1]; how likely this is the cause of trouble, given that it was found.
        source: where the threshold comes from.
        proposes: the change as settings of `TrainConfig` by name, one mapping for each alternative,
            in the order of `change`; None as a value takes a setting back. Empty where no setting
            helps.
    """

    name: str
    cause: str
    evidence: str
    numbers: Mapping[str, Any]
    change: str
    weight: float
    source: str
    proposes: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data; None for what is infinite or not defined."""
        return to_json(self)


@dataclass(frozen=True)
class NotLookedAt:
    """A rule that was not applied.

    Attributes:
        name: of the rule.
        needs: what it would need, in plain words and in the names of the log's library.
    """

    name: str
    needs: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return to_json(self)

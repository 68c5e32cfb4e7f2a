"""The doctor's advice as changes of settings: what can be trained, and beside what."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from policygrad.core.settings import flag
from policygrad.diagnostics.findings import Finding
from policygrad.training.config import SOMETIMES, TrainConfig
from policygrad.training.given import Given
from policygrad.training.resolve import records_of, resolve


@dataclass(frozen=True)
class Change:
    """One change that a finding proposes.

    Attributes:
        finding: the name of its rule.
        settings: by name; None takes a setting back.
    """

    finding: str
    settings: Mapping[str, Any]

    @property
    def flags(self) -> str:
        """The change as flags of `policygrad train`."""
        return flags_of(self.settings)


def flags_of(settings: Mapping[str, Any]) -> str:
    """Settings as flags of `policygrad train`.

    >>> flags_of({"step_size": 0.001, "batch_episodes": None, "scale_rewards": True})
    '--step-size 0.001, without --batch-episodes, --scale-rewards'
    """
    return ", ".join(_flag_of(name, value) for name, value in settings.items())


def _flag_of(name: str, value: Any) -> str:
    if value is None:
        return f"without {flag(name)}"
    if isinstance(value, bool):
        return flag(name) if value else flag(f"no_{name}")
    return f"{flag(name)} {value:g}" if isinstance(value, float) else f"{flag(name)} {value}"


def changes_of(findings: Iterable[Finding], settings: Mapping[str, Any]) -> tuple[Change, ...]:
    """What findings propose, most likely cause first; what is set already is left out.

    Args:
        findings: in their order.
        settings: those in use, by name; None, or no entry, for those that are not read.
    """
    found: list[Change] = []
    for finding in findings:
        for proposed in finding.proposes:
            differs = any(settings.get(name) != value for name, value in proposed.items())
            again = any(change.settings == proposed for change in found)
            if differs and not again:
                found.append(Change(finding.name, proposed))
    return tuple(found)


def with_change(
    asked: Mapping[str, Any], change: Mapping[str, Any], given: Given | None = None
) -> TrainConfig:
    """The configuration of a run with some settings changed.

    What was asked for stays, unless the change makes it a setting that nothing reads: n of
    `--estimator n-step` under `--estimator gae`.

    Args:
        asked: the settings that were asked for in the run, by name.
        change: as of `Change`.
        given: values that were passed in place of names.

    Raises:
        UserError: a changed setting that nothing reads, or that the others exclude.
    """
    given = given or Given()
    settings = {name: value for name, value in asked.items() if name not in change}
    if "batch_episodes" in change and change["batch_episodes"] is None:
        settings.pop("max_episode_steps", None)
    if change.get("batch_episodes") is not None:
        settings.pop("batch_steps", None)
    changed = {name: value for name, value in change.items() if value is not None}
    config = TrainConfig(**settings, **changed)
    read = records_of(config, given).read
    unread = {n for n in config.given.keys() & settings.keys() if n in SOMETIMES and n not in read}
    if unread:
        kept = {name: value for name, value in settings.items() if name not in unread}
        config = TrainConfig(**kept, **changed)
    resolve(config, given)  # refuses what nothing reads
    return config

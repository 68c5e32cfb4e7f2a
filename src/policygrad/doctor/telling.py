"""A diagnosis in words: what `policygrad diagnose` prints, and what `print` shows in Python."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from policygrad.diagnostics.clean_bill import NEVER, all_the_same, headline
from policygrad.diagnostics.clean_bill import lines_of as lines_of_standing
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding
from policygrad.diagnostics.groups_shown import lines_of

if TYPE_CHECKING:
    from rich.console import Console

    from policygrad.doctor.result import Diagnosis


def tell(diagnosis: "Diagnosis", console: "Console") -> None:
    """Print the verdict: every finding with its evidence, what to change, and what was not looked
    at.

    Args:
        diagnosis: of a run, or of the log of another library.
        console: where to.
    """
    if diagnosis.examination.language is None:
        _tell_of_a_run(diagnosis, console)
    else:
        _tell_of_a_log(diagnosis, console)


def _tell_of_a_run(diagnosis: "Diagnosis", console: "Console") -> None:
    from rich.text import Text

    examination = diagnosis.examination
    seen = [f"{examination.env_steps:,} steps", f"{examination.updates} updates"]
    if examination.sample is not None:
        seen.append(f"{examination.sample.episodes:,} fresh episodes")
    if examination.at_random is not None:
        seen.append(f"{examination.at_random.episodes} episodes of random actions")
    if examination.by_mode is not None:
        seen.append(f"{examination.by_mode.episodes} by the mode")
    console.print(Text(f"{diagnosis.name}: looked at {', '.join(seen)}"))
    _tell_headline(diagnosis, console)
    _tell_findings(diagnosis.findings, console)
    _tell_standing(diagnosis, console)
    if examination.groups is not None:
        console.print()
        for line in lines_of(examination.groups, examination.batch_episodes):
            console.print(Text(line))
    for note in examination.notes:
        console.print(Text(f"not examined: {note}", style="dim"))
    _tell_not_looked_at(diagnosis, console)


def _tell_of_a_log(diagnosis: "Diagnosis", console: "Console") -> None:
    from rich.text import Text

    e: Examination = diagnosis.examination
    assert e.language is not None
    seen = [f"{e.updates:,} rows"] + ([f"{e.env_steps:,} steps"] if e.env_steps else [])
    console.print(Text(f"{diagnosis.name}: a log of {e.language.name}, {', '.join(seen)}"))
    told = {k: v for k, v in e.settings.items() if v is not None}
    if told:
        words = ", ".join(
            f"{e.language.word(k)} {f'{v:g}' if isinstance(v, float) else v}"
            for k, v in told.items()
            if k != "env"
        )
        console.print(Text(f"settings that are known: {words}", style="dim"))
    for note in e.notes:
        console.print(Text(note, style="dim"))
    _tell_findings(diagnosis.findings, console)
    _tell_headline(diagnosis, console)
    _tell_standing(diagnosis, console)
    console.print(Text(f"looked at: {', '.join(diagnosis.looked_at)}", style="dim"))
    _tell_not_looked_at(diagnosis, console)


def _tell_headline(diagnosis: "Diagnosis", console: "Console") -> None:
    """The verdict where nothing was found, and what speaks against a clean bill."""
    from rich.padding import Padding
    from rich.text import Text

    said = headline(diagnosis.findings, diagnosis.examination)
    if said is None:
        return
    console.print(Text(said, style="green" if diagnosis.healthy else "yellow"))
    for doubt in diagnosis.doubts:
        console.print(Padding(Text(f"- {doubt}"), (0, 0, 0, 3)))
    console.print(Text(NEVER, style="dim"))


def _tell_standing(diagnosis: "Diagnosis", console: "Console") -> None:
    """What the return is beside."""
    from rich.padding import Padding
    from rich.text import Text

    lines = lines_of_standing(diagnosis.examination)
    if lines and diagnosis.findings:
        console.print()
    said = all_the_same(diagnosis.findings, diagnosis.examination)
    if said is not None:
        console.print(Text(said))
    for line in lines:
        said = line.lstrip()
        console.print(Padding(Text(said), (0, 0, 0, len(line) - len(said))))


def _tell_not_looked_at(diagnosis: "Diagnosis", console: "Console") -> None:
    """The rules that were not applied, by what they need."""
    from rich.text import Text

    by_need: dict[str, list[str]] = {}
    for each in diagnosis.not_looked_at:
        by_need.setdefault(each.needs, []).append(each.name)
    for needs, names in by_need.items():
        console.print(Text(f"not looked at: {', '.join(names)} (needs {needs})", style="dim"))


def _tell_findings(findings: Sequence[Finding], console: "Console") -> None:
    """Every finding with its evidence, what to change and where its threshold comes from."""
    from rich.padding import Padding
    from rich.text import Text

    for number, finding in enumerate(findings, 1):
        console.print()
        console.print(Text.assemble(f"{number}. ", (finding.cause, "bold")))
        console.print(Padding(Text(finding.evidence), (0, 0, 0, 3)))
        console.print(Padding(Text(f"→ {finding.change}", style="cyan"), (0, 0, 0, 3)))
        console.print(
            Padding(Text(f"({finding.name}; {finding.source})", style="dim"), (0, 0, 0, 3))
        )

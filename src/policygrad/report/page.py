"""The page of a report as HTML text. It loads nothing: no script, no font, no network."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from policygrad.core.settings import flag
from policygrad.diagnostics.clean_bill import NEVER, all_the_same, doubts, headline, healthy
from policygrad.diagnostics.clean_bill import lines_of as lines_of_standing
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding
from policygrad.diagnostics.groups_shown import lines_of as lines_of_groups
from policygrad.diagnostics.rules import looked_at, not_looked_at
from policygrad.report.curve import drawn, learning_curve_of
from policygrad.report.pictures import PICTURES
from policygrad.report.style import STYLE
from policygrad.report.tables import (
    all_settings,
    measured_numbers,
    returns_beside,
    settings_given,
    table,
)
from policygrad.report.words import Glossary

e = html.escape


@dataclass(frozen=True)
class Report:
    """What a page tells.

    Attributes:
        name: the heading: the run or the environment that was looked at.
        findings: most likely cause first; None if no rule was applied.
        examination: what the findings follow from.
        made: when the report is made.
        versions: program -> version, of what makes it.
        pictures: name -> PNG.
        tried: lines of text on what was trained to try the advice.
    """

    name: str
    findings: Sequence[Finding] | None
    examination: Examination
    made: datetime
    versions: Mapping[str, str]
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    tried: Sequence[str] = ()


def page(report: Report) -> str:
    """The page. Each part is a section under a heading; what has nothing to tell is left out."""
    x, words = report.examination, Glossary()
    parts = [
        *([] if report.findings is None else [("Verdict", _verdict(report.findings, x, words))]),
        ("Learning curve", _curve(x, words)),
        ("The return, and what it is beside", _standing(x, words)),
        ("Tried", _lines(report.tried, words)),
        ("Settings", _settings(x)),
        ("What was looked at, and what was not", _looked(report, words)),
        ("Groups", "" if x.groups is None
         else _lines(lines_of_groups(x.groups, x.batch_episodes), words)),
        ("The gradient in pictures", _pictures(report, words)),
        ("Numbers", _numbers(x, words)),
    ]  # fmt: skip
    sections = "\n".join(
        f'<section aria-labelledby="part-{i}"><h2 id="part-{i}">{e(title)}</h2>\n{text}</section>'
        for i, (title, text) in enumerate(parts, 1)
        if text
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{e(report.name)}: report of the doctor</title>\n<style>{STYLE}</style></head>\n"
        f"<body>\n<header>{_header(report)}</header>\n<main>{sections}</main>\n"
        f"<footer>{_footer(report)}</footer>\n</body></html>\n"
    )


def _header(report: Report) -> str:
    x = report.examination
    facts = [("Environment", _environment(x)), ("Training", _training(x))]
    if x.language is not None:
        facts.append(("Library", x.language.name))
    if x.origin.versions:
        facts.append(("Trained with", _versions(x.origin.versions)))
    if x.origin.written is not None:
        what = "Metrics" if x.language is None else "Log"
        facts.append((f"{what} last written", _date(x.origin.written)))
    facts.append(("Report written", _date(report.made)))
    rows = "\n".join(f"<dt>{e(name)}</dt> <dd>{value}</dd>" for name, value in facts)
    what = "What was measured of this policy" if report.findings is None else (
        "What the doctor of policygrad says about this run"
    )  # fmt: skip
    return f'<h1>{e(report.name)}</h1>\n<p>{what}</p>\n<dl class="facts">{rows}</dl>'


def _environment(x: Examination) -> str:
    name = "passed in Python" if x.env is None else x.env
    if x.language is not None and x.env is None:
        name = "not in the log"
    kwargs = ", ".join(f"{key}={value!r}" for key, value in x.origin.env_kwargs.items())
    return e(f"{name} with {kwargs}" if kwargs else name)


def _training(x: Examination) -> str:
    unit = "updates" if x.language is None else "rows of the log"
    told = [f"{x.env_steps:,} environment steps"] if x.env_steps else []
    told += [f"{x.updates:,} {unit}"] if x.metrics else []
    stopped = "" if x.failure is None else f". It stopped by itself: {x.failure.message}"
    return e((", ".join(told) or "nothing is known of it") + stopped)


def _date(when: datetime) -> str:
    return f'<time datetime="{when.isoformat()}">{when:%Y-%m-%d %H:%M} {when.tzname()}</time>'


def _versions(versions: Mapping[str, str]) -> str:
    return e(", ".join(f"{program} {version}" for program, version in versions.items()))


def _verdict(findings: Sequence[Finding], x: Examination, words: Glossary) -> str:
    said = headline(findings, x)
    if said is not None:
        against = "".join(f"<li>{e(doubt)}</li>" for doubt in doubts(x))
        listed = f"<ul>{against}</ul>" if against else ""
        kind = "verdict healthy" if healthy(findings, x) else "verdict"
        told = f'<div class="{kind}"><p><b>{e(said)}</b></p>{listed}</div>'
        return words.after(told + f'\n<p class="muted">{e(NEVER)}</p>')
    items = "\n".join(f"<li>{_finding(i, f, words)}</li>" for i, f in enumerate(findings, 1))
    learned = all_the_same(findings, x)
    after = "" if learned is None else f"\n<p>{e(learned)}</p>"
    listed = f'<ol class="findings">{items}</ol>'
    return f"<p>What is wrong, most likely cause first:</p>\n{listed}{after}"


def _finding(number: int, f: Finding, words: Glossary) -> str:
    return words.after(
        f"<h3>{number}. {e(f.cause)}</h3>\n<p>{e(f.evidence)}</p>\n"
        f'<p class="change"><b>What to change:</b> {e(f.change)}</p>\n'
        f'<p class="muted">Why this counts as a fault (rule <code>{e(f.name)}</code>): '
        f"{e(f.source.rstrip('.'))}.</p>"
    )


def _curve(x: Examination, words: Glossary) -> str:
    curve = learning_curve_of(x)
    return words.after(f"<p>{e(curve)}</p>" if isinstance(curve, str) else drawn(curve))


def _standing(x: Examination, words: Glossary) -> str:
    if x.language is not None:
        said = " ".join(lines_of_standing(x))
        return words.after(f"<p>{e(said[:1].upper() + said[1:])}.</p>") if said else ""
    head = ("episodes", "mean return", "95 % interval", "difference from now")
    return words.after(table("Mean returns of whole episodes", head, returns_beside(x)))


def _lines(lines: Sequence[str], words: Glossary) -> str:
    return words.after(f"<pre>{e(chr(10).join(lines))}</pre>") if lines else ""


def _settings(x: Examination) -> str:
    """What was given, and folded away what holds beside it."""
    given, head = settings_given(x), ("setting", "value")
    if x.language is not None:
        if not given:
            return "<p>The log says none of the run's settings.</p>"
        return table("Settings that the log says, or that were told", head, given, numbers=False)
    notes = [f"Passed in Python, and not described by settings: {', '.join(x.passed_as_objects)}."
             ] if x.passed_as_objects else []  # fmt: skip
    if x.origin.schedules:
        changed = ", ".join(map(flag, x.origin.schedules))
        notes.append(f"Changed by a schedule as training went on: {changed}.")
    if x.origin.given is not None and not given:
        notes.append("No setting was given: all have their defaults.")
    named = table("Settings that were given; all others have their defaults", head, given,
                  numbers=False)  # fmt: skip
    every = table("Every setting and its value", head, all_settings(x), numbers=False)
    folded = f"<details><summary>All {len(x.settings)} settings</summary>\n{every}</details>"
    return "".join(f"<p>{e(note)}</p>\n" for note in notes) + named + folded


def _looked(report: Report, words: Glossary) -> str:
    x, seen = report.examination, []
    if x.sample is not None:
        seen.append(f"{x.sample.episodes:,} fresh episodes")
    if x.at_random is not None:
        seen.append(f"{x.at_random.episodes:,} episodes of random actions")
    if x.by_mode is not None:
        seen.append(f"{x.by_mode.episodes:,} episodes by the mode")
    if x.noise is not None:
        seen.append(f"the gradients of {x.noise.episodes:,} episodes")
    if x.logged is not None:
        seen.append(", ".join(x.logged.files))
    parts = [f"<p>Looked at: {e('; '.join(seen))}.</p>"] if seen else []
    parts += [f"<p>Not looked at, or only in part: {e(note)}</p>" for note in x.notes]
    if report.findings is not None:
        parts += _rules(x)
    return words.after("\n".join(parts))


def _rules(x: Examination) -> list[str]:
    """The rules that were applied, and those that were not, by what they would need."""
    names = looked_at(x)
    listed = ", ".join(f"<code>{e(name)}</code>" for name in names)
    parts = [
        f"<details><summary>{len(names)} rules were applied</summary><p>{listed}</p></details>"
    ]
    by_need: dict[str, list[str]] = {}
    for each in not_looked_at(x):
        by_need.setdefault(each.needs, []).append(f"<code>{e(each.name)}</code>")
    if by_need:
        items = "".join(
            f"<li>{', '.join(n)}: needs {e(needs)}</li>" for needs, n in by_need.items()
        )
        count = sum(map(len, by_need.values()))
        parts.append(f"<p>{count} {'rule was' if count == 1 else 'rules were'} not applied:</p>"
                     f"<ul>{items}</ul>")  # fmt: skip
    return parts


def _pictures(report: Report, words: Glossary) -> str:
    shown = [picture for picture in PICTURES if picture.name in report.pictures]
    figures = []
    for picture in shown:
        source = base64.b64encode(report.pictures[picture.name]).decode()
        figures.append(
            f"<figure{' class=wide' if picture.wide else ''}><img "
            f'alt="{e(picture.tell(report.examination))}" src="data:image/png;base64,{source}">'
            + words.after(f"<figcaption>{e(picture.caption)}")
            + "</figcaption></figure>"
        )
    return f'<div class="pictures">{"".join(figures)}</div>' if figures else ""


def _numbers(x: Examination, words: Glossary) -> str:
    head = ("quantity", "estimate", "95 % interval")
    measured = words.after(table("What was measured", head, measured_numbers(x)))
    every = '<p class="muted">Every number, with more digits, is in report.json.</p>'
    return f"{measured}\n{every}" if measured else ""


def _footer(report: Report) -> str:
    return f"<p>Written by {_versions(report.versions)}.</p>"

"""A trial in words: what was measured of every change, what it cost, and what to do."""

import math
from collections.abc import Sequence

from policygrad.diagnostics.intervals import Measured
from policygrad.doctor.changes import Change, flags_of
from policygrad.doctor.trial_runs import Cost
from policygrad.doctor.trying import Trial, Tried
from policygrad.doctor.verdict import ADOPT, KEEP, UNCLEAR, Verdict, looks_of


def announced(
    changes: Sequence[Change], seeds: int, budget: int, most: Cost, known: int = 0
) -> str:
    """What a trial is going to do, what it may cost, and how many steps are known from before."""
    bound = "at most" if most.exact else "about, and at most,"
    first = looks_of(seeds)[0]
    seen = f"{first} to {seeds}" if first < seeds else str(seeds)
    return (
        f"trying {_count(len(changes), 'change')} beside the settings in use: {seen} seeds of "
        f"{budget:,} steps each side, {bound} {most.steps:,} steps in all"
        + f"; {known:,} steps were made before, and are not made again"
        * (known > 0)
    )


def lines_of(trial: Trial) -> list[str]:
    """The trial in lines of plain text."""
    if not trial.tried and not trial.interrupted:
        return ["Nothing was tried: no finding proposes another setting."]
    found = [line for tried in trial.tried for line in _of_one(tried)]
    if trial.interrupted:
        found.append("Interrupted: what had ended is kept; the same command goes on from there.")
    cost = f"The trial cost {trial.steps:,} environment steps."
    if trial.adopted:
        return [*found, f"→ Train with {flags_of(trial.adopted)}. {cost}"]
    return [*found, f"→ Nothing is adopted. {cost}"]


def _of_one(tried: Tried) -> list[str]:
    of = f"{tried.change.flags} ({tried.change.finding})"
    if tried.verdict is None:
        return [f"not tried: {of}: {tried.reason}."]
    beside = f", beside {flags_of(tried.against)}" if tried.against else ""
    return [
        f"{tried.verdict.word}: {of}{beside}",
        f"   {measured(tried.verdict)} It cost {tried.steps:,} steps.",
        *([f"   {why}"] if (why := _why(tried.verdict)) else []),
    ]


def measured(verdict: Verdict) -> str:
    """What was measured of a change, in a few sentences."""
    note = "" if verdict.note is None else f"{verdict.note[0].upper()}{verdict.note[1:]}."
    if math.isnan(verdict.without):
        return note
    looked = "" if verdict.looks == 1 else f", 95 % over {verdict.looks} looks"
    numbers = (
        f"Mean return at the end {verdict.with_change:.4g} in place of {verdict.without:.4g}: "
        f"{_of(verdict.end)}; over the whole run {_of(verdict.area)} "
        f"({verdict.confidence:.4g} intervals{looked}; {verdict.seeds} pairs of the same seeds)."
    ).replace(f"{verdict.confidence:.4g}", f"{100 * verdict.confidence:.4g} %")
    return f"{numbers} {note}".rstrip()


def _why(verdict: Verdict) -> str | None:
    if verdict.word == ADOPT and not verdict.end.low > 0:
        return "It learns faster, and ends no lower."
    if verdict.word == UNCLEAR and verdict.higher:
        return "Its return is higher, but more runs stop with it."
    if verdict.word == UNCLEAR and verdict.end.high <= verdict.worth:
        return "It gains little or nothing, but fewer runs stop with it."
    if verdict.word == KEEP and verdict.end.high >= 0:
        if min(verdict.stopped_without, verdict.stopped_with_change) == verdict.seeds:
            return "All runs stop, with it and without it."
        if not verdict.worth > 0:
            return "Neither side gains anything from training."
        return f"It gains less than {verdict.worth:.3g}, a tenth of what training gains."
    return None


def _of(x: Measured) -> str:
    return f"{x.value:+.4g} [{x.low:+.4g}, {x.high:+.4g}]"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"

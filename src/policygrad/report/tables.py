"""Tables of a report: settings, returns, and what was measured of the gradient."""

import html
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from policygrad.core.settings import flag
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.intervals import Measured
from policygrad.diagnostics.sample import Sample
from policygrad.diagnostics.standing import Beside, standing_of


def table(
    name: str, head: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True
) -> str:
    """A table with a caption, which scrolls by itself where it is too wide; "" without rows.

    Args:
        name: the caption.
        head: names of the columns.
        rows: texts; the first of each names the row.
        numbers: whether the columns after the first hold numbers, which stand to the right.
    """
    if not rows:
        return ""
    e, kind = html.escape, ' class="number"' if numbers else ""
    top = f'<th scope="col">{e(head[0])}</th>' + "".join(
        f'<th scope="col"{kind}>{e(column)}</th>' for column in head[1:]
    )
    body = "\n".join(
        f'<tr><th scope="row">{e(first)}</th>'
        + "".join(f"<td{kind}>{e(cell)}</td>" for cell in cells)
        + "</tr>"
        for first, *cells in rows
    )
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="{e(name)}"><table>'
        f"<caption>{e(name)}</caption><thead><tr>{top}</tr></thead>\n"
        f"<tbody>{body}</tbody></table></div>"
    )


def settings_given(x: Examination) -> list[tuple[str, str]]:
    """Names and values of the settings that were given; of a log, of those that are known."""
    if x.language is not None:
        known = {k: v for k, v in x.settings.items() if v is not None and k != "env"}
        return [(x.language.word(name), _value(value)) for name, value in known.items()]
    given = x.origin.given or ()
    return [(flag(name), _value(x.settings[name])) for name in given if name in x.settings]


def all_settings(x: Examination) -> list[tuple[str, str]]:
    """Names and values of all settings of a run of this library."""
    return [(flag(name), _value(value)) for name, value in sorted(x.settings.items())]


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def returns_beside(x: Examination) -> list[tuple[str, str, str, str]]:
    """Where the mean return stands: rows of what, mean, interval, difference from now."""
    at = standing_of(x)
    if at is None or x.sample is None:
        return []
    rows = [(f"now: {_episodes('fresh', x.sample)}", *_estimate(at.now), "")]
    if x.by_mode is not None and at.by_mode is not None and at.above_samples is not None:
        rows.append((f"by the mode: {_episodes('', x.by_mode)}", *_estimate(at.by_mode),
                     _difference(at.above_samples)))  # fmt: skip
    if x.at_random is not None and at.at_random is not None and at.above_random is not None:
        more = at.above_random
        rows.append((f"of random actions: {_episodes('', x.at_random)}", *_estimate(at.at_random),
                     _difference(Measured(-more.value, -more.high, -more.low))))  # fmt: skip
    if at.lost is not None:
        rows.append((f"best in training: at update {at.best_update} of {x.updates}",
                     _text(at.best), "", _difference(at.lost)))  # fmt: skip
    return rows


def _episodes(kind: str, played: Sample | Beside) -> str:
    cut = f", {played.unfinished} stopped without an end" if played.unfinished else ""
    return f"{played.episodes:,} {kind} episodes{cut}".replace("  ", " ")


def _estimate(x: Measured) -> tuple[str, str]:
    return _text(x.value), _interval(x)


def _difference(x: Measured) -> str:
    """A difference with its interval, and whether it may be chance."""
    signed = "+" if x.value > 0 else ""
    chance = ", not significant" if x.low <= 0 <= x.high else ""
    return f"{signed}{_text(x.value)} {_interval(x)}{chance}"


def measured_numbers(x: Examination) -> list[tuple[str, str, str]]:
    """What was measured on fresh episodes: rows of quantity, estimate, interval."""
    rows: list[tuple[str, Measured | float]] = []
    if x.sample is not None:
        rows += [
            ("mean return of an episode", x.sample.returns.mean),
            ("mean length of an episode, steps", x.sample.lengths.mean),
            ("explained variance of the baseline", x.sample.critic_explains),
        ]
    if x.noise is not None:
        n = x.noise.total
        rows += [
            ("signal-to-noise ratio of one episode", n.signal_to_noise),
            ("noise scale of the gradient, episodes", n.noise_scale),
            *((f"episodes for a cosine of {c:g} with the true gradient", m)
              for c, m in n.episodes_for.items()),
            ("variance of one episode's gradient", n.variance),
            ("episodes in a batch", x.batch_episodes),
        ]  # fmt: skip
    if x.groups is not None:
        rows += [
            ("noise of the gradient between groups", x.groups.between),
            ("noise within groups, of one episode", x.groups.within),
            ("share of the noise between groups", x.groups.share_between),
        ]
    if x.decomposition is not None:
        d = x.decomposition.total
        rows += [
            ("approximation (i), single steps alone: predicted variance / measured variance",
             d.diagonal_ratio),
            ("approximation (ii), scores and returns apart: predicted variance / measured variance",
             d.factored_ratio),
            ("what steps have in common / measured variance", d.cross_ratio),
        ]  # fmt: skip
    return [(label, *_row(value)) for label, value in rows]


def _row(value: Measured | float) -> tuple[str, str]:
    if isinstance(value, Measured):
        return _estimate(value)
    return _text(float(value)), ""


def _interval(x: Measured) -> str:
    return f"[{_text(x.low)}, {_text(x.high)}]"


def _text(x: float) -> str:
    if np.isnan(x):
        return "not known"
    if np.isinf(x):
        return "∞" if x > 0 else "−∞"
    shown = f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.4g}"
    return shown.replace("-", "−")

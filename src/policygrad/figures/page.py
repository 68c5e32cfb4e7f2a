"""A diagnosis as files: one page, its figures, and a JSON file with every number."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from policygrad.core.errors import UserError
from policygrad.core.plain import to_json
from policygrad.diagnostics.clean_bill import NEVER, doubts, headline, healthy
from policygrad.diagnostics.clean_bill import lines_of as lines_of_standing
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding
from policygrad.diagnostics.groups_shown import batch_in_use, lines_of
from policygrad.diagnostics.intervals import Measured
from policygrad.diagnostics.standing import standing_of
from policygrad.figures.group_noise import variance_by_group_size
from policygrad.figures.measurements import (
    baseline_against_return,
    bias_variance_plane,
    cosine_against_episodes,
    noise_scale_over_training,
    variance_by_component,
    variance_by_step,
)
from policygrad.figures.style import BLUE, GREEN, GREY, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = (
    f"""
:root {{ --blue: {BLUE}; --orange: {ORANGE}; --green: {GREEN}; --grey: {GREY}; }}
"""
    + """
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2730; background: #fff; margin: 0 auto;
  max-width: 62rem; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
.seen { color: var(--grey); margin: 0 0 1.5rem; }
.doubt { border-left: 5px solid var(--grey); background: #f4f5f6; padding: .8rem 1rem; }
.healthy { border-left: 5px solid var(--green); background: #eef7f1; padding: .8rem 1rem; }
ol { list-style: none; padding: 0; } li { border-left: 5px solid var(--orange); background: #fdf4ee;
  padding: .8rem 1rem; margin: 0 0 .8rem; }
li b { display: block; } .change { color: var(--blue); margin: .3rem 0; }
.source, figcaption { color: var(--grey); font-size: .87rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(25rem, 1fr)); gap: 2rem;
  align-items: start; }
figure { margin: 0; } figure.wide { grid-column: 1 / -1; max-width: 50rem; }
pre { white-space: pre-wrap; font-size: .87rem; }
img { width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem 1.2rem .25rem 0; border-bottom: 1px solid #dde3e8; }
td.number { text-align: right; } .table { overflow-x: auto; }
@media (max-width: 30rem) { .pictures { grid-template-columns: 1fr; } }
"""
)
CAPTIONS = {
    "cosine_against_episodes": "The cosine of the gradients of two independent batches: measured "
    "between disjoint batches with 95\u00a0% intervals, and predicted twice: from the lengths of "
    "the episodes' gradients, and from norm and variance alone.",
    "bias_variance_plane": "Estimators on the same episodes. Further left and further down is "
    "better. The bias is measured against rewards to go less the run's baseline, discounted as in "
    "training.",
    "variance_by_step": "The size of the term of each time step, with 95\u00a0% intervals.",
    "variance_by_component": "The parts of the variance, and the variance of every group of "
    "parameters. Lines are 95\u00a0% intervals.",
    "baseline_against_return": "If the baseline is right on average, the means lie on the line. "
    "Rewards are scaled as in training.",
    "variance_by_group_size": "The variance of the gradient of a batch that costs as much as the "
    "one in use, from the noise between groups and within them. The band takes both at the ends "
    "of their 95\u00a0% intervals.",
    "noise_scale_over_training": "A batch far below the noise scale is mostly noise; far above it, "
    "most steps add little. Triangles: no signal could be told from the noise of the "
    "batch.",
}


def figures_of(examination: Examination) -> dict[str, "Figure"]:
    """name -> figure, for everything that was measured."""
    found: dict[str, Figure] = {}
    x = examination
    if x.noise is not None:
        found["cosine_against_episodes"] = cosine_against_episodes(x.noise, x.batch_episodes)
    if x.groups is not None and batch_in_use(x.groups, x.batch_episodes) is not None:
        found["variance_by_group_size"] = variance_by_group_size(x.groups, x.batch_episodes)
    if x.decomposition is not None:
        found["variance_by_step"] = variance_by_step(x.decomposition)
        found["variance_by_component"] = variance_by_component(x.decomposition)
    if x.predicted_returns is not None:
        found["baseline_against_return"] = baseline_against_return(*x.predicted_returns)
    signal, steps = x.metric("signal_to_noise"), x.metric("env_steps")
    if np.isfinite(signal).any():
        # a monitored update without signal has a noise scale that is too large to be measured
        scale = np.where(signal == 0, np.inf, x.metric("noise_scale"))
        found["noise_scale_over_training"] = noise_scale_over_training(
            steps, scale, np.diff(steps, prepend=0.0)
        )
    if x.comparison is not None:
        found["bias_variance_plane"] = bias_variance_plane(x.comparison)
    return found


def write_report(
    folder: Path,
    name: str,
    findings: Sequence[Finding] | None,
    examination: Examination,
    *,
    tried: Sequence[str] = (),
    further: Mapping[str, Any] = MappingProxyType({}),
) -> list[Path]:
    """Write `report.html`, its figures as PNG files, and `report.json` with every number.

    The page contains its pictures. It loads nothing: no script, no font, no network.

    Args:
        folder: made if it does not exist.
        name: the heading: the run or the environment that was looked at.
        findings: most likely cause first; None if no rule was applied.
        examination: what the findings follow from.
        tried: lines of text on what was trained to try the advice.
        further: its numbers by name, beside those of the diagnosis.

    Returns:
        The files that were written, the page first.

    Raises:
        UserError: the folder cannot be written.
    """
    pictures = {k: _png(figure) for k, figure in figures_of(examination).items()}
    numbers: dict[str, Any] = {"examination": examination.to_json(), **further}
    if findings is not None:
        numbers = {
            "healthy": healthy(findings, examination),
            "doubts": list(doubts(examination)),
            "standing": to_json(standing_of(examination)),
            "findings": [f.to_json() for f in findings],
            **numbers,
        }
    files: dict[str, bytes] = {
        "report.html": page(name, findings, examination, pictures, tried).encode(),
        "report.json": (json.dumps(to_json(numbers), indent=1) + "\n").encode(),
        **{f"{k}.png": v for k, v in pictures.items()},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in CAPTIONS:  # remove those of an older report
            (folder / f"{picture}.png").unlink(missing_ok=True)
        for file, data in files.items():
            (folder / file).write_bytes(data)
    except OSError as error:
        raise UserError(f"cannot write --report {folder}: {error.strerror}") from error
    return [folder / file for file in files]


def page(
    name: str,
    findings: Sequence[Finding] | None,
    examination: Examination,
    pictures: Mapping[str, bytes],
    tried: Sequence[str] = (),
) -> str:
    """The page as HTML text.

    Args:
        name, findings, examination, tried: as in `write_report`.
        pictures: name -> PNG.
    """
    e = html.escape
    seen = f"{examination.env_steps:,} environment steps"
    if examination.metrics:
        seen += f", {examination.updates:,} updates"
    if examination.sample is not None:
        seen += f", {examination.sample.episodes} fresh episodes"
    if examination.at_random is not None:
        seen += f", {examination.at_random.episodes} episodes of random actions"
    if examination.by_mode is not None:
        seen += f", {examination.by_mode.episodes} by the mode"
    body = [f"<h1>{e(name)}</h1>", f'<p class="seen">{e(seen)}</p>']
    if findings is not None:
        body += [_verdict(findings, examination), *_standing(examination)]
    body += [f'<p class="source">Not looked at: {e(note)}</p>' for note in examination.notes]
    if tried:
        body += ["<h2>Tried</h2>", f"<pre>{e(chr(10).join(tried))}</pre>"]
    if examination.groups is not None:
        told = lines_of(examination.groups, examination.batch_episodes)
        body += ["<h2>Groups</h2>", f"<pre>{e(chr(10).join(told))}</pre>"]
    if pictures:
        body += ["<h2>Pictures</h2>", '<div class="pictures">']
        for key, data in pictures.items():
            wide = ' class="wide"' if key == "bias_variance_plane" else ""
            source = base64.b64encode(data).decode()
            body.append(
                f'<figure{wide}><img alt="{e(key.replace("_", " "))}" '
                f'src="data:image/png;base64,{source}">'
                f"<figcaption>{e(CAPTIONS[key])}</figcaption></figure>"
            )
        body.append("</div>")
    rows = _numbers(examination)
    if rows:
        body += ["<h2>Numbers</h2>", '<div class="table"><table>']
        body.append("<tr><th>quantity</th><th>estimate</th><th>95 % interval</th></tr>")
        body += [
            f'<tr><td>{e(label)}</td><td class="number">{e(value)}</td>'
            f'<td class="number">{e(interval)}</td></tr>'
            for label, value, interval in rows
        ]
        body += ["</table></div>", '<p class="source">All numbers are in report.json.</p>']
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{e(name)}</title>\n'
        f"<style>{STYLE}</style></head>\n"
        f"<body>\n{chr(10).join(body)}\n</body></html>\n"
    )


def _standing(x: Examination) -> list[str]:
    """What the return is beside, as on the terminal."""
    lines = lines_of_standing(x)
    return [f"<pre>{html.escape(chr(10).join(lines))}</pre>"] if lines else []


def _verdict(findings: Sequence[Finding], x: Examination) -> str:
    e = html.escape
    said = headline(findings, x)
    if said is not None:
        kind = "healthy" if healthy(findings, x) else "doubt"
        against = "".join(f"<br>{e(doubt)}" for doubt in doubts(x))
        return f'<p class="{kind}"><b>{e(said)}</b>{against}</p>\n<p class="source">{e(NEVER)}</p>'
    items = [
        f"<li><b>{i}. {e(f.cause)}</b>{e(f.evidence)}"
        f'<div class="change">→ {e(f.change)}</div>'
        f'<div class="source">{e(f.name)}; {e(f.source)}</div></li>'
        for i, f in enumerate(findings, 1)
    ]
    return f"<h2>What is wrong, most likely cause first</h2>\n<ol>{chr(10).join(items)}</ol>"


def _numbers(x: Examination) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, Any]] = []
    if x.sample is not None:
        rows += [("mean return of an episode", x.sample.returns.mean)]
        rows += [("mean length of an episode, steps", x.sample.lengths.mean)]
        rows += [("explained variance of the baseline", x.sample.critic_explains)]
    if x.noise is not None:
        n = x.noise.total
        rows += [
            ("signal-to-noise ratio of one episode", n.signal_to_noise),
            ("gradient noise scale, episodes", n.noise_scale),
            *((f"episodes for a cosine of {c:g}", m) for c, m in n.episodes_for.items()),
            ("variance of one episode's gradient", n.variance),
        ]
        rows += [("episodes in a batch", x.batch_episodes)]
    if x.groups is not None:
        rows += [
            ("noise of the gradient between groups", x.groups.between),
            ("noise within groups, of one episode", x.groups.within),
            ("share of the noise between groups", x.groups.share_between),
        ]
    if x.decomposition is not None:
        d = x.decomposition.total
        rows += [
            ("D/Var, approximation (i)", d.diagonal_ratio),
            ("F/Var, approximation (ii)", d.factored_ratio),
            ("C/Var, between steps", d.cross_ratio),
        ]
    return [_row(label, value) for label, value in rows]


def _row(label: str, value: Measured | float) -> tuple[str, str, str]:
    if isinstance(value, Measured):
        return label, _text(value.value), f"[{_text(value.low)}, {_text(value.high)}]"
    return label, _text(float(value)), ""


def _text(x: float) -> str:
    if np.isnan(x):
        return "not known"
    if np.isinf(x):
        return "∞" if x > 0 else "−∞"
    shown = f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"
    return shown.replace("-", "−")


def _png(figure: "Figure") -> bytes:
    out = BytesIO()
    figure.savefig(out, format="png", dpi=160)
    return out.getvalue()

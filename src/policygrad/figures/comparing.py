"""Groups of runs in one picture: a line and a band for each, a panel for each environment."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from policygrad.figures.groups import AXES, Group
from policygrad.figures.style import COLOURS, shortened, steps_label, tidy, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {
    "return_mean": "mean return, last 100 episodes",
    "length_mean": "mean episode length (steps)",
    "kl": "KL per update (nats)",
    "entropy": "entropy (nats)",
    "explained_variance_before": "explained variance before the fit",
    "explained_variance_after": "explained variance after the fit",
    "gradient_norm": "gradient norm",
    "step_size": "step size",
    "noise_scale": "noise scale (steps)",
    "steps_per_second": "steps per second",
    "evaluation/return_mean": "mean return in evaluation",
}
UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
LEGEND_ROW = 0.19  # inches
STYLES = ("-", "--", ":", "-.")  # once the colours are used up


def comparison(groups: Sequence[Group], *, x: str = "steps", y: Sequence[str] = ()) -> Figure:
    """Metrics of groups of runs: the interquartile mean, its 95 % band, and single runs.

    Args:
        groups: of `groups.grouped`.
        x: "steps", or "wall-time".
        y: names of metrics, a row of panels each; none for the mean return.

    Returns:
        The figure. The legend stands below the panels.
    """
    from matplotlib.figure import Figure

    metrics = list(y) or ["return_mean"]
    envs = list(dict.fromkeys(group.env for group in groups))
    labels = list(dict.fromkeys(group.label for group in groups))  # one colour each
    size = max(4.8 * len(envs), 6.4), 3.4 * len(metrics) + 0.6
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    panels: Any = figure.subplots(len(metrics), len(envs), squeeze=False, sharex="col")
    unit, unit_name = _unit(groups, x)
    for row, metric in zip(panels, metrics, strict=True):
        for axes, env in zip(row, envs, strict=True):
            for group in groups:
                if group.env == env:
                    _draw(axes, group, AXES[x], metric, labels.index(group.label), unit)
            tidy(axes)
            axes.margins(x=0.01)
            bottom = metric is metrics[-1]
            name = "environment steps" if x == "steps" else f"wall time ({unit_name})"
            title = "\n".join(textwrap.wrap(shortened(env), 40)) if metric is metrics[0] else ""
            titled(axes, title, name if bottom else "", NAMES.get(metric, metric))
            if x == "steps":
                axes.xaxis.set_major_formatter(lambda value, _: steps_label(value))
    _legend(figure, panels.ravel(), groups, metrics, size[0])
    return figure


def _draw(axes: Axes, group: Group, x: str, y: str, number: int, unit: float) -> None:
    band = group.band(x, y)
    lines = group.lines(x, y)
    colour = COLOURS[number % len(COLOURS)]
    style = STYLES[number // len(COLOURS) % len(STYLES)]
    if len(lines) > 1:
        for where, values in lines:
            axes.plot(where / unit, values, color=colour, linewidth=0.6, alpha=0.3)
    if band is None:
        return
    where = band.x / unit
    marker = "o" if len(where) == 1 else None
    axes.plot(
        where, band.middle, style, color=colour, linewidth=1.8, marker=marker, label=group.label
    )
    if len(lines) > 1:
        axes.fill_between(where, band.low, band.high, color=colour, alpha=0.18, linewidth=0)


def _legend(
    figure: Figure, panels: Any, groups: Sequence[Group], metrics: Sequence[str], width: float
) -> None:
    """One legend of all panels, below them, in as many columns as there is room for."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return
    told = [label + _seeds([g for g in groups if g.label == label], metrics) for label in entries]
    wrapped = ["\n".join(textwrap.wrap(shortened(label), int(width * 12))) for label in told]
    longest = max(len(line) for label in wrapped for line in label.splitlines())
    columns = max(1, min(len(wrapped), int(width * 12 / (longest + 6))))
    rows = -(-len(wrapped) // columns) * max(label.count("\n") + 1 for label in wrapped)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * rows)
    several = any(len(group.having(metric)) > 1 for group in groups for metric in metrics)
    title = "line: interquartile mean over seeds, band: its 95 % bootstrap interval"
    figure.legend(
        entries.values(), wrapped, loc="outside lower center", ncols=columns, fontsize=8,
        frameon=False, title=title if several else None, title_fontsize=7,
    )  # fmt: skip


def _seeds(groups: Sequence[Group], metrics: Sequence[str]) -> str:
    """How many seeds the lines of one label stand for: those that have what is drawn, and of how
    many, for each metric where they differ."""
    there = [len(group.curves) for group in groups]
    if max(there) == 1:
        return ""
    told: dict[str, str] = {}
    for metric in metrics:
        drawn = [len(group.having(metric)) for group in groups]
        of = "" if drawn == there else f"{_span(drawn)} of "
        told[metric] = f"{of}{_span(there)} seeds"
    if len(set(told.values())) == 1:
        return f" ({told[metrics[0]]})"
    return f" ({', '.join(f'{metric}: {seeds}' for metric, seeds in told.items())})"


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _unit(groups: Sequence[Group], x: str) -> tuple[float, str]:
    """The unit of time in which the longest run is a number of at least two."""
    if x == "steps":
        return 1.0, "steps"
    ends = [row.get("seconds") or 0.0 for g in groups for c in g.curves for row in c.rows[-1:]]
    longest = max(ends, default=0.0)
    return next((u for u in UNITS if longest >= 2 * u[0]), UNITS[-1])


def numbers(groups: Sequence[Group], *, x: str, y: Sequence[str]) -> list[dict[str, Any]]:
    """What `comparison` draws, as plain data: one entry for each metric and group.

    `runs` and `seeds` are of the runs that are drawn; `without` are those that have no such metric.
    """
    found: list[dict[str, Any]] = []
    for metric in y:
        for group in groups:
            band = group.band(AXES[x], metric)
            data = (
                {} if band is None else {k: np.asarray(v).tolist() for k, v in vars(band).items()}
            )
            found.append(
                {
                    "metric": metric,
                    "env": group.env,
                    "label": group.label,
                    "runs": [str(curve.path) for curve in group.having(metric)],
                    "seeds": [curve.seed for curve in group.having(metric)],
                    "without": [str(c.path) for c in group.curves if not c.has(metric)],
                    **data,
                }
            )
    return found

"""The learning curve of a run as a drawing inside the page, in the page's own colours."""

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from policygrad.diagnostics.examination import Examination
from policygrad.figures.style import load_matplotlib, steps_label

WIDTH, HEIGHT = 420, 236
LEFT, RIGHT, TOP, BOTTOM = 46, 408, 26, 198  # of the part that holds the curve
MOST = 400  # points that are drawn; a screen shows no more


@dataclass(frozen=True)
class LearningCurve:
    """The mean return over training, where it is known.

    Attributes:
        steps: `[N]`, environment steps so far; numbers of updates where steps are not known.
        returns: `[N]`, mean returns, all finite.
        stretch: `[N]`, points of the same number follow each other without a gap.
        updates: how many updates there were, with a return or without.
        axis: what `steps` counts.
        at_random: the mean return of random actions; NaN if it is not known.
    """

    steps: Float[np.ndarray, " N"]
    returns: Float[np.ndarray, " N"]
    stretch: Int[np.ndarray, " N"]
    updates: int
    axis: str
    at_random: float = float("nan")

    @property
    def told(self) -> str:
        """The curve in one sentence, for who does not see it."""
        s, r = self.steps, self.returns
        best = int(np.argmax(r))
        middle = (
            "" if r[best] in (r[0], r[-1]) else f"{r[best]:.4g} at its best at {s[best]:,.0f}, "
        )
        return (
            f"Mean return against {self.axis}: {r[0]:.4g} at {s[0]:,.0f}, {middle}and {r[-1]:.4g} "
            f"at {s[-1]:,.0f}."
        )


def learning_curve_of(e: Examination) -> LearningCurve | str:
    """The learning curve, or in one sentence why there is none."""
    returns = e.metric("return_mean")
    known = np.isfinite(returns)
    if not known.any():
        return f"There is no learning curve: {_why_none(e)}"
    steps, axis = e.metric("env_steps"), "environment steps"
    if len(steps) != len(returns) or not np.isfinite(steps[known]).all():
        steps = np.arange(1.0, len(returns) + 1)
        axis = "updates" if e.language is None else "rows of the log"
    at_random = np.nan if e.at_random is None else e.at_random.returns.mean
    stretch = np.cumsum(~known)
    return LearningCurve(
        steps[known], returns[known], stretch[known], len(returns), axis, at_random
    )


def _why_none(e: Examination) -> str:
    if e.language is not None:
        return "the log holds no return that is a number."
    if e.failure is not None:
        return "training stopped before an episode ended whose return is a number."
    if not e.metrics:
        return "no update of training is known."
    if not np.nansum(e.metric("episodes")):
        return "no episode ended in training."
    return "no mean return of training is a number."


def drawn(curve: LearningCurve) -> str:
    """The curve as SVG with a caption, a `figure` of HTML."""
    shown = np.unique(np.linspace(0, len(curve.steps) - 1, MOST).round().astype(int))
    steps, returns, stretch = (a[shown] for a in (curve.steps, curve.returns, curve.stretch))
    levels = [curve.at_random] if np.isfinite(curve.at_random) else []
    ticks = _ticks(min([*returns, *levels]), max([*returns, *levels]))
    x = _scale(0.0, steps[-1], LEFT, RIGHT)
    y = _scale(ticks[0], ticks[-1], BOTTOM, TOP)
    parts = [_across("grid", y(tick)) + _text(LEFT - 6, y(tick) + 4, _number(tick), "end")
             for tick in ticks]  # fmt: skip
    parts += [
        _text(x(tick), BOTTOM + 16, steps_label(tick), "middle")
        for tick in _ticks(0.0, steps[-1])
        if tick <= steps[-1]
    ]
    parts.append(_text(LEFT, 14, "mean return", "start", "name"))
    parts.append(_text((LEFT + RIGHT) / 2, HEIGHT - 6, curve.axis, "middle", "name"))
    parts += [_across("random", y(level)) for level in levels]
    parts += [_line(x(steps[at]), y(returns[at])) for at in _runs(stretch)]
    return (
        f'<figure class="curve"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(curve.told)}">{"".join(parts)}</svg>'
        f"<figcaption>{html.escape(_caption(curve, len(shown)))}</figcaption></figure>"
    )


def _caption(curve: LearningCurve, shown: int) -> str:
    said = curve.told
    if np.isfinite(curve.at_random):
        said += f" The dashed line is the mean return of random actions, {curve.at_random:.4g}."
    missing = curve.updates - len(curve.steps)
    if missing:
        said += f" For {missing:,} of {curve.updates:,} updates no return is known."
    if shown < len(curve.steps):
        said += f" {shown} of {len(curve.steps):,} points are drawn."
    return said


def _runs(stretch: Int[np.ndarray, " N"]) -> list[Int[np.ndarray, " n"]]:
    """The places of every stretch without a gap."""
    return np.split(np.arange(len(stretch)), np.flatnonzero(np.diff(stretch)) + 1)


def _line(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> str:
    """A line through points; a dot where there is one alone."""
    if len(x) == 1:
        return f'<circle class="dot" cx="{x[0]:.1f}" cy="{y[0]:.1f}" r="3"/>'
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline class="line" points="{points}"/>'


def _across(kind: str, y: float) -> str:
    return f'<line class="{kind}" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{html.escape(text)}</text>"
    )


def _scale(low: float, high: float, start: float, end: float) -> Callable[[Any], Any]:
    span = (high - low) or 1.0
    return lambda value: start + (np.asarray(value) - low) / span * (end - start)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers around a range."""
    load_matplotlib()
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in found]


def _number(value: float) -> str:
    return (steps_label(value) if abs(value) >= 1e4 else f"{value:g}").replace("-", "−")

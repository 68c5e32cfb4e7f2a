"""Figures of the laboratory. Matplotlib is imported when one is drawn."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from policygrad.tabular.lineup import Lineup
from policygrad.tabular.moments import moments
from policygrad.tabular.rows import Row, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAMBDAS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
COLOURS = ("#0b5fa5", "#c2571a", "#2e7d4f", "#8a3a8f")


def new_figure(columns: int = 1, width: float = 4.8, height: float = 3.6) -> "tuple[Figure, Any]":
    """A figure without a window, and its axes: one, or an array of several."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def bias_against_variance(lineup: Lineup, rows: Sequence[Row]) -> "Figure":
    """Left: GAE over λ, one curve for each critic. Right: the variance of every row.

    Args:
        lineup: the task.
        rows: as `report.rows` gives them.

    Returns:
        A figure; `figure.savefig(path)` writes it.
    """
    figure, (left, right) = new_figure(2, 5.2, max(4.4, 1.4 + 0.24 * len(rows)))
    _draw_lambdas(left, lineup)
    _draw_variances(right, rows)
    gamma = f"{lineup.mdp.name}, γ = {lineup.discount:g}"
    figure.suptitle(f"{gamma}: bias and variance of one episode", fontsize=11)
    return figure


def lambda_curve(
    lineup: Lineup, lambdas: Sequence[float] = LAMBDAS
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """`[n]` each: bias ‖E ĝ − ∇J‖ and variance of GAE with the lineup's critic, at each λ."""
    points = []
    for value in lambdas:
        estimator = replace(lineup, gae_lambda=value).estimator("gae", "value")
        exact = moments(lineup.mdp, lineup.policy, estimator)
        points.append((np.linalg.norm(exact.bias), exact.variance))
    bias, variance = np.array(points).T
    return bias, variance


def _draw_lambdas(axes: "Axes", lineup: Lineup) -> None:
    curves = {
        "exact V": lineup,
        "V/2": replace(lineup, critic_scale=0.5),
        "V = 0": replace(lineup, critic_scale=0.0),
    }
    if lineup.discount < 1 and lineup.discounted_states:
        curves["exact V, γ^t dropped"] = replace(lineup, discounted_states=False)
    norm = float(np.linalg.norm(lineup.solution.gradient)) or 1.0
    widest, variances = 0.0, []
    for (name, varied), colour in zip(curves.items(), COLOURS, strict=False):
        try:
            bias, variance = lambda_curve(varied)
        except ValueError:  # with γ^t dropped the variance may be infinite
            continue
        bias = np.where(bias < 1e-10 * norm, 0.0, bias / norm)
        axes.plot(bias, variance, "o-", color=colour, markersize=4, linewidth=1.2, label=name)
        axes.plot(bias[:1], variance[:1], "o", color="white", mec=colour, markersize=7)
        axes.plot(bias[-1:], variance[-1:], "o", color=colour, markersize=7)
        widest, variances = max(widest, *bias), [*variances, *variance]
    axes.set_xlim(-0.06 * (widest or 1.0), 1.06 * (widest or 1.0))
    _scale_variance(axes.set_yscale, variances)
    axes.set(xlabel="bias / ‖∇J‖", ylabel="variance")
    axes.set_title("GAE from λ = 0 (○) to λ = 1 (●)", fontsize=10)
    _tidy(axes)
    axes.legend(title="critic", fontsize=8, title_fontsize=8, frameon=False)


def _draw_variances(axes: "Axes", rows: Sequence[Row]) -> None:
    variances = np.array([row.variance for row in rows])
    positive = _scale_variance(axes.set_xscale, variances)
    for place, row in enumerate(rows):
        biased = row.relative_bias > 1e-9  # False for NaN, where there is no gradient
        colour = COLOURS[1] if biased else COLOURS[0]
        shown = max(row.variance, 0.0) if positive is None else max(row.variance, positive / 2)
        face = (
            colour if row.variance >= (positive or 0.0) else "white"
        )  # 0 has no place on a log axis
        axes.plot(shown, place, "o", color=face, markeredgecolor=colour, markersize=5)
        text = number(row.variance, 3, 1e-9 * variances.max())
        text += f", bias {row.relative_bias:.2g} ‖∇J‖" if biased else ""
        axes.annotate(
            text, (shown, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.set(xlabel="variance")
    axes.set_title("over estimators and baselines", fontsize=10)
    _tidy(axes)


def _scale_variance(set_scale: Callable[..., Any], variances: Any) -> float | None:
    """Use a logarithmic axis if the variances differ tenfold; the least one above rounding."""
    numbers = np.asarray(variances)
    positive = numbers[numbers > 1e-9 * numbers.max(initial=0.0)]
    if not positive.size or positive.max() < 10 * positive.min():
        return None
    set_scale("log")
    return float(positive.min())


def _tidy(axes: "Axes") -> None:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=8)


def bars(axes: "Axes", names: Sequence[str], numbers: Sequence[float], **kwargs: Any) -> None:
    """Horizontal bars with their numbers written beside them."""
    drawn = axes.barh(range(len(names)), numbers, **kwargs)
    axes.set_yticks(range(len(names)), names)
    axes.bar_label(drawn, fmt="%.4g", fontsize=7, padding=2)
    axes.invert_yaxis()
    axes.margins(x=0.15)

"""Figures of the laboratory. Matplotlib is imported when one is drawn."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from policygrad.figures.style import BLUE, COLOURS, ORANGE, new_figure
from policygrad.tabular.exact_estimators import ExactEstimators
from policygrad.tabular.moments import moments
from policygrad.tabular.results import Result, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAMBDAS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


def bias_against_variance(task: ExactEstimators, results: Sequence[Result]) -> "Figure":
    """Left: GAE over λ, one curve for each critic. Right: the variance of every row.

    Args:
        task: whose estimators they are.
        results: as `results_of` gives them.

    Returns:
        A figure; `figure.savefig(path)` writes it.
    """
    figure, (left, right) = new_figure(2, 5.2, max(4.4, 1.4 + 0.24 * len(results)))
    _draw_lambdas(left, task)
    _draw_variances(right, results)
    gamma = f"{task.mdp.name}, γ = {task.discount:g}"
    figure.suptitle(f"{gamma}: bias and variance of one episode", fontsize=11)
    return figure


def lambda_curve(
    task: ExactEstimators, lambdas: Sequence[float] = LAMBDAS
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """`[n]` each: bias ‖E ĝ − ∇J‖ and variance of GAE with the task's critic, at each λ."""
    points = []
    for value in lambdas:
        estimator = replace(task, gae_lambda=value).estimator("gae", "value")
        exact = moments(task.mdp, task.policy, estimator)
        points.append((np.linalg.norm(exact.bias), exact.variance))
    bias, variance = np.array(points).T
    return bias, variance


def _draw_lambdas(axes: "Axes", task: ExactEstimators) -> None:
    curves = {
        "exact V": task,
        "V/2": replace(task, critic_scale=0.5),
        "V = 0": replace(task, critic_scale=0.0),
    }
    if task.discount < 1 and task.discounted_states:
        curves["exact V, γ^t dropped"] = replace(task, discounted_states=False)
    norm = float(np.linalg.norm(task.solution.gradient)) or 1.0
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
    axes.legend(title="critic", fontsize=8, title_fontsize=8, frameon=False)


def _draw_variances(axes: "Axes", results: Sequence[Result]) -> None:
    variances = np.array([result.variance for result in results])
    positive = _scale_variance(axes.set_xscale, variances)
    for place, result in enumerate(results):
        biased = result.relative_bias > 1e-9  # False for NaN, where there is no gradient
        colour = ORANGE if biased else BLUE
        least = 0.0 if positive is None else positive / 2
        shown = max(result.variance, least)
        # 0 has no place on a logarithmic axis
        face = colour if result.variance >= (positive or 0.0) else "white"
        axes.plot(shown, place, "o", color=face, markeredgecolor=colour, markersize=5)
        text = number(result.variance, 3, 1e-9 * variances.max())
        text += f", bias {result.relative_bias:.2g} ‖∇J‖" if biased else ""
        axes.annotate(
            text, (shown, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.set_yticks(range(len(results)), [result.name for result in results], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.set(xlabel="variance")
    axes.set_title("over estimators and baselines", fontsize=10)


def _scale_variance(set_scale: Callable[..., Any], variances: Any) -> float | None:
    """Use a logarithmic axis if the variances differ tenfold; the least one above rounding."""
    numbers = np.asarray(variances)
    positive = numbers[numbers > 1e-9 * numbers.max(initial=0.0)]
    if not positive.size or positive.max() < 10 * positive.min():
        return None
    set_scale("log")
    return float(positive.min())

"""Figures of the laboratory; matplotlib is imported when one is drawn."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from policygrad import baselines, estimators
from policygrad.baselines.base import Pointwise
from policygrad.tabular.mdp import FiniteMDP
from policygrad.tabular.moments import moments
from policygrad.tabular.policy import TabularPolicy
from policygrad.tabular.report import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAMBDAS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


def new_figure(columns: int = 1, width: float = 4.8, height: float = 3.6) -> "tuple[Figure, Any]":
    """A figure without a window, and its axes: one, or an array of them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def lambda_curve(
    mdp: FiniteMDP,
    policy: TabularPolicy,
    critic: Pointwise,
    *,
    discount: float,
    lambdas: Sequence[float] = LAMBDAS,
) -> tuple[np.ndarray, np.ndarray]:
    """Bias ‖E ĝ − ∇J‖ and variance of GAE at each λ, with γ^t kept."""
    points = []
    for value in lambdas:
        estimator = estimators.gae(
            discount=discount, gae_lambda=value, critic=critic, discounted_states=True
        )
        exact = moments(mdp, policy, estimator)
        points.append((np.linalg.norm(exact.bias), exact.variance))
    bias, variance = np.array(points).T
    return bias, variance


def bias_against_variance(
    mdp: FiniteMDP,
    policy: TabularPolicy,
    rows: Sequence[Row],
    critics: Mapping[str, Pointwise],
    *,
    discount: float,
) -> "Figure":
    """One curve over λ for each critic, and one point for each row of the table.

    Args:
        mdp, policy: the task.
        rows: as `report.rows` gives them.
        critics: name -> the value function that GAE bootstraps from.
        discount: γ.

    Returns:
        A figure; `figure.savefig(path)` writes it.
    """
    figure, axes = new_figure(width=7.0, height=4.6)
    for name, critic in critics.items():
        bias, variance = lambda_curve(mdp, policy, critic, discount=discount)
        axes.plot(bias, variance, "o-", markersize=3, label=f"GAE over λ, {name}")
        for index in (0, len(LAMBDAS) - 1):
            axes.annotate(f"λ={LAMBDAS[index]:g}", (bias[index], variance[index]), fontsize=7)
    for row in rows:
        axes.plot(row.bias, row.variance, "x", label=row.name)
    axes.set(xlabel="bias ‖E ĝ − ∇J‖", ylabel="variance of one episode", title=mdp.name)
    axes.set_yscale("symlog", linthresh=_smallest([row.variance for row in rows]))
    axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _smallest(variances: Sequence[float]) -> float:
    positive = [v for v in variances if v > 1e-9]
    return min(positive, default=1.0)


def shifted_critics(values: np.ndarray) -> dict[str, Pointwise]:
    """The exact V, and two that are wrong: zero, and half of it."""
    return {
        "exact V": baselines.table(values),
        "V/2": baselines.table(values / 2),
        "V = 0": baselines.table(np.zeros_like(values)),
    }


def bars(axes: "Axes", names: Sequence[str], numbers: Sequence[float], **kwargs: Any) -> None:
    """Horizontal bars with their numbers written beside them."""
    drawn = axes.barh(range(len(names)), numbers, **kwargs)
    axes.set_yticks(range(len(names)), names)
    axes.bar_label(drawn, fmt="%.4g", fontsize=7, padding=2)
    axes.invert_yaxis()
    axes.margins(x=0.15)

"""The noise of a batch by the size of its groups. Matplotlib is imported when it is drawn."""

from typing import TYPE_CHECKING

import numpy as np

from policygrad.core.errors import UserError
from policygrad.diagnostics.groups import NoiseInGroups
from policygrad.diagnostics.groups_shown import batch_in_use, best_batch
from policygrad.figures.style import BLUE, GREEN, GREY, new_figure, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def variance_by_group_size(found: NoiseInGroups, batch_episodes: float) -> "Figure":
    """(σ²_b + σ²_w / k) / m by k, where m is as many groups of k as the batch in use pays for.

    Args:
        found: of `noise_in_groups`.
        batch_episodes: of the batch in use, at least one group.
    """
    figure, axes = new_figure(1, 5.4, 3.8)
    now = batch_in_use(found, batch_episodes)
    assert now is not None
    budget = found.cost(now.groups, now.episodes_a_group)
    least = found.weighed_together
    sizes = np.geomspace(least, max(2 * now.episodes_a_group, 2 * least, 8), 80)
    groups = budget / (sizes + found.greedy)

    def variance(between: float, within: float) -> np.ndarray:
        return (max(between, 0.0) + max(within, 0.0) / sizes) / groups

    low, value, high = (
        variance(float(getattr(found.between, end)), float(getattr(found.within, end)))
        for end in ("low", "value", "high")
    )
    axes.fill_between(sizes, low, high, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(sizes, value, color=BLUE, linewidth=1.2)
    axes.plot(
        now.episodes_a_group, now.variance, "o", color=GREY, markersize=6,
        label=f"in use: {now.groups} × {now.episodes_a_group}",
    )  # fmt: skip
    try:
        best = best_batch(found, batch_episodes)
    except UserError:  # the larger the better
        best = None
    if best is not None and best.variance < now.variance:
        axes.plot(
            best.episodes_a_group, best.variance, "D", color=GREEN, markersize=6,
            label=f"least: {best.groups} × {best.episodes_a_group}",
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.set_ylim(bottom=0.0)
    titled(axes, "Noise of a batch of the same cost", "episodes a group", "variance")
    axes.legend(fontsize=8, frameon=False)
    return figure

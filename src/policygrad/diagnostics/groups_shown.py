"""The noise between and within groups in words, and what size of batch follows from it."""

import math

from policygrad.core.errors import UserError
from policygrad.diagnostics.batch_plan import BatchPlan
from policygrad.diagnostics.groups import NoiseInGroups
from policygrad.diagnostics.intervals import Measured


def lines_of(found: NoiseInGroups, batch_episodes: float = math.nan) -> list[str]:
    """What was measured, with 95 % intervals, and the batch of least noise for the same cost.

    Args:
        found: of `noise_in_groups`.
        batch_episodes: of the batch in use; NaN where it is not known.
    """
    together = f", {found.weighed_together} weighed together" if found.weighed_together > 1 else ""
    return [
        f"noise of the gradient, from {found.starts} groups of {found.group_size}{together} "
        "(95 % intervals):",
        f"   between groups: {_told(found.between)}",
        f"   within groups, one episode: {_told(found.within)}",
        f"   both are equal at {found.even.low:.3g} to {found.even.high:.3g} episodes a group",
        "   a batch of m groups of k has the variance (between + within / k) / m",
        *(f"   {line}" for line in _advice(found, batch_episodes)),
    ]


def batch_in_use(found: NoiseInGroups, batch_episodes: float) -> BatchPlan | None:
    """The batch in use, with the variance of its gradient; None where it is not known."""
    if not batch_episodes >= found.group_size:
        return None
    groups = round(batch_episodes) // found.group_size
    return BatchPlan(groups, found.group_size, found.variance(groups, found.group_size))


def best_batch(found: NoiseInGroups, batch_episodes: float) -> BatchPlan | None:
    """The batch of least noise that costs no more than the one in use; None where it is not known.

    Raises:
        UserError: no finite size is best, as nothing is between groups and a start costs something.
    """
    now = batch_in_use(found, batch_episodes)
    return None if now is None else found.plan(found.cost(now.groups, now.episodes_a_group))


def _advice(found: NoiseInGroups, batch_episodes: float) -> list[str]:
    now = batch_in_use(found, batch_episodes)
    if now is None:
        return []
    cost = "the same steps" if found.greedy else "as many episodes"
    try:
        best = best_batch(found, batch_episodes)
    except UserError:
        return ["the noise between groups is not above zero: larger groups cost fewer steps"]
    assert best is not None
    used = f"{_size(now)}, as in use: variance {now.variance:.4g}"
    if best.variance >= now.variance:
        return [f"{used}, the least for {cost}"]
    return [used, f"{_size(best)}, the least for {cost}: variance {best.variance:.4g}"]


def _size(plan: BatchPlan) -> str:
    return f"{plan.groups} {'group' if plan.groups == 1 else 'groups'} of {plan.episodes_a_group}"


def _told(x: Measured) -> str:
    by_chance = ", below zero by chance" if x.value < 0 else ""
    return f"{x.value:.4g}{by_chance} ({x.low:.4g} to {x.high:.4g})"

"""How many groups, and how many episodes a group, a batch should have."""

import math
from dataclasses import dataclass

import numpy as np

from policygrad.core.errors import UserError


@dataclass(frozen=True)
class BatchPlan:
    """How many groups a batch has, and how many episodes each.

    Attributes:
        groups: m.
        episodes_a_group: k.
        variance: trΣ of its gradient.
    """

    groups: int
    episodes_a_group: int
    variance: float


def best_group_size(
    between: float, within: float, *, start: float = 0.0, episode: float = 1.0, least: int = 1
) -> int:
    """The number of episodes a group with the least noise for what a large batch costs.

    k* = √(c_start σ²_w / (c_episode σ²_b)), the minimum of (σ²_b + σ²_w/k)(c_start + c_episode k).
    Where only episodes cost, it is 1, or the least that the estimator needs: another start is worth
    more than a further episode of the same.

    Args:
        between, within: σ²_b and σ²_w.
        start, episode: c_start, 0 or more, and c_episode, positive.
        least: the fewest episodes that the estimator weighs: 2 for leave-one-out.

    Raises:
        UserError: a cost out of range, or no finite size: where nothing is between groups and a
            start costs something, ever larger groups are better.

    Source: the optimum allocation of two-stage sampling, Cochran 1977, section 10.6.

    >>> best_group_size(1.0, 16.0), best_group_size(1.0, 16.0, start=4.0)
    (1, 8)
    """
    check_costs(between, within, start, episode)
    if start == 0 or within <= 0:
        return least

    def cost(size: int) -> float:
        return (between + within / size) * (start + episode * size)

    best = math.sqrt(start * within / (episode * between))
    return max(least, min(max(1, math.floor(best)), math.floor(best) + 1, key=cost))


def best_plan(
    between: float, within: float, budget: float, *, start: float, episode: float, least: int = 1
) -> BatchPlan:
    """The batch with the least noise (σ²_b + σ²_w/k)/m among those that a budget pays.

    m groups of k cost m (c_start + c_episode k). So m k is at most budget / c_episode, and one of
    both at most its root: every k up to the root is tried, and the k that each m up to it leaves.

    Args:
        between, within, start, episode, least: as in `best_group_size`.
        budget: what the batch may cost.

    Returns:
        The plan; of equal ones that with the most groups.

    Raises:
        UserError: as `best_group_size`; or a budget that is not finite, or pays no group.

    >>> best_plan(1.0, 16.0, 20.0, start=4.0, episode=1.0)
    BatchPlan(groups=2, episodes_a_group=6, variance=1.8333333333333333)
    """
    check_costs(between, within, start, episode)
    if not math.isfinite(budget):
        raise UserError(f"the budget must be a finite number, got {budget!r}")
    one = start + episode * least
    if budget < one:
        raise UserError(
            f"a budget of {budget:g} does not pay one group of {least} episodes, which costs "
            f"{one:g}; give more"
        )
    few = np.arange(1, math.isqrt(math.floor(budget / episode)) + 1)
    sizes = np.unique(np.append(few, (budget / few - start) // episode))
    groups = budget // (start + episode * sizes)
    paid = (sizes >= least) & (groups >= 1)
    sizes, groups = sizes[paid], groups[paid]
    variances = (between + within / sizes) / groups
    best = np.flatnonzero(variances <= variances.min() * (1 + 1e-12))[0]  # the smallest size
    return BatchPlan(int(groups[best]), int(sizes[best]), float(variances[best]))


def check_costs(between: float, within: float, start: float, episode: float) -> None:
    """Raise UserError for a cost out of range, or where ever larger groups are better."""
    if not (math.isfinite(start) and start >= 0):
        raise UserError(f"the cost of a start must be 0 or more, got {start!r}")
    if not (math.isfinite(episode) and episode > 0):
        raise UserError(f"the cost of an episode must be positive, got {episode!r}")
    if start > 0 and within > 0 and between <= 0:
        raise UserError(
            "no noise between groups was found (its estimate is not above zero), so that no group "
            "is too large where a start costs something; choose a size, or measure more groups"
        )

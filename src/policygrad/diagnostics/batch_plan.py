"""How many groups, and how many episodes a group, a batch should have."""

import math
from dataclasses import dataclass

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
    """The number of episodes a group with the least noise for what a batch costs.

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
    if not (math.isfinite(start) and start >= 0):
        raise UserError(f"the cost of a start must be 0 or more, got {start!r}")
    if not (math.isfinite(episode) and episode > 0):
        raise UserError(f"the cost of an episode must be positive, got {episode!r}")
    if start == 0 or within <= 0:
        return least
    if between <= 0:
        raise UserError(
            "no noise between groups was found (its estimate is not above zero), so that no group "
            "is too large where a start costs something; choose a size, or measure more groups"
        )

    def cost(size: int) -> float:
        return (between + within / size) * (start + episode * size)

    best = math.sqrt(start * within / (episode * between))
    return max(least, min(max(1, math.floor(best)), math.floor(best) + 1, key=cost))

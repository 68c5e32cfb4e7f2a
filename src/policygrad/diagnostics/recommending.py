"""Which estimator to recommend: one that points better, beyond the intervals, at several points.

A comparison at one point of training says little of training: critics are fitted to the policy of
that point, and the step's length is the optimiser's. The mean squared error counts the gradient's
length; so nothing is recommended by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policygrad.core.errors import UserError
from policygrad.diagnostics.comparison import Comparison
from policygrad.diagnostics.intervals import Measured

LEAST_POINTS = 2


@dataclass(frozen=True)
class Recommendation:
    """What comparisons at several points of training recommend.

    Attributes:
        in_use: the estimator that the others are measured against.
        points: how many there are.
        cosines: estimator -> its cosine with the true gradient at each point.
        better: estimator -> at how many points it points better, beyond the intervals.
        recommended: the estimator that does at all of them; None if there is none.
    """

    in_use: str
    points: int
    cosines: Mapping[str, tuple[Measured, ...]]
    better: Mapping[str, int]
    recommended: str | None


def recommend(comparisons: Sequence[Comparison], in_use: str) -> Recommendation:
    """The estimator that points better than the one in use at every point, beyond the intervals.

    One points better at a point if the interval of its cosine lies above that of the one in use.
    Of several, the one whose lowest end over the points is highest is recommended.

    Args:
        comparisons: one a point of training, each of the batch in use; at least two.
        in_use: name of the estimator in use.

    Raises:
        UserError: fewer than two points, or a comparison without the estimator in use.

    Bias: two intervals of 95 % and of like width that do not overlap differ by more than chance
    explains in fewer than 1 % of comparisons, and of very unlike width in fewer than 5 %; in fewer
    still at two points. The points are taken for independent.
    """
    if len(comparisons) < LEAST_POINTS:
        raise UserError(
            f"a recommendation needs at least {LEAST_POINTS} points of training, got "
            f"{len(comparisons)}"
        )
    for comparison in comparisons:
        if in_use not in comparison.estimators:
            raise UserError(f"in_use must be one of {', '.join(comparison.estimators)}")
    first, *rest = comparisons
    names = [n for n in first.estimators if all(n in other.estimators for other in rest)]
    cosines = {n: tuple(c.estimators[n].cosine for c in comparisons) for n in names}
    ours = cosines[in_use]
    better = {
        name: sum(x.low > y.high for x, y in zip(theirs, ours, strict=True))
        for name, theirs in cosines.items()
        if name != in_use
    }
    surely = [name for name, count in better.items() if count == len(comparisons)]
    lowest = {name: min(x.low for x in cosines[name]) for name in surely}
    best = max(surely, key=lowest.__getitem__) if surely else None
    return Recommendation(in_use, len(comparisons), cosines, better, best)

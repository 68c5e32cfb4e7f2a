"""The exact results of group estimators on a task, and the table that `policygrad exact` prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from policygrad.gradients.groups import GroupEstimator
from policygrad.tabular.groups import group_moments
from policygrad.tabular.outcomes import Outcomes
from policygrad.tabular.results import number


@dataclass(frozen=True)
class GroupResult:
    """One row: a group estimator over a batch. NaN where the gradient or the mean is zero.

    Attributes:
        name: of the estimator.
        length: ‖E ĝ‖ / ‖∇J‖.
        cosine: of E ĝ with ∇J.
        bias: ‖E ĝ − ∇J‖.
        variance: trace of the covariance of the batch's gradient.
        between: the part of it that is between start states; None where groups are not independent.
        relative_variance: variance / ‖E ĝ‖².
    """

    name: str
    length: float
    cosine: float
    bias: float
    variance: float
    between: float | None
    relative_variance: float


def group_results(
    outcomes: Outcomes, chosen: Mapping[str, GroupEstimator], *, group_size: int, groups: int
) -> tuple[list[GroupResult], dict[str, str]]:
    """The results of named estimators, and why the others have none.

    Args:
        outcomes: of the task.
        chosen: name -> estimator.
        group_size, groups: k and G.

    Returns:
        Results in the order given; and name -> reason, in one line, of estimators that need larger
        groups or batches, or too many batches to enumerate.
    """
    results, refused = [], {}
    for name, estimator in chosen.items():
        try:
            exact = group_moments(outcomes, estimator, group_size=group_size, groups=groups)
        except ValueError as error:
            refused[name] = str(error)
            continue
        results.append(
            GroupResult(
                name=name,
                length=exact.length,
                cosine=exact.cosine,
                bias=float(np.linalg.norm(exact.bias)),
                variance=exact.variance,
                between=exact.between,
                relative_variance=exact.relative_variance,
            )
        )
    return results, refused


# attribute -> heading
COLUMNS = {
    "length": "‖E ĝ‖/‖∇J‖",
    "cosine": "cosine",
    "bias": "bias",
    "variance": "Var",
    "between": "between",
    "relative_variance": "Var/‖E ĝ‖²",
}


def as_text(results: Sequence[GroupResult], digits: int = 4) -> str:
    """The table as plain text with aligned columns."""
    lines = [["estimator", *COLUMNS.values()], *(_cells(result, digits) for result in results)]
    first, *rest = ([*map(len, column)] for column in zip(*lines, strict=True))
    widths = [max(column) for column in rest]
    return "\n".join(
        "  ".join([name.ljust(max(first)), *map(str.rjust, numbers, widths)])
        for name, *numbers in lines
    )


def _cells(result: GroupResult, digits: int) -> list[str]:
    rounding = 1e-12 * (1 + result.variance)
    written = []
    for key in COLUMNS:
        x = getattr(result, key)
        written.append("–" if x is None else number(x, digits, rounding))
    return [result.name, *written]

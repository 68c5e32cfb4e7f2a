"""The exact results of estimators on a task, and the table that `policygrad exact` prints."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policygrad.gradients.weights import EstimatorState
from policygrad.tabular.mdp import FiniteMDP
from policygrad.tabular.moments import moments
from policygrad.tabular.policy import TabularPolicy
from policygrad.tabular.problem import AnyEstimator


@dataclass(frozen=True)
class Result:
    """One row of the table: an estimator on a task. Its numbers are those of one trajectory.

    Attributes:
        name: of the estimator.
        bias: ‖E ĝ − ∇J‖.
        relative_bias: `bias` divided by ‖∇J‖; NaN if the gradient is zero.
        variance, diagonal, cross, between, squared_mean: Var = D + C + between − B.
        approximation_i, approximation_ii: those of the post.  [E8]
        episodes: that a batch needs for a cosine of 0.9 with ∇J; infinite if the bias is too large.
    """

    name: str
    bias: float
    relative_bias: float
    variance: float
    diagonal: float
    cross: float
    between: float
    squared_mean: float
    approximation_i: float
    approximation_ii: float
    episodes: float


def result_of(
    name: str,
    mdp: FiniteMDP,
    policy: TabularPolicy,
    estimator: AnyEstimator,
    state: EstimatorState | None = None,
    *,
    batch_episodes: int = 2,
    objective_discount: float | None = None,
) -> Result:
    """The result of one estimator. Arguments as in `moments`; `batch_episodes` is k there."""
    exact = moments(
        mdp,
        policy,
        estimator,
        state,
        episodes=batch_episodes,
        objective_discount=objective_discount,
    )
    bias = float(sum(exact.bias**2)) ** 0.5
    norm = float(sum(exact.gradient**2)) ** 0.5
    return Result(
        name=name,
        bias=bias,
        relative_bias=bias / norm if norm > 0 else math.nan,
        variance=exact.variance,
        diagonal=exact.diagonal,
        cross=exact.cross,
        between=exact.between,
        squared_mean=exact.squared_mean,
        approximation_i=exact.approximation_i,
        approximation_ii=exact.approximation_ii,
        episodes=exact.episodes_for_cosine(0.9),
    )


def results_of(
    mdp: FiniteMDP,
    policy: TabularPolicy,
    chosen: Mapping[str, AnyEstimator],
    *,
    batch_episodes: int = 2,
    objective_discount: float | None = None,
) -> list[Result]:
    """The results of named estimators.

    Args:
        mdp, policy: the task.
        chosen: name -> estimator, whose baselines and critics hold numbers (tables, constants).
        batch_episodes: k of leave-one-out.
        objective_discount: γ of the objective that the bias is measured against; None for the γ of
            each estimator.

    Returns:
        Results in the order given.

    Raises:
        ValueError: as `moments`.
    """
    return [
        result_of(
            name,
            mdp,
            policy,
            estimator,
            batch_episodes=batch_episodes,
            objective_discount=objective_discount,
        )
        for name, estimator in chosen.items()
    ]


# D is also the post's approximation (i): one column for both
COLUMNS = {
    "bias": "bias",
    "variance": "Var",
    "diagonal": "D = (i)",
    "cross": "C",
    "squared_mean": "B",
    "approximation_ii": "(ii)",
    "episodes": "N",
}


def cells(result: Result, digits: int = 4) -> list[str]:
    """The cells of a row as text: the estimator's name, and a number for each of `COLUMNS`."""
    zero = 1e-11 * (result.diagonal + abs(result.cross) + result.squared_mean)
    rounding = {"bias": 1e-5 * math.sqrt(zero)}
    numbers = {key: getattr(result, key) for key in COLUMNS if key != "episodes"}
    written = [number(x, digits, rounding.get(key, zero)) for key, x in numbers.items()]
    return [result.name, *written, _count(result.episodes)]


def as_text(results: Sequence[Result], digits: int = 4) -> str:
    """The table as plain text with aligned columns."""
    lines = [["estimator", *COLUMNS.values()], *(cells(result, digits) for result in results)]
    first, *rest = ([*map(len, column)] for column in zip(*lines, strict=True))
    widths = [max(column) for column in rest]
    return "\n".join(
        "  ".join([name.ljust(max(first)), *map(str.rjust, numbers, widths)])
        for name, *numbers in lines
    )


def number(x: float, digits: int = 4, zero: float = 0.0) -> str:
    """A number with some significant digits; numbers below a million have no exponent.

    Args:
        x: the number.
        digits: how many.
        zero: a number that is not larger than this is rounding error, and is written as 0.
    """
    if math.isnan(x):
        return "–"
    if abs(x) <= zero:
        return "0"
    return f"{x:.0f}" if 10**digits <= abs(x) < 1e6 else f"{x:.{digits}g}"


def _count(episodes: float) -> str:
    if math.isinf(episodes):
        return "never"
    return f"{math.ceil(episodes - 1e-9):,}" if episodes < 1e7 else f"{episodes:.1e}"

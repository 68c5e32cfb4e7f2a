"""The table that a lecturer would project: one row an estimator, every number exact."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from policygrad import baselines, estimators
from policygrad.estimators import EstimatorState
from policygrad.returns import Scalar
from policygrad.tabular.control import optimal_baseline
from policygrad.tabular.mdp import FiniteMDP
from policygrad.tabular.moments import moments
from policygrad.tabular.policy import TabularPolicy
from policygrad.tabular.problem import AnyEstimator, all_action, check_exact
from policygrad.tabular.solution import solve


@dataclass(frozen=True)
class Row:
    """An estimator on a task; numbers of one trajectory.

    Attributes:
        name: of the estimator.
        bias: ‖E ĝ − ∇J‖.
        relative_bias: the same over ‖∇J‖; NaN where the gradient is zero.
        variance, diagonal, cross, between, squared_mean: Var = D + C + between − B.
        approximation_i, approximation_ii: the post's.  [E8]
        episodes: that a batch needs for a cosine of 0.9 with ∇J; infinite where bias forbids it.
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

    def as_json(self) -> dict[str, str | float | None]:
        """A dict that JSON can hold: None in place of NaN and infinity."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


def row(
    name: str,
    mdp: FiniteMDP,
    policy: TabularPolicy,
    estimator: AnyEstimator,
    state: EstimatorState | None = None,
    *,
    batch_episodes: int = 2,
    objective_discount: float | None = None,
) -> Row:
    """One row of the table; arguments as in `moments`; `batch_episodes` is leave-one-out's k."""
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
    return Row(
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


def rows(
    mdp: FiniteMDP,
    policy: TabularPolicy,
    chosen: Mapping[str, AnyEstimator],
    *,
    batch_episodes: int = 2,
    objective_discount: float | None = None,
) -> list[Row]:
    """The table, one row for each named estimator.

    Args:
        mdp, policy: the task.
        chosen: name -> estimator, with numbers of their own (tables, constants).
        batch_episodes: k of leave-one-out.
        objective_discount: γ of the objective behind the bias; None: each estimator's own.

    Returns:
        Rows in the order given.

    Raises:
        ValueError: as `moments`.
    """
    return [
        row(
            name,
            mdp,
            policy,
            estimator,
            batch_episodes=batch_episodes,
            objective_discount=objective_discount,
        )
        for name, estimator in chosen.items()
    ]


def usual_estimators(
    mdp: FiniteMDP, policy: TabularPolicy, *, discount: Scalar = 1.0
) -> dict[str, AnyEstimator]:
    """The estimators that the post speaks of, with exact baselines and critics for this task.

    Those that need certain absorption are left out where there is none.
    """
    gamma = float(discount)
    solution = solve(mdp, policy, discount=gamma)
    value = baselines.table(solution.values)
    j = baselines.constant(solution.objective)
    kept = {"discount": gamma, "discounted_states": True}
    to_go = estimators.reward_to_go(**kept)
    family = "state" if mdp.horizon is None else "state_time"
    best = optimal_baseline(mdp, policy, to_go, family).baseline()
    constant = optimal_baseline(mdp, policy, to_go, "constant")
    found = baselines.constant(float(constant.coefficients))
    table: dict[str, AnyEstimator] = {
        "total return": estimators.total_return(discount=gamma),
        "total return, b = J": estimators.total_return(discount=gamma, baseline=j),
        "total return, leave-one-out": estimators.total_return(
            discount=gamma, baseline=baselines.leave_one_out()
        ),
        "reward to go": to_go,
        "reward to go, b = J": estimators.reward_to_go(baseline=j, **kept),
        "reward to go, best constant": estimators.reward_to_go(baseline=found, **kept),
        "reward to go, b = V": estimators.reward_to_go(baseline=value, **kept),
        "reward to go, optimal b": estimators.reward_to_go(baseline=best, **kept),
        "3-step, V": estimators.n_step(n=3, critic=value, **kept),
        "GAE 0.95": estimators.gae(gae_lambda=0.95, critic=value, **kept),
        "TD": estimators.td(critic=value, **kept),
        "all-action": all_action(**kept),
    }
    if gamma < 1:
        dropped = estimators.reward_to_go(discount=gamma, baseline=value)
        table["reward to go, b = V, γ^t dropped"] = dropped
    return {name: e for name, e in table.items() if _exists(mdp, policy, e)}


def _exists(mdp: FiniteMDP, policy: TabularPolicy, estimator: AnyEstimator) -> bool:
    check_exact(mdp, estimator)
    fades = float(estimator.discount) < 1 and estimator.discounted_states
    if fades and estimator.form != "total_return":
        return True
    try:
        mdp.require_absorption(policy.tabulate(mdp).probabilities, 1.0)  # pyright: ignore
    except ValueError:
        return False
    return True


COLUMNS = {
    "bias": "bias",
    "variance": "Var",
    "diagonal": "D",
    "cross": "C",
    "squared_mean": "B",
    "approximation_i": "≈(i)",
    "approximation_ii": "≈(ii)",
    "episodes": "episodes",
}


def as_text(table: list[Row]) -> str:
    """The table in plain text, columns aligned."""
    body = [[r.name, *(_short(getattr(r, key)) for key in COLUMNS)] for r in table]
    lines = [["estimator", *COLUMNS.values()], *body]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(x.rjust(w) for x, w in zip(line[1:], widths[1:], strict=True)),
            ]
        )
        for line in lines
    )


def _short(number: float) -> str:
    if math.isnan(number):
        return "–"
    if math.isinf(number):
        return "never"
    if abs(number) < 1e-9:
        return "0"
    return f"{number:.4g}"

"""Exact mean, bias and covariance of every estimator on a finite MDP."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from policygrad.gradients.weights import EstimatorState
from policygrad.tabular import summed_actions, to_go, total
from policygrad.tabular.leave_one_out import between_episodes, with_batch_baseline
from policygrad.tabular.mdp import FiniteMDP
from policygrad.tabular.policy import TabularPolicy
from policygrad.tabular.precision import in_float64
from policygrad.tabular.problem import (
    AllAction,
    AnyEstimator,
    Problem,
    is_total_return,
    problem_of,
    uses_leave_one_out,
)
from policygrad.tabular.solution import solve
from policygrad.tabular.to_go import Whole


@dataclass(frozen=True)
class Moments:
    """Mean and variance of the gradient estimate of ONE trajectory. A batch of N divides by N.

    With leave-one-out the estimates of the k episodes depend on each other. The variance is then k
    times that of the batch's mean, so that dividing by N still holds.

    Var = D + C + between − B, exactly. `between` is zero except for leave-one-out.

    Attributes:
        mean: `[d]`, E ĝ.
        variance: trace of the covariance.
        covariance: `[d, d]`; None unless asked for.
        diagonal: D = Σ_t E‖g_t‖², with g_t the term of step t.
        cross: C = 2 Σ_{t<k} E[g_t·g_k].
        squared_mean: B = ‖E ĝ‖².
        between: (k−1) tr Cov(ĝ_i, ĝ_j) over the episodes of a leave-one-out batch.
        approximation_i: Σ_t E‖z_t(R_t − b)‖², which is D.  [E8]
        approximation_ii: Σ_t E‖z_t‖² E(R_t − b)², where steps after the end count 0; NaN for the
            all-action estimator, which samples no score.  [E8]
        gradient: `[d]`, ∇J of the objective that the bias is measured against.
        episodes: k; 1 without leave-one-out.
    """

    mean: Float[np.ndarray, " d"]
    variance: float
    covariance: Float[np.ndarray, "d d"] | None
    diagonal: float
    cross: float
    squared_mean: float
    between: float
    approximation_ii: float
    gradient: Float[np.ndarray, " d"]
    episodes: int = 1

    @property
    def approximation_i(self) -> float:
        """The post's first approximation of the variance, which is D."""
        return self.diagonal

    @property
    def bias(self) -> Float[np.ndarray, " d"]:
        """`[d]`, E ĝ − ∇J."""
        return self.mean - self.gradient

    def episodes_for_cosine(self, cosine: float = 0.9) -> float:
        """Episodes that a batch needs so that its estimate has about this cosine with ∇J.

        cos ≈ ⟨E ĝ, ∇J⟩ / (‖∇J‖ √(‖E ĝ‖² + Var/N)), solved for N. At least 1; infinite if the bias
        alone makes this cosine impossible, or if the gradient is zero.
        """
        norm = float(np.linalg.norm(self.gradient))
        if norm == 0:
            return float("inf")
        along = float(self.mean @ self.gradient) / norm / cosine
        room = along**2 - self.squared_mean
        # the mean itself is further from the gradient than the cosine allows
        if along <= 0 or room <= 1e-12 * self.squared_mean:
            return float("inf")
        return max(self.variance / room, float(self.episodes))


@in_float64
def moments(
    mdp: FiniteMDP,
    policy: TabularPolicy,
    estimator: AnyEstimator,
    state: EstimatorState | None = None,
    *,
    covariance: bool = False,
    episodes: int = 2,
    objective_discount: float | None = None,
) -> Moments:
    """The exact mean and covariance of an estimator. Training takes the same estimators.

    Var ĝ = D + C − B, D = Σ_t E‖g_t‖², C = 2 Σ_{t<k} E[g_t·g_k], B = ‖E ĝ‖².  [E8]

    Args:
        mdp: at its horizon the task ends: V and b are zero there, as in absorbing states.
        policy: anything that can be tabulated.
        estimator: from `policygrad.estimators`, or `all_action`.
        state: the fitted baseline and critic; None if their numbers are given, as in a table.
        covariance: whether to compute the full matrix too.
        episodes: k of leave-one-out, at least 2; not read otherwise.
        objective_discount: γ of the objective whose gradient the bias is measured against; None for
            the estimator's γ.

    Returns:
        `Moments`, in NumPy float64.

    Raises:
        ValueError: an estimator without an exact form, a table of a wrong shape, γ = 1 without
            absorption, or fewer than 2 episodes for leave-one-out.

    Bias: none; every number is exact to rounding.

    Source: E8; the recursion is in docs/laboratory.md.
    """
    problem = problem_of(mdp, policy, estimator, state)
    loo = uses_leave_one_out(estimator)
    if loo:
        _check_episodes(episodes)
        whole_return = is_total_return(estimator)
        problem = with_batch_baseline(problem, episodes, whole_return=whole_return)
    whole = _whole(problem, estimator, covariance)
    between: Array | float = 0.0
    if loo:
        between = _between(problem, estimator, whole, covariance) / (episodes - 1)
    discount = estimator.discount if objective_discount is None else objective_discount
    gradient = solve(mdp, policy, discount=float(discount)).gradient
    return _assemble(whole, between, gradient, episodes if loo else 1)


def _check_episodes(episodes: Any) -> None:
    if episodes != int(episodes) or episodes < 2:
        raise ValueError(f"leave_one_out needs at least 2 episodes a batch, got {episodes}")


def _whole(problem: Problem, estimator: AnyEstimator, covariance: bool) -> Whole:
    kind = to_go
    if isinstance(estimator, AllAction):
        kind = summed_actions
    elif is_total_return(estimator):
        kind = total
    over = kind.finite if problem.finite else kind.infinite
    return over(problem, with_covariance=covariance)


def _between(problem: Problem, estimator: AnyEstimator, whole: Whole, covariance: bool) -> Array:
    """(k−1)² Cov(ĝ_i, ĝ_j): the matrix, or its trace."""
    if is_total_return(estimator):
        return jnp.outer(whole.mean, whole.mean) if covariance else whole.mean @ whole.mean
    return between_episodes(problem, with_covariance=covariance)


def _assemble(
    whole: Whole, between: Array | float, gradient: Float[np.ndarray, " d"], episodes: int
) -> Moments:
    mean = np.asarray(whole.mean)
    matrix = None
    trace = float(jnp.trace(between)) if jnp.ndim(between) else float(between)
    if whole.second is not None:
        matrix = np.asarray(whole.second + between) - np.outer(mean, mean)
    diagonal, cross = float(whole.sums.diagonal), float(whole.sums.cross)
    squared_mean = float(mean @ mean)
    return Moments(
        mean=mean,
        variance=diagonal + cross + trace - squared_mean,
        covariance=matrix,
        diagonal=diagonal,
        cross=cross,
        squared_mean=squared_mean,
        between=trace,
        approximation_ii=float(whole.sums.factored),
        gradient=gradient,
        episodes=episodes,
    )

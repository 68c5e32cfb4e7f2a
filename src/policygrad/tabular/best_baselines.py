"""Variance-optimal baselines.

The variance is a parabola in the baseline, Var(b) = Var(b*) + Σ K (b − b*)² (see `parabola.py`), so
the best baseline of a family is the K-weighted projection of b* onto it.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from policygrad.gradients import baselines
from policygrad.gradients.baselines.table import Table
from policygrad.gradients.weights import Estimator, EstimatorState
from policygrad.tabular.mdp import FiniteMDP
from policygrad.tabular.moments import moments
from policygrad.tabular.parabola import parabola
from policygrad.tabular.policy import TabularPolicy
from policygrad.tabular.precision import in_float64
from policygrad.tabular.problem import AllAction, is_total_return, problem_of, uses_leave_one_out

Family = Literal["constant", "time", "state", "state_time", "linear", "per_parameter"]
FAMILIES: tuple[Family, ...] = get_args(Family)


@dataclass(frozen=True)
class OptimalBaseline:
    """The best baseline of a family, and what it achieves.

    Attributes:
        family: its name.
        values: `[T, S]` (`[S]` without a horizon), b on every state; `[d]`, one constant a
            parameter, for `per_parameter`.
        coefficients: of the family: `[]`, `[T]`, `[S]`, `[T, S]`, one a feature, or `[d]`. Zero for
            a state that is never visited, where the baseline does not matter.
        curvature: K, of the shape of `values`: the variance that a unit of squared error adds.
        variance: trace of the estimator's covariance with this baseline.
    """

    family: Family
    values: Float[np.ndarray, "..."]
    coefficients: Float[np.ndarray, "..."]
    curvature: Float[np.ndarray, "..."]
    variance: float

    def baseline(self) -> Table:
        """The values as a baseline for an estimator.

        Raises:
            ValueError: the family is "per_parameter", which is not a baseline of states.
        """
        if self.family == "per_parameter":
            raise ValueError("per_parameter is a control variate, not a baseline of states")
        return baselines.table(self.values)


@in_float64
def optimal_baseline(
    mdp: FiniteMDP,
    policy: TabularPolicy,
    estimator: Estimator,
    family: Family = "state_time",
    state: EstimatorState | None = None,
    *,
    features: Float[np.ndarray, "*T S f"] | None = None,
) -> OptimalBaseline:
    """The baseline of a family that minimises the variance of an estimator.

    b = argmin Σ K (b − b*)², b* = E[‖z_t‖² G_t + z_t·(…)] / E‖z_t‖².  [E6, E8]

    Args:
        mdp, policy: as in `moments`.
        estimator: its baseline is ignored; its critic is kept.
        family: "constant", "time", "state", "state_time", "linear" in `features`, or
            "per_parameter": one constant for each entry of the gradient.
        state: of its critic, if the critic was fitted.
        features: `[S, f]` or `[T, S, f]`, for "linear" alone.

    Returns:
        `OptimalBaseline`. Without a horizon "time" and "state_time" do not exist, and "state" is
        the best stationary one.

    Raises:
        ValueError: an unknown family, a family that needs a horizon, or features of a wrong shape.

    Bias: none; a baseline does not change the estimator's mean.

    Source: Greensmith et al. 2004, Peters & Schaal 2008 (per parameter), with the cross-time terms.
    """
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}")
    if mdp.horizon is None and family in ("time", "state_time"):
        raise ValueError(f"family {family!r} needs a horizon, and this MDP has none; use 'state'")
    by_parameter = family == "per_parameter"
    bare = _without_baseline(estimator)
    start = moments(mdp, policy, bare, _critic_only(state)).variance
    k, n = _parabola(mdp, policy, bare, state, by_parameter)
    values, coefficients = _project(family, k, n, mdp, features)
    gained = np.sum(k * values**2 - 2 * n * values)
    if by_parameter:
        values, k = coefficients, k.sum(tuple(range(k.ndim - 1)))
    return OptimalBaseline(family, values, coefficients, k, float(start + gained))


@in_float64
def excess_variance(
    mdp: FiniteMDP,
    policy: TabularPolicy,
    estimator: Estimator,
    state: EstimatorState | None = None,
) -> float:
    """By how much the variance with the estimator's baseline exceeds that with the optimal one.

    Σ K_{t,s} (b_t(s) − b*_t(s))² = Var(b) − Var(b*).

    Args:
        mdp, policy, estimator, state: as in `moments`. The baseline must be a function of state and
            time.

    Returns:
        Variance of one trajectory's estimate above the least possible. Without a horizon the least
        is that of the best stationary baseline.

    Raises:
        ValueError: leave-one-out or all-action, whose baseline is not such a function.

    Bias: none.

    Source: as in `optimal_baseline`.
    """
    if isinstance(estimator, AllAction) or uses_leave_one_out(estimator):
        raise ValueError("excess_variance needs a baseline that is a function of state and time")
    b = np.asarray(problem_of(mdp, policy, estimator, state).tables.baseline)
    bare = _without_baseline(estimator)
    k, n = _parabola(mdp, policy, bare, state)
    return float(np.sum(k * (b - _ratio(n, k)) ** 2))


def _without_baseline(estimator: Estimator) -> Estimator:
    if isinstance(estimator, AllAction):
        raise ValueError("the all-action estimator has no baseline: it would cancel exactly")
    return replace(estimator, baseline=baselines.none())


def _parabola(
    mdp: FiniteMDP,
    policy: TabularPolicy,
    bare: Estimator,
    state: EstimatorState | None,
    by_parameter: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """K and N of an estimator without a baseline."""
    problem = problem_of(mdp, policy, bare, _critic_only(state))
    whole_return = is_total_return(bare)
    found = parabola(problem, whole_return=whole_return, by_parameter=by_parameter)
    return np.asarray(found.curvature), np.asarray(found.slope)


def _critic_only(state: EstimatorState | None) -> EstimatorState | None:
    return None if state is None else state._replace(baseline=())


def _ratio(n: np.ndarray, k: np.ndarray) -> np.ndarray:
    return np.divide(n, k, out=np.zeros_like(n), where=k > 0)


def _project(
    family: Family,
    k: np.ndarray,
    n: np.ndarray,
    mdp: FiniteMDP,
    features: Float[np.ndarray, "*T S f"] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The best member of the family on every state, and its coefficients."""
    if family == "linear":
        return _linear(k, n, mdp, features)
    if features is not None:
        raise ValueError(f"features are for family 'linear', got family {family!r}")
    summed = {
        "constant": tuple(range(k.ndim)),
        "time": (1,),
        "state": tuple(range(k.ndim - 1)),
        "state_time": (),
        "per_parameter": tuple(range(k.ndim - 1)),
    }[family]
    best = _ratio(n.sum(summed, keepdims=True), k.sum(summed, keepdims=True))
    return np.broadcast_to(best, k.shape), best.squeeze(summed)


def _linear(
    k: np.ndarray, n: np.ndarray, mdp: FiniteMDP, features: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    if features is None:
        raise ValueError("family 'linear' needs features, [S, f] or [T, S, f]")
    phi = np.asarray(features, np.float64)
    if phi.ndim not in (2, k.ndim + 1) or phi.shape[:-1] != k.shape[-(phi.ndim - 1) :]:
        raise ValueError(f"features must be {(*k.shape, 'f')} or [S, f], got shape {phi.shape}")
    phi = np.broadcast_to(phi, (*k.shape, phi.shape[-1])) * ~mdp.absorbing[:, None]
    flat = phi.reshape(-1, phi.shape[-1])
    gram, target = (flat * k.reshape(-1, 1)).T @ flat, flat.T @ n.reshape(-1)
    coefficients = np.linalg.pinv(gram, rcond=1e-13, hermitian=True) @ target
    return phi @ coefficients, coefficients

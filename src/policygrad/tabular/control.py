"""Variance-optimal baselines: the variance is a parabola in every b_t(s), and here are its numbers.

The controls w_t z_t 1(s_t = s) are uncorrelated with each other, so

    Var(b) = Var(b*) + Σ K_{t,s} (b_t(s) − b*_t(s))²,   K_{t,s} = w_t² P(s_t = s) E_a‖z‖²,

and the best baseline of a family is the K-weighted projection of b* = N / K onto it. N has three
parts: of the step's own return, of the scores that follow, and of the scores before it.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from policygrad import baselines
from policygrad.baselines.table import Table
from policygrad.estimators import Estimator, EstimatorState
from policygrad.tabular import recursions as step
from policygrad.tabular import to_go, total
from policygrad.tabular.linear import fixed_point, nilpotent
from policygrad.tabular.mdp import FiniteMDP, between_states, on_successors, push_values
from policygrad.tabular.moments import moments
from policygrad.tabular.policy import TabularPolicy
from policygrad.tabular.precision import in_float64
from policygrad.tabular.problem import AllAction, Problem, problem_of, uses_leave_one_out
from policygrad.tabular.recursions import Returns

Family = Literal["constant", "time", "state", "state_time", "linear", "per_parameter"]
FAMILIES: tuple[Family, ...] = (
    "constant",
    "time",
    "state",
    "state_time",
    "linear",
    "per_parameter",
)


class Parabola(NamedTuple):
    """Var(b) = Var(0) + Σ K b² − 2 Σ N b; `[T, S]` or `[S]` each, with `d` where by parameter."""

    curvature: Float[Array, "*T S"]
    slope: Float[Array, "*T S"]


@dataclass(frozen=True)
class OptimalBaseline:
    """The best baseline of a family, and what it achieves.

    Attributes:
        family: which.
        values: `[T, S]` (`[S]` without a horizon), b on every state; `[d]`, one constant a
            parameter, for `per_parameter`.
        coefficients: of the family: `[]`, `[T]`, `[S]`, `[T, S]`, one a feature, or `[d]`. Zero
            where a state is never visited, as nothing is at stake there.
        curvature: K, like `values`; what a unit of squared error costs.
        variance: trace of the estimator's covariance with this baseline.
    """

    family: Family
    values: Float[np.ndarray, "..."]
    coefficients: Float[np.ndarray, "..."]
    curvature: Float[np.ndarray, "..."]
    variance: float

    def baseline(self) -> Table:
        """The same as a baseline that an estimator takes.

        Raises:
            ValueError: one number a parameter is not a baseline of states.
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
        estimator: its own baseline is set aside; its critic is kept.
        family: "constant", "time", "state", "state_time", "linear" in `features`, or
            "per_parameter": one constant for each entry of the gradient.
        state: of its critic, where that was fitted.
        features: `[S, f]` or `[T, S, f]`, for "linear" alone.

    Returns:
        `OptimalBaseline`. Without a horizon "time" and "state_time" do not exist, and "state" is
        the best stationary one.

    Raises:
        ValueError: an unknown family, one that needs a horizon, or features that do not fit.

    Bias: none; it leaves the estimator's mean as it is.

    Source: Greensmith et al. 2004, Peters & Schaal 2008 (per parameter), with the cross-time terms.
    """
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}")
    if mdp.horizon is None and family in ("time", "state_time"):
        raise ValueError(f"family {family!r} needs a horizon, and this MDP has none; use 'state'")
    by_parameter = family == "per_parameter"
    bare = _without_baseline(estimator)
    start = moments(mdp, policy, bare, _critic_only(state)).variance
    parabola = _parabola(mdp, policy, bare, state, by_parameter)
    k, n = (np.asarray(x) for x in parabola)
    values, coefficients = _project(family, k, n, mdp, features)
    gained = np.sum(k * values**2 - 2 * n * values)
    if by_parameter:
        values = coefficients
    return OptimalBaseline(family, values, coefficients, k, float(start + gained))


@in_float64
def excess_variance(
    mdp: FiniteMDP,
    policy: TabularPolicy,
    estimator: Estimator,
    state: EstimatorState | None = None,
) -> float:
    """What an estimator's own baseline costs above the optimal one.

    Σ K_{t,s} (b_t(s) − b*_t(s))² = Var(b) − Var(b*).

    Args:
        mdp, policy, estimator, state: as in `moments`; the baseline a function of state and time.

    Returns:
        Variance of one trajectory's estimate; above the best stationary baseline without a horizon.

    Raises:
        ValueError: leave-one-out or all-action, which have no such baseline.

    Bias: none.

    Source: as in `optimal_baseline`.
    """
    if isinstance(estimator, AllAction) or uses_leave_one_out(estimator):
        raise ValueError("excess_variance needs a baseline that is a function of state and time")
    b = np.asarray(problem_of(mdp, policy, estimator, state).tables.baseline)
    k, n = (np.asarray(x) for x in _parabola(mdp, policy, estimator, state, False))
    return float(np.sum(k * (b - _ratio(n, k)) ** 2))


def _without_baseline(estimator: Estimator) -> Estimator:
    if isinstance(estimator, AllAction):
        raise ValueError("the all-action estimator has no baseline: it would cancel exactly")
    return replace(estimator, baseline=baselines.none())


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
    """The family's best member on every state, and its coefficients."""
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


def _parabola(
    mdp: FiniteMDP,
    policy: TabularPolicy,
    estimator: Estimator,
    state: EstimatorState | None,
    by_parameter: bool,
) -> Parabola:
    bare = _without_baseline(estimator)
    problem = problem_of(mdp, policy, bare, _critic_only(state))
    whole = estimator.form == "total_return"
    choices = {
        (False, True): _to_go_finite,
        (False, False): _to_go_infinite,
        (True, True): _total_finite,
        (True, False): _total_infinite,
    }
    return choices[whole, mdp.horizon is not None](problem, by_parameter=by_parameter)


# Σ_a of something times a score: over parameters too, unless by parameter


def _squares(problem: Problem, weights: Float[Array, "S A"], by_parameter: bool) -> Array:
    scores = problem.policy.scores
    if by_parameter:
        return jnp.einsum("sa,sad->sd", weights, scores.z**2)
    return jnp.sum(weights * scores.squares, axis=1)


def _with_state(
    problem: Problem, weights: Float[Array, "S A"], vectors: Array, by_parameter: bool
) -> Array:
    product = problem.policy.scores.mean(weights) * vectors
    return product if by_parameter else jnp.sum(product, axis=1)


def _with_successor(
    problem: Problem, weights: Float[Array, "S A K"], vectors: Array, by_parameter: bool
) -> Array:
    edges, scores = problem.edges, problem.policy.scores
    if not by_parameter:
        return jnp.sum(weights * scores.dots(edges, vectors), axis=(1, 2))
    if edges.successors is None:
        ahead = jnp.einsum("sak,kd->sad", weights, vectors)
    else:
        ahead = jnp.einsum("sak,sakd->sad", weights, on_successors(edges, vectors))
    return jnp.einsum("sad,sad->sd", scores.z, ahead)


def _weigh(visits: Float[Array, " S"], rows: Array) -> Array:
    return visits.reshape(-1, *[1] * (rows.ndim - 1)) * rows


def _to_go_slope(
    problem: Problem,
    given: Returns,
    later: Float[Array, "S d"],
    visits: Float[Array, " S"],
    past: Float[Array, "S p d"],
    by_parameter: bool,
) -> Parabola:
    """K and N of one step (or summed over time): own return, later scores, earlier scores."""
    pi, omega = problem.policy.probabilities, problem.targets.omega
    weights = pi[..., None] * problem.edges.weights
    own = _squares(problem, pi * given.first[..., -1], by_parameter)
    own = own + omega * _with_successor(problem, weights, later, by_parameter)
    earlier = sum(
        _with_state(problem, pi * given.first[..., i], past[:, i], by_parameter)
        for i in range(past.shape[1])
    )
    curvature = _weigh(visits, _squares(problem, pi, by_parameter))
    return Parabola(curvature, _weigh(visits, own) + earlier)


@partial(jax.jit, static_argnames="by_parameter")
def _to_go_finite(problem: Problem, *, by_parameter: bool) -> Parabola:
    tables, targets = problem.tables, problem.targets
    pi, scores = problem.policy
    _, given = to_go.finite_returns(problem)
    p_t = to_go.occupancies(problem)

    def backward(m: Array, row: tuple) -> tuple[Array, Array]:
        return step.mean_step(problem, row[0], row[1], m), m

    empty = jnp.zeros_like(scores.mean(pi))
    _, later = jax.lax.scan(backward, empty, (tables.baseline, given), reverse=True)

    def forward(past: Array, row: tuple) -> tuple[Array, Parabola]:
        p, given, later, fade = row
        here = _to_go_slope(problem, given, later, fade * p, fade * past, by_parameter)
        return step.past_scores_after(problem, p, past), here

    start = jnp.zeros((len(pi), len(targets.bootstrap), empty.shape[1]))
    fading = targets.omega ** (2 * jnp.arange(len(p_t)))
    return jax.lax.scan(forward, start, (p_t, given, later, fading))[1]


@partial(jax.jit, static_argnames="by_parameter")
def _to_go_infinite(problem: Problem, *, by_parameter: bool) -> Parabola:
    given, m, x, occupancy = to_go.stationary(problem)
    omega, trace = problem.targets.omega, problem.targets.trace

    def past_once(e: Array) -> Array:
        return omega**2 * step.past_scores_after(problem, occupancy, e)

    past = nilpotent(past_once, jnp.zeros_like(x), x.shape[1])
    if x.shape[1] == 1:
        weights = problem.policy.probabilities[..., None] * problem.edges.weights
        chain = between_states(problem.edges, weights)
        past = fixed_point(omega**2 * trace[0, 0] * chain.T, past)
    return _to_go_slope(problem, given, m, occupancy, past, by_parameter)


def _total_slope(
    problem: Problem,
    given: Returns,
    later: Float[Array, "S d"],
    before: total.Past,
    past: Float[Array, "S d"],
    by_parameter: bool,
) -> Parabola:
    pi, gamma = problem.policy.probabilities, problem.targets.discount
    first = given.first[..., 0]
    earned = before.rho1[:, None] + before.rho0_gamma[:, None] * first
    weights = gamma * (before.rho0_gamma[:, None] * pi)[..., None] * problem.edges.weights
    slope = _squares(problem, pi * earned, by_parameter)
    slope = slope + _with_successor(problem, weights, later, by_parameter)
    slope = slope + _with_state(problem, pi * first, past, by_parameter)
    return Parabola(_weigh(before.rho0, _squares(problem, pi, by_parameter)), slope)


def _past_scores(problem: Problem, before: total.Past, past: Array) -> Array:
    """γ^t Σ_{k<t} z_k on each state, one step later."""
    weights = problem.policy.probabilities[..., None] * problem.edges.weights
    own = (before.rho0_gamma[:, None, None]) * weights
    moved = push_values(problem.edges, weights, past)
    return problem.targets.discount * (moved + step.scores_into(problem, own))


@partial(jax.jit, static_argnames="by_parameter")
def _total_finite(problem: Problem, *, by_parameter: bool) -> Parabola:
    tables, (pi, scores) = problem.tables, problem.policy
    _, given = to_go.finite_returns(problem)
    empty = jnp.zeros_like(scores.mean(pi))

    def backward(later: total.Future, row: tuple) -> tuple[total.Future, Array]:
        return total.future_before(problem, row[0], row[1], later), later.a

    start = total.Future(empty, empty, empty)
    _, later = jax.lax.scan(backward, start, (tables.baseline, given), reverse=True)

    def forward(carry: tuple, row: tuple) -> tuple[tuple, Parabola]:
        before, past = carry
        here = _total_slope(problem, row[0], row[1], before, past, by_parameter)
        return (total.past_after(problem, before), _past_scores(problem, before, past)), here

    return jax.lax.scan(forward, (total.past_at_start(problem), empty), (given, later))[1]


@partial(jax.jit, static_argnames="by_parameter")
def _total_infinite(problem: Problem, *, by_parameter: bool) -> Parabola:
    given, later, before = total.stationary(problem)
    weights = problem.policy.probabilities[..., None] * problem.edges.weights
    chain = between_states(problem.edges, weights)
    once = _past_scores(problem, before, jnp.zeros_like(later.a))
    past = fixed_point(problem.targets.discount * chain.T, once)
    return _total_slope(problem, given, later.a, before, past, by_parameter)

"""The variance as a function of the baseline: a parabola, since the controls are uncorrelated.

The controls w_t z_t 1(s_t = s) are uncorrelated with each other, so

    Var(b) = Var(b*) + Σ K_{t,s} (b_t(s) − b*_t(s))²,   K_{t,s} = w_t² P(s_t = s) E_a‖z‖²,

with b* = N / K. N has three parts: from the return of the step itself, from later scores, and from
earlier scores.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from policygrad.devices.compiled_code import compiled
from policygrad.tabular import recursions, to_go, total
from policygrad.tabular.linear_systems import fixed_point, nilpotent
from policygrad.tabular.mdp import on_successors, push_values
from policygrad.tabular.problem import Problem
from policygrad.tabular.recursions import Returns


class Parabola(NamedTuple):
    """K and N in Var(b) = Var(0) + Σ K b² − 2 Σ N b; `[T, S]` or `[S]`, by parameter with `d`."""

    curvature: Float[Array, "*T S"]
    slope: Float[Array, "*T S"]


def parabola(problem: Problem, *, whole_return: bool, by_parameter: bool) -> Parabola:
    """K and N of every state (and time).

    Args:
        problem: an estimator without a baseline.
        whole_return: whether the return is the total return, instead of a return to go.
        by_parameter: whether to give every entry of the gradient separately, instead of the trace.
    """
    choices = {
        (False, True): _to_go_finite,
        (False, False): _to_go_infinite,
        (True, True): _total_finite,
        (True, False): _total_infinite,
    }
    return choices[whole_return, problem.finite](problem, by_parameter=by_parameter)


# Σ_a of something times a score; summed over parameters too, unless by parameter


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
    """K and N of one step (or summed over time): this return, later and earlier scores."""
    pi, omega = problem.policy.probabilities, problem.targets.omega
    own = _squares(problem, pi * given.first[..., -1], by_parameter)
    own = own + omega * _with_successor(problem, problem.moves, later, by_parameter)
    earlier = sum(
        _with_state(problem, pi * given.first[..., i], past[:, i], by_parameter)
        for i in range(past.shape[1])
    )
    curvature = _weigh(visits, _squares(problem, pi, by_parameter))
    return Parabola(curvature, _weigh(visits, own) + earlier)


@partial(compiled, static_argnames="by_parameter")
def _to_go_finite(problem: Problem, *, by_parameter: bool) -> Parabola:
    tables = problem.tables
    pi, scores = problem.policy
    _, given = to_go.finite_returns(problem)
    p_t = to_go.occupancies(problem)

    def backward(m: Array, row: tuple) -> tuple[Array, Array]:
        return recursions.mean_step(problem, row[0], row[1], m), m

    empty = jnp.zeros_like(scores.mean(pi))
    _, later = jax.lax.scan(backward, empty, (tables.baseline, given), reverse=True)

    def forward(past: Array, row: tuple) -> tuple[Array, Parabola]:
        p, given, later, fade, targets = row
        here = _to_go_slope(problem, given, later, fade * p, fade * past, by_parameter)
        return recursions.past_scores_after(problem.at(targets), p, past), here

    start = jnp.zeros((len(pi), problem.coupled, empty.shape[1]))
    fading = problem.targets.omega ** (2 * jnp.arange(len(p_t)))
    return jax.lax.scan(forward, start, (p_t, given, later, fading, problem.step_targets))[1]


@partial(compiled, static_argnames="by_parameter")
def _to_go_infinite(problem: Problem, *, by_parameter: bool) -> Parabola:
    given, m, x, occupancy = to_go.stationary(problem)
    omega, trace = problem.targets.omega, problem.targets.trace

    def past_once(e: Array) -> Array:
        return omega**2 * recursions.past_scores_after(problem, occupancy, e)

    past = nilpotent(past_once, jnp.zeros_like(x), x.shape[1])
    if x.shape[1] == 1:
        past = fixed_point(omega**2 * trace[0, 0] * problem.coupled_chain.T, past)
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
    weights = gamma * before.rho0_gamma[:, None, None] * problem.moves
    slope = _squares(problem, pi * earned, by_parameter)
    slope = slope + _with_successor(problem, weights, later, by_parameter)
    slope = slope + _with_state(problem, pi * first, past, by_parameter)
    return Parabola(_weigh(before.rho0, _squares(problem, pi, by_parameter)), slope)


def _past_scores(problem: Problem, before: total.Past, past: Array) -> Array:
    """γ^t Σ_{k<t} z_k on each state, one step later."""
    own = before.rho0_gamma[:, None, None] * problem.moves
    moved = push_values(problem.edges, problem.moves, past)
    return problem.targets.discount * (moved + recursions.scores_into(problem, own))


@partial(compiled, static_argnames="by_parameter")
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


@partial(compiled, static_argnames="by_parameter")
def _total_infinite(problem: Problem, *, by_parameter: bool) -> Parabola:
    given, later, before = total.stationary(problem)
    once = _past_scores(problem, before, jnp.zeros_like(later.a))
    past = fixed_point(problem.targets.discount * problem.chain.T, once)
    return _total_slope(problem, given, later.a, before, past, by_parameter)

"""Exact sums for the all-action estimator: g_t = w_t f_t(s_t), f_t(s) = Σ_a ∇π(a|s) Q_t(s, a)."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from policygrad.devices.compiled_code import compiled
from policygrad.tabular import recursions
from policygrad.tabular.linear_systems import fixed_point
from policygrad.tabular.mdp import pull
from policygrad.tabular.problem import Problem
from policygrad.tabular.recursions import Sums
from policygrad.tabular.to_go import Whole, empty_returns, occupancies, stationary_returns


def _terms(
    problem: Problem, f: Float[Array, "S d"], later: Float[Array, "S d"], weight: Float[Array, " S"]
) -> tuple[Array, Array, Array]:
    """D, C and the upper half of E[ĝ ĝᵀ], of one step; `later` is ω E[m' | s]."""
    weighted = weight[:, None] * f
    return jnp.sum(weighted * f), 2 * jnp.sum(weighted * later), weighted.T @ (f / 2 + later)


def _whole(
    problem: Problem, mean: Array, diagonal: Array, cross: Array, half: Array | None
) -> Whole:
    outer = jnp.zeros_like(problem.policy.probabilities)
    # approximation (ii) needs a sampled score; this estimator samples none
    sums = Sums(diagonal, cross, jnp.full((), jnp.nan), outer, None)
    return Whole(mean, sums, None if half is None else half + half.T)


@partial(compiled, static_argnames="with_covariance")
def finite(problem: Problem, *, with_covariance: bool) -> Whole:
    """T steps. The coupling is γ for the exact Q, and 0 for a reward plus the critic."""
    (pi, scores), omega = problem.policy, problem.targets.omega
    p_t = occupancies(problem)
    fading = omega ** (2 * jnp.arange(len(p_t)))

    def backward(carry: tuple, row: tuple) -> tuple[tuple, None]:
        after, m, diagonal, cross, half = carry
        next_values, p, fade = row
        given = recursions.returns_given_action(problem, next_values, after)
        f = scores.mean(pi * given.first[..., 0])
        later = omega * pull(problem.edges, problem.moves, m)
        d, c, h = _terms(problem, f, later, fade * p)
        half = half + h if with_covariance else half
        return (
            recursions.over_actions(problem, given),
            f + later,
            diagonal + d,
            cross + c,
            half,
        ), None

    m = jnp.zeros_like(scores.mean(pi))
    nothing, half = jnp.zeros(()), jnp.zeros((m.shape[1],) * 2) if with_covariance else None
    start = (empty_returns(problem), m, nothing, nothing, half)
    rows = problem.tables.next_values, p_t, fading
    (_, m, diagonal, cross, half), _ = jax.lax.scan(backward, start, rows, reverse=True)
    return _whole(problem, problem.edges.initial @ m, diagonal, cross, half)


@partial(compiled, static_argnames="with_covariance")
def infinite(problem: Problem, *, with_covariance: bool) -> Whole:
    """No horizon."""
    (pi, scores), omega = problem.policy, problem.targets.omega
    chain = problem.chain
    _, given = stationary_returns(problem)
    f = scores.mean(pi * given.first[..., 0])
    m = fixed_point(omega * chain, f)
    occupancy = fixed_point(omega**2 * chain.T, problem.edges.initial)
    d, c, half = _terms(problem, f, omega * pull(problem.edges, problem.moves, m), occupancy)
    return _whole(problem, problem.edges.initial @ m, d, c, half if with_covariance else None)

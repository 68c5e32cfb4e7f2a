"""Exact sums for the total return: every score times (R(τ) − b_t(s_t)).

At step t the return is R = ρ + γ^t G, the rewards before t plus the rewards from t on. Given s_t
the two are independent. The past enters as six numbers for each state, E[γ^{jt} ρ^i 1(s_t = s)].
The future enters as three vectors, since E[Z'|s'] = E[Y'|s'] = 0 (E7):

    a = E[G Z],  c = E[G² Z],  e = E[G Y],   Z = z + Z',  Y = z b + Y',  G = r + γ G'.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from policygrad.devices.compiled_code import compiled
from policygrad.tabular import recursions
from policygrad.tabular.linear_systems import fixed_point, stein
from policygrad.tabular.mdp import between_states, pull, push
from policygrad.tabular.problem import Problem
from policygrad.tabular.recursions import Pair, Returns, Sums
from policygrad.tabular.to_go import Whole, empty_returns, stationary_returns


class Past(NamedTuple):
    """Moments of the rewards before t, for each state: `[S]` each, E[γ^{jt} ρ^i 1(s_t = s)].

    The fields are named by i and j.
    """

    rho0: Float[Array, " S"]
    rho0_gamma: Float[Array, " S"]
    rho0_gamma2: Float[Array, " S"]
    rho1: Float[Array, " S"]
    rho1_gamma: Float[Array, " S"]
    rho2: Float[Array, " S"]


class Future(NamedTuple):
    """a, c and e: `[S, d]` each."""

    a: Float[Array, "S d"]
    c: Float[Array, "S d"]
    e: Float[Array, "S d"]


def past_at_start(problem: Problem) -> Past:
    """The past at t = 0: no rewards yet."""
    p, nothing = problem.edges.initial, jnp.zeros_like(problem.edges.initial)
    return Past(p, p, p, nothing, nothing, nothing)


def past_after(problem: Problem, past: Past) -> Past:
    """One step later: ρ' = ρ + γ^t r."""
    edges, weights, gamma = problem.edges, problem.moves, problem.targets.discount

    def moved(q: Array, power: int = 0) -> Array:
        rewards = (1.0, edges.rewards, edges.rewards**2 + edges.variances)[power]
        return push(edges, q[:, None, None] * weights * rewards)

    return Past(
        moved(past.rho0),
        gamma * moved(past.rho0_gamma),
        gamma**2 * moved(past.rho0_gamma2),
        moved(past.rho1) + moved(past.rho0_gamma, 1),
        gamma * (moved(past.rho1_gamma) + moved(past.rho0_gamma2, 1)),
        moved(past.rho2) + 2 * moved(past.rho1_gamma, 1) + moved(past.rho0_gamma2, 2),
    )


def past_matrix(problem: Problem) -> Float[Array, "6S 6S"]:
    """`past_after` as a matrix on the six fields in a row."""
    edges, weights, gamma = problem.edges, problem.moves, problem.targets.discount
    t = problem.chain.T
    r = between_states(edges, weights * edges.rewards).T
    r2 = between_states(edges, weights * (edges.rewards**2 + edges.variances)).T
    o = jnp.zeros_like(t)
    return jnp.block(
        [
            [t, o, o, o, o, o],
            [o, gamma * t, o, o, o, o],
            [o, o, gamma**2 * t, o, o, o],
            [o, r, o, t, o, o],
            [o, o, gamma * r, o, gamma * t, o],
            [o, o, r2, o, 2 * r, t],
        ]
    )


def squared_weights(
    problem: Problem, b: Float[Array, " S"], noise: Float[Array, ""], past: Past, given: Returns
) -> Float[Array, "S A"]:
    """π(a|s) E[(R − b)² 1(s_t = s) | a], the variance of a noisy b included."""
    first, second = given.first[..., 0], given.second[..., 0, 0]
    before = past.rho2 - 2 * b * past.rho1 + (b**2 + noise) * past.rho0
    both = (past.rho1_gamma - b * past.rho0_gamma)[:, None] * first
    square = before[:, None] + 2 * both + past.rho0_gamma2[:, None] * second
    return problem.edges.alive[:, None] * problem.policy.probabilities * square


def future_before(problem: Problem, b: Float[Array, " S"], given: Returns, later: Future) -> Future:
    """a, c and e, from those one step later."""
    (pi, scores), edges, gamma = problem.policy, problem.edges, problem.targets.discount
    weights = problem.moves
    first, second = given.first[..., 0], given.second[..., 0, 0]
    earned = pull(edges, 2 * gamma * weights * edges.rewards, later.a)
    return Future(
        scores.mean(pi * first) + gamma * pull(edges, weights, later.a),
        scores.mean(pi * second) + earned + gamma**2 * pull(edges, weights, later.c),
        scores.mean(pi * b[:, None] * first) + gamma * pull(edges, weights, later.e),
    )


def future_pairs(problem: Problem, b: Float[Array, " S"], past: Past, later: Future) -> list[Pair]:
    """E[(R − b_t)(R Z' − Y')] on every edge, with the past's moments and the policy."""
    edges, weights, gamma = problem.edges, problem.moves, problem.targets.discount
    twice = gamma * (2 * past.rho1_gamma - b * past.rho0_gamma)[:, None, None]
    twice = twice + 2 * gamma * past.rho0_gamma2[:, None, None] * edges.rewards
    return [
        (weights * twice, later.a),
        (weights * gamma**2 * past.rho0_gamma2[:, None, None], later.c),
        (-weights * gamma * past.rho0_gamma[:, None, None], later.e),
    ]


@partial(compiled, static_argnames="with_covariance")
def finite(problem: Problem, *, with_covariance: bool) -> Whole:
    """T steps: the past forward, the future backward."""
    tables, (pi, scores) = problem.tables, problem.policy

    def forward(past: Past, _: None) -> tuple[Past, Past]:
        return past_after(problem, past), past

    pasts = jax.lax.scan(forward, past_at_start(problem), None, length=len(tables.noise))[1]
    visited = jnp.sum(pi * scores.squares, 1)

    def backward(carry: tuple, row: tuple) -> tuple[tuple, None]:
        after, later, total = carry
        b, next_values, noise, past = row
        given = recursions.returns_given_action(problem, next_values, after)
        outer = squared_weights(problem, b, noise, past, given)
        pairs = future_pairs(problem, b, past, later)
        here = recursions.add_up(problem, outer, pairs, with_covariance)
        here = here._replace(factored=(past.rho0 @ visited) * jnp.sum(outer))
        total = jax.tree.map(jnp.add, total, here)
        later = future_before(problem, b, given, later)
        return (recursions.over_actions(problem, given), later, total), None

    empty = jnp.zeros_like(scores.mean(pi))
    nothing, d = jnp.zeros(()), empty.shape[1]
    mixed = jnp.zeros((d, d)) if with_covariance else None
    start = (
        empty_returns(problem),
        Future(empty, empty, empty),
        Sums(nothing, nothing, nothing, jnp.zeros_like(pi), mixed),
    )
    (_, later, total), _ = jax.lax.scan(backward, start, (*tables, pasts), reverse=True)
    second = recursions.outer_product(scores, total) if with_covariance else None
    return Whole(problem.edges.initial @ later.a, total, second)


class Stationary(NamedTuple):
    """The fixed point of the future, and the past summed over time."""

    given: Returns
    later: Future
    past: Past


def stationary(problem: Problem) -> Stationary:
    """Every quantity of the recursion without a horizon, by linear systems."""
    gamma, chain = problem.targets.discount, problem.chain
    b = problem.tables.baseline
    _, given = stationary_returns(problem)

    empty = jnp.zeros_like(problem.policy.scores.mean(problem.policy.probabilities))
    once = future_before(problem, b, given, Future(empty, empty, empty))
    a, e = fixed_point(gamma * chain, once.a), fixed_point(gamma * chain, once.e)
    twice = future_before(problem, b, given, Future(a, empty, e))
    later = Future(a, fixed_point(gamma**2 * chain, twice.c), e)

    start = jnp.concatenate(past_at_start(problem))
    past = fixed_point(past_matrix(problem), start)
    return Stationary(given, later, Past(*past.reshape(6, -1)))


@partial(compiled, static_argnames="with_covariance")
def infinite(problem: Problem, *, with_covariance: bool) -> Whole:
    """No horizon, where absorption is certain."""
    pi, scores = problem.policy
    b, _, noise = problem.tables
    given, later, past = stationary(problem)
    outer = squared_weights(problem, b, noise, past, given)
    pairs = future_pairs(problem, b, past, later)
    sums = recursions.add_up(problem, outer, pairs, with_covariance)

    # approximation (ii) multiplies two expectations at each t: Σ_t p_t ⊗ (moments of the past at t)
    initial = problem.edges.initial
    start = jnp.concatenate(past_at_start(problem))
    both = stein(problem.chain.T, past_matrix(problem), jnp.outer(initial, start))
    pasts = Past(*(jnp.sum(pi * scores.squares, 1) @ both).reshape(6, -1))
    factored = jnp.sum(squared_weights(problem, b, noise, pasts, given))
    sums = sums._replace(factored=factored)
    second = recursions.outer_product(scores, sums) if with_covariance else None
    return Whole(initial @ later.a, sums, second)

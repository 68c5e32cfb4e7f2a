"""Exact sums for estimators whose weight is a return to go, with and without a horizon."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from policygrad.devices.compiled_code import compiled
from policygrad.tabular import recursions
from policygrad.tabular.linear_systems import fixed_point, nilpotent, stein
from policygrad.tabular.problem import Problem
from policygrad.tabular.recursions import Returns, Sums


class Whole(NamedTuple):
    """Mean and sums of an estimator, as the recursions compute them.

    Attributes:
        mean: `[d]`.
        sums: of all steps.
        second: `[d, d]`, E[ĝ ĝᵀ]; None unless asked for.
    """

    mean: Float[Array, " d"]
    sums: Sums
    second: Float[Array, "d d"] | None


def occupancies(problem: Problem) -> Float[Array, "T S"]:
    """`[T, S]`, p_t(s). For an absorbing state, the probability of arriving in it at step t."""

    def forward(p: Array, _: None) -> tuple[Array, Array]:
        return recursions.visits_after(problem, p), p

    steps = len(problem.tables.noise)
    return jax.lax.scan(forward, problem.edges.initial, None, length=steps)[1]


def empty_returns(problem: Problem) -> Returns:
    """The returns after the end of the task: zero."""
    states, p = len(problem.edges.alive), problem.coupled
    return Returns(jnp.zeros((states, p)), jnp.zeros((states, p, p)))


@compiled
def finite_returns(problem: Problem) -> tuple[Returns, Returns]:
    """`[T, S, p…]` and `[T, S, A, p…]`: moments of the returns at every time."""

    def backward(after: Returns, row: tuple) -> tuple[Returns, tuple[Returns, Returns]]:
        next_values, targets = row
        given = recursions.returns_given_action(problem.at(targets), next_values, after)
        now = recursions.over_actions(problem, given)
        return now, (now, given)

    rows = problem.tables.next_values, problem.step_targets
    return jax.lax.scan(backward, empty_returns(problem), rows, reverse=True)[1]


@partial(compiled, static_argnames="with_covariance")
def finite(problem: Problem, *, with_covariance: bool) -> Whole:
    """T steps, by one backward scan."""
    pi, scores = problem.policy
    states, d = len(pi), jax.eval_shape(scores.mean, pi).shape[1]
    p_t = occupancies(problem)
    fading = problem.targets.omega ** (2 * jnp.arange(len(p_t)))

    def backward(carry: tuple, row: tuple) -> tuple[tuple, None]:
        after, m, x, total = carry
        (b, next_values, noise), p, fade, targets = row
        now = problem.at(targets)
        given = recursions.returns_given_action(now, next_values, after)
        square = recursions.squared_weight(now, b, noise, given)
        pairs = recursions.future_pairs(now, b, next_values, fade * p, m, x)
        here = recursions.add_up(now, fade * p[:, None] * pi * square, pairs, with_covariance)
        factored = fade * (p @ jnp.sum(pi * scores.squares, 1)) * (p @ jnp.sum(pi * square, 1))
        total = jax.tree.map(jnp.add, total, here._replace(factored=factored))
        x = recursions.product_step(now, b, next_values, given, m, x)
        m = recursions.mean_step(now, b, given, m)
        return (recursions.over_actions(problem, given), m, x, total), None

    nothing = jnp.zeros(())
    mixed = jnp.zeros((d, d)) if with_covariance else None
    start = (
        empty_returns(problem),
        jnp.zeros((states, d)),
        jnp.zeros((states, problem.coupled, d)),
        Sums(nothing, nothing, nothing, jnp.zeros_like(pi), mixed),
    )
    rows = (problem.tables, p_t, fading, problem.step_targets)
    (_, m, _, total), _ = jax.lax.scan(backward, start, rows, reverse=True)
    second = recursions.outer_product(scores, total) if with_covariance else None
    return Whole(problem.edges.initial @ m, total, second)


def stationary_returns(problem: Problem) -> tuple[Returns, Returns]:
    """`[S, p…]` and `[S, A, p…]`: moments of the returns without a horizon."""
    next_values, kappa = problem.tables.next_values, problem.targets.coupling[0, 0]

    def returns(after: Returns) -> Returns:
        return recursions.over_actions(
            problem, recursions.returns_given_action(problem, next_values, after)
        )

    zero = empty_returns(problem)
    p = zero.first.shape[1]
    if p > 1:  # shifted, so that p applications are exact
        now = nilpotent(returns, zero, p)
    else:
        chain = problem.coupled_chain
        first = fixed_point(kappa * chain, returns(zero).first)
        once = returns(zero._replace(first=first)).second
        now = Returns(first, fixed_point(kappa**2 * chain, once))
    return now, recursions.returns_given_action(problem, next_values, now)


class Stationary(NamedTuple):
    """Fixed points of one step, and its time-summed occupancy."""

    given: Returns
    m: Float[Array, "S d"]
    x: Float[Array, "S p d"]
    occupancy: Float[Array, " S"]


def stationary(problem: Problem) -> Stationary:
    """h, h2, m, x and Σ_t ω^{2t} p_t, by linear systems with I − c P_π."""
    (pi, scores), targets = problem.policy, problem.targets
    b, next_values = problem.tables.baseline, problem.tables.next_values
    chain = problem.chain
    omega = targets.omega
    _, given = stationary_returns(problem)

    states, p, d = len(pi), problem.coupled, jax.eval_shape(scores.mean, pi).shape[1]
    m = fixed_point(omega * chain, recursions.mean_step(problem, b, given, jnp.zeros((states, d))))

    def products(x: Array) -> Array:
        return recursions.product_step(problem, b, next_values, given, m, x)

    empty = jnp.zeros((states, p, d))
    x = nilpotent(products, empty, p)
    if p == 1:
        x = fixed_point(omega * targets.coupling[0, 0] * problem.coupled_chain, x)
    occupancy = fixed_point(omega**2 * chain.T, problem.edges.initial)
    return Stationary(given, m, x, occupancy)


@partial(compiled, static_argnames="with_covariance")
def infinite(problem: Problem, *, with_covariance: bool) -> Whole:
    """No horizon: the fixed point of the same step."""
    (pi, scores), omega = problem.policy, problem.targets.omega
    b, next_values, noise = problem.tables
    given, m, x, occupancy = stationary(problem)
    square = recursions.squared_weight(problem, b, noise, given)
    pairs = recursions.future_pairs(problem, b, next_values, occupancy, m, x)
    sums = recursions.add_up(problem, occupancy[:, None] * pi * square, pairs, with_covariance)
    initial, moved = problem.edges.initial, omega * problem.chain.T
    both = stein(moved, moved, jnp.outer(initial, initial))
    factored = jnp.sum(pi * scores.squares, 1) @ both @ jnp.sum(pi * square, 1)
    sums = sums._replace(factored=factored)
    second = recursions.outer_product(scores, sums) if with_covariance else None
    return Whole(initial @ m, sums, second)

"""The moments with a leave-one-out baseline, made of the k−1 other episodes of the batch.

The baseline β_t of an episode is independent of that episode. It has mean E[G_t] and variance
Var(G_t)/(k−1). As scores of different times are uncorrelated, only the variance at each t matters.
The episodes of a batch depend on each other:

    Cov(ĝ_i, ĝ_j) = (k−1)⁻² Σ_{t,s} w_t w_s E[z_t G_s] E[z_s G_t]ᵀ,

‖∇J‖²/(k−1)² in trace for the total return. Where returns reset at rewards, how much G_s holds of a
later G_t depends on the path, and every pair of times is taken by itself.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from policygrad.devices.compiled_code import compiled
from policygrad.tabular import recursions
from policygrad.tabular.mdp import push, push_values
from policygrad.tabular.problem import Problem
from policygrad.tabular.to_go import finite_returns, occupancies, stationary_returns


def with_batch_baseline(problem: Problem, episodes: int, *, whole_return: bool) -> Problem:
    """The problem with the baseline's mean as b, and its variance as noise.

    Args:
        problem: with a baseline of zero.
        episodes: k.
        whole_return: whether b estimates E[R], one number, instead of E[G_t] at each t.
    """
    tables = problem.tables
    mean, square = _mean_returns(problem)
    if problem.finite and whole_return:
        mean, square = (jnp.broadcast_to(x[:1], x.shape) for x in (mean, square))
    noise = (square - mean**2) / (episodes - 1)
    baseline = mean[..., None] * problem.edges.alive
    return problem._replace(tables=tables._replace(baseline=baseline, noise=noise))


@compiled
def _mean_returns(problem: Problem) -> tuple[Float[Array, "*T"], Float[Array, "*T"]]:
    """E[G_t] and E[G_t²], 0 after the end of an episode. Without a horizon, E[R] and E[R²]."""
    if problem.finite:
        (returns, _), p = finite_returns(problem), occupancies(problem)
    else:
        (returns, _), p = stationary_returns(problem), problem.edges.initial
    first, second = returns.first[..., -1], returns.second[..., -1, -1]
    return jnp.sum(p * first, axis=-1), jnp.sum(p * second, axis=-1)


@partial(compiled, static_argnames="with_covariance")
def between_episodes(problem: Problem, *, with_covariance: bool) -> Array:
    """(k−1)² Cov(ĝ_i, ĝ_j) for returns to go over T steps: the trace, or the matrix."""
    if problem.unpaid is not None:
        matrix = _between_with_resets(problem)
        return matrix if with_covariance else jnp.trace(matrix)
    returns, given = finite_returns(problem)
    p_t = occupancies(problem)
    (pi, scores), omega = problem.policy, problem.targets.omega
    p = problem.coupled

    def forward(e: Array, row: tuple) -> tuple[Array, Array]:
        visits, h, first, fade, targets = row
        own = jnp.stack(
            [visits @ scores.mean(pi * first[..., i]) for i in range(p)]
        )  # E[z_t G_t[i]]
        earlier = jnp.einsum("sid,s->id", e, h[:, -1])  # E[z_k G_t], k < t, traced
        if with_covariance:
            crossed = earlier.T @ own
            term = jnp.outer(own[-1], own[-1]) + crossed + crossed.T
        else:
            term = own[-1] @ own[-1] + 2 * jnp.sum(earlier * own)
        return recursions.past_scores_after(problem.at(targets), visits, e), fade * term

    d = jax.eval_shape(scores.mean, pi).shape[1]
    fading = omega ** (2 * jnp.arange(len(p_t)))
    start = jnp.zeros((len(pi), p, d))
    rows = p_t, returns.first, given.first, fading, problem.step_targets
    return jnp.sum(jax.lax.scan(forward, start, rows)[1], axis=0)


def _between_with_resets(problem: Problem) -> Float[Array, "d d"]:
    """The same for returns that reset at rewards; T² in time, where a return that always goes on
    needs T."""
    returns, given = finite_returns(problem)
    p_t = occupancies(problem)
    (pi, scores), edges = problem.policy, problem.edges
    steps, states, p = returns.first.shape
    weights = problem.targets.omega ** jnp.arange(steps)
    push_all = jax.vmap(lambda moves, x: push_values(edges, moves, x), in_axes=(None, 0))

    def forward(carry: tuple[Array, Array], row: tuple) -> tuple[tuple[Array, Array], Array]:
        """At step t, of every k < t and on each state of t: E[z_k], and E[∂G_k/∂G_t]."""
        past, held = carry
        t, visits, h, first, targets = row
        own = jnp.stack([scores.mean(pi * first[..., i]) for i in range(p)], axis=1)  # z_t G_t
        here = jnp.sum(visits[:, None] * own[:, -1], axis=0)
        later = weights[:, None] * jnp.einsum("ksd,s->kd", past, h[:, -1])  # E[z_k G_t]
        earlier = weights[t] * jnp.einsum("ksi,sid->kd", held, own)  # E[z_t G_k]
        crossed = later.T @ earlier
        term = weights[t] ** 2 * jnp.outer(here, here) + crossed + crossed.T

        moves = visits[:, None, None] * problem.moves
        past = push_all(problem.moves, past).at[t].set(recursions.scores_into(problem, moves))
        held = push_all(problem.coupling_edges(problem.moves), held)
        held = held.at[t, :, -1].set(push(edges, problem.coupling_edges(moves)))
        return (past, held @ problem.at(targets).targets.coupling), term

    d = jax.eval_shape(scores.mean, pi).shape[1]
    start = jnp.zeros((steps, states, d)), jnp.zeros((steps, states, p))
    rows = jnp.arange(steps), p_t, returns.first, given.first, problem.step_targets
    return jnp.sum(jax.lax.scan(forward, start, rows)[1], axis=0)

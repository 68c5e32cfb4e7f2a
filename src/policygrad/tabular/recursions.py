"""The moments' recursions over one step, shared by finite and infinite horizons.

Everything is relative to the time of the step: S_t = z_t (G_t − b_t(s_t)) + ω S_{t+1} is the
estimator from step t on, as if it began there, and ω^{2t} is the weight of step t in the whole. One
step is therefore the same map at every t. With a horizon it is applied T times. Without one its
fixed point is a linear system.

For each state these are carried; primes are one step later, and E is over (a, s', r):

    h  = E[G],   G = u + c Λ G'             h2 = E[G Gᵀ]
    m  = E[z (G − b) + ω S']                x  = E[G z (G − b) + ω G S']

and given (s, a): Hb = E[G], H2 = E[G Gᵀ], y = ω E[(G − b) S'].
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from policygrad.tabular.mdp import on_successors, pull, push, push_values
from policygrad.tabular.policy import Scores
from policygrad.tabular.problem import Problem


class Returns(NamedTuple):
    """First and second moments of the p coupled returns: `[S, (A,) p]`, `[S, (A,) p, p]`."""

    first: Float[Array, "S *A p"]
    second: Float[Array, "S *A p p"]


class Sums(NamedTuple):
    """What one step adds to the second moments of the estimator.

    Attributes:
        diagonal: `[]`, D: Σ E‖g_t‖².
        cross: `[]`, C: 2 Σ_{t<k} E[g_t·g_k].
        factored: `[]`, approximation (ii).
        outer: `[S, A]`, weights of z zᵀ in E[ĝ ĝᵀ].
        mixed: `[d, d]`, Σ z yᵀ; its symmetric part is the rest of E[ĝ ĝᵀ]. None unless asked for.
    """

    diagonal: Float[Array, ""]
    cross: Float[Array, ""]
    factored: Float[Array, ""]
    outer: Float[Array, "S A"]
    mixed: Float[Array, "d d"] | None


# (weights on edges, vectors of their successors): y is the sum over pairs and slots
Pair = tuple[Float[Array, "S A K"], Float[Array, "S d"]]


def next_rewards(problem: Problem, next_values: Float[Array, " S"]) -> Float[Array, "S A K p"]:
    """Mean of u on every edge."""
    values = on_successors(problem.edges, next_values)[..., None]
    ahead = problem.coupling_edges(problem.targets.bootstrap * values)
    return problem.edges.rewards[..., None] + ahead


def returns_given_action(
    problem: Problem, next_values: Float[Array, " S"], after: Returns
) -> Returns:
    """Hb `[S, A, p]` and H2 `[S, A, p, p]`, from h and h2 one step later."""
    edges, coupling = problem.edges, problem.targets.coupling
    ahead = after.first @ coupling.T
    spread = jnp.einsum("ij,sjk,lk->sil", coupling, after.second, coupling)
    spread = spread - ahead[:, :, None] * ahead[:, None, :]
    following, unknown = (problem.coupling_edges(on_successors(edges, x)) for x in (ahead, spread))
    mean = next_rewards(problem, next_values) + following
    variance = edges.variances[..., None, None] + unknown
    second = mean[..., :, None] * mean[..., None, :] + variance
    return Returns(
        jnp.einsum("sak,sakp->sap", edges.weights, mean),
        jnp.einsum("sak,sakpq->sapq", edges.weights, second),
    )


def over_actions(problem: Problem, given_action: Returns) -> Returns:
    """h and h2: the same, averaged over the policy."""
    pi = problem.policy.probabilities
    return Returns(
        jnp.einsum("sa,sap->sp", pi, given_action.first),
        jnp.einsum("sa,sapq->spq", pi, given_action.second),
    )


def mean_step(
    problem: Problem, baseline: Float[Array, " S"], given: Returns, m: Float[Array, "S d"]
) -> Float[Array, "S d"]:
    """m, from m one step later."""
    pi, scores = problem.policy
    here = scores.mean(pi * (given.first[..., -1] - baseline[:, None]))
    return here + problem.targets.omega * pull(problem.edges, problem.moves, m)


def product_step(
    problem: Problem,
    baseline: Float[Array, " S"],
    next_values: Float[Array, " S"],
    given: Returns,
    m: Float[Array, "S d"],
    x: Float[Array, "S p d"],
) -> Float[Array, "S p d"]:
    """x, from m and x one step later."""
    (pi, scores), edges, targets = problem.policy, problem.edges, problem.targets
    weights = problem.moves
    rewards = next_rewards(problem, next_values)
    coupled = problem.coupling_edges(weights)
    ahead = pull(edges, coupled, jnp.einsum("ij,sjd->sid", targets.coupling, x))
    rows = []
    for i in range(x.shape[1]):
        weighted = given.second[..., i, -1] - baseline[:, None] * given.first[..., i]
        later = pull(edges, weights * rewards[..., i], m) + ahead[:, i]
        rows.append(scores.mean(pi * weighted) + targets.omega * later)
    return jnp.stack(rows, axis=1)


def future_pairs(
    problem: Problem,
    baseline: Float[Array, " S"],
    next_values: Float[Array, " S"],
    occupancy: Float[Array, " S"],
    m: Float[Array, "S d"],
    x: Float[Array, "S p d"],
) -> list[Pair]:
    """y, times occupancy and policy, as pairs: ω E[(u − b) S' + c Λ G' S']."""
    targets = problem.targets
    weights = _visits(problem, occupancy) * targets.omega
    centred = next_rewards(problem, next_values)[..., -1] - baseline[:, None, None]
    ahead = jnp.einsum("j,sjd->sd", targets.coupling[-1], x)
    return [(weights * centred, m), (problem.coupling_edges(weights), ahead)]


def squared_weight(
    problem: Problem, baseline: Float[Array, " S"], noise: Float[Array, ""], given: Returns
) -> Float[Array, "S A"]:
    """W2 = E[(G − b)² | s, a], the noise of b included; zero in absorbing states."""
    b = baseline[:, None]
    square = given.second[..., -1, -1] - 2 * b * given.first[..., -1] + b**2
    return square + noise * problem.edges.alive[:, None]


def add_up(
    problem: Problem, outer: Float[Array, "S A"], pairs: list[Pair], with_covariance: bool
) -> Sums:
    """D and C of one step, and its part of E[ĝ ĝᵀ]; `factored` is set to zero."""
    edges, scores = problem.edges, problem.policy.scores
    cross = jnp.sum(jnp.stack([jnp.sum(w * scores.dots(edges, v)) for w, v in pairs]))
    mixed = None
    if with_covariance:
        mixed = jnp.sum(jnp.stack([scores_into(problem, w).T @ v for w, v in pairs]), axis=0)
    return Sums(
        jnp.sum(outer * scores.squares),
        2 * cross,
        jnp.zeros(()),
        outer,
        mixed,  # pyright: ignore
    )


def outer_product(scores: Scores, sums: Sums) -> Float[Array, "d d"]:
    """E[ĝ ĝᵀ], from the sums over all steps."""
    flat = scores.z.reshape(-1, scores.z.shape[-1])
    mixed = sums.mixed
    assert mixed is not None
    return (flat * sums.outer.reshape(-1, 1)).T @ flat + mixed + mixed.T


def past_scores_after(
    problem: Problem, p: Float[Array, " S"], e: Float[Array, "S p d"]
) -> Float[Array, "S p d"]:
    """Scores of earlier steps, each weighted by how much its return depends on that of step t.

    e_t(s)[i] = E[Σ_{k<t} (w_k/w_t) z_k ∂G_k/∂G_t[i] 1(s_t = s)]. Returned is e_{t+1}.
    """
    moved = push_values(problem.edges, problem.coupling_edges(problem.moves), e)
    own = problem.coupling_edges(_visits(problem, p))
    moved = moved.at[:, -1].add(scores_into(problem, own))
    return jnp.einsum("sid,ij->sjd", moved, problem.targets.trace)


def visits_after(problem: Problem, p: Float[Array, " S"]) -> Float[Array, " S"]:
    """The distribution over states (absorbing ones included) one step later."""
    return push(problem.edges, _visits(problem, p))


def _visits(problem: Problem, p: Float[Array, " S"]) -> Float[Array, "S A K"]:
    return p[:, None, None] * problem.moves


def scores_into(problem: Problem, weights: Float[Array, "S A K"]) -> Float[Array, "S d"]:
    """Σ over the edges into each state of weight × score of the edge's state and action."""
    edges, scores = problem.edges, problem.policy.scores
    if edges.successors is None:
        return jnp.einsum("sak,sad->kd", weights, scores.z)
    return push(edges, weights[..., None] * scores.z[:, :, None])

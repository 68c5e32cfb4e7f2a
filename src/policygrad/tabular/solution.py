"""Exact values, occupancies and gradients."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from policygrad.core import checks
from policygrad.devices.compiled_code import compiled
from policygrad.tabular.linear_systems import fixed_point
from policygrad.tabular.mdp import Edges, FiniteMDP, between_states, on_successors, push
from policygrad.tabular.policy import OwnBlock, Scores, TabularPolicy, Tabulated
from policygrad.tabular.precision import in_float64


@dataclass(frozen=True)
class Solution:
    """Exact values and gradients of a policy. With a horizon, arrays have a leading axis T.

    Attributes:
        objective: J = E Σ_t γ^t r_t.  [E0]
        values: `[T, S]` or `[S]`, V(s).  [E11]
        action_values: `[T, S, A]` or `[S, A]`, Q(s, a).  [E11]  At γ = 1 without a horizon both are
            NaN where absorption is not sure, as it may be in states that are never visited.
        occupancy: `[T, S]`, P(s_t = s); without a horizon `[S]`, Σ_t γ^t P(s_t = s).
        gradient: `[d]`, ∇J, which keeps γ^t.
        usual_direction: `[d]`, the same with γ^t dropped; no function's gradient if γ < 1.
        discounted_visits: `[S, A]`, Σ_t γ^t P(s_t = s) π(a|s), the weights of the Fisher matrix.
        scores: z(s, a).
    """

    objective: float
    values: Float[np.ndarray, "*T S"]
    action_values: Float[np.ndarray, "*T S A"]
    occupancy: Float[np.ndarray, "*T S"]
    gradient: Float[np.ndarray, " d"]
    usual_direction: Float[np.ndarray, " d"]
    discounted_visits: Float[np.ndarray, "S A"]
    scores: Scores

    @property
    def advantages(self) -> Float[np.ndarray, "*T S A"]:
        """A = Q − V.  [E12]"""
        return self.action_values - self.values[..., None]

    @cached_property
    def fisher(self) -> Float[np.ndarray, "d d"]:
        """`[d, d]`, Σ_t γ^t E[z_t z_tᵀ]."""
        with jax.enable_x64(True):
            z = np.asarray(self.scores.z)
        flat = z.reshape(-1, z.shape[-1])
        return (flat * self.discounted_visits.reshape(-1, 1)).T @ flat

    @cached_property
    def natural_gradient(self) -> Float[np.ndarray, " d"]:
        """`[d]`, F⁺ ∇J. The pseudo-inverse ignores directions that change no probability."""
        if isinstance(self.scores, OwnBlock):
            return _of_softmax(self.gradient, self.discounted_visits)
        return np.linalg.pinv(self.fisher, rcond=1e-12, hermitian=True) @ self.gradient


@in_float64
def solve(mdp: FiniteMDP, policy: TabularPolicy, *, discount: float) -> Solution:
    """Values and gradients of a policy.

    V = r_π + γ P_π V;  ∇J = Σ_t γ^t Σ_s P(s_t = s) Σ_a ∇π(a|s) Q_t(s, a).  [E0, E11, E12]

    Args:
        mdp: with a horizon, where everything is indexed by time, or without.
        policy: anything that can be tabulated.
        discount: γ in [0, 1]; 1 needs a horizon or certain absorption.

    Returns:
        `Solution`, in NumPy float64.

    Raises:
        ValueError: discount out of range; γ = 1 without absorption, or so close to 1 that sums over
            time leave no digits; or values that overflow.

    Bias: none.

    Source: the post, E0, E11, E12; Sutton et al. 2000.
    """
    checks.unit_interval("discount", discount)
    tabulated = policy.tabulate(mdp)
    mdp.require_digits(tabulated.probabilities, discount)
    edges = jax.tree.map(jnp.asarray, mdp.edges)
    gamma = jnp.asarray(discount, float)
    if mdp.horizon is None:
        parts = _infinite(mdp, edges, tabulated, gamma)
    else:
        parts = _finite(edges, tabulated, gamma, jnp.zeros(mdp.horizon))
    j, v, q, occupancy, gradient, usual, visits = (np.asarray(x) for x in parts)
    if not (np.isfinite(j) and np.all(np.isfinite(gradient))):
        raise ValueError(f"the values overflow float64: J = {j}; scale the rewards down")
    return Solution(float(j), v, q, occupancy, gradient, usual, visits, tabulated.scores)


def _of_softmax(
    gradient: Float[np.ndarray, " d"], visits: Float[np.ndarray, "S A"]
) -> Float[np.ndarray, " d"]:
    """F⁺ g of a softmax with a parameter for every state and action, whose F is block-diagonal.

    F_s = d_s (diag π − π πᵀ), and the entries of g_s sum to 0, so F_s⁺ g_s is g_s / (d_s π) less
    its mean. Inverted by its eigenvalues, F_s loses actions that are hardly ever taken.
    """
    taken = visits > 0
    found = np.divide(
        gradient.reshape(visits.shape), visits, out=np.zeros(visits.shape), where=taken
    )
    mean = found.sum(axis=1) / np.maximum(taken.sum(axis=1), 1)
    return np.where(taken, found - mean[:, None], 0.0).reshape(-1)


@in_float64
def objective(mdp: FiniteMDP, policy: TabularPolicy, *, discount: float) -> Float[Array, ""]:
    """J alone, differentiable by `jax.grad` with respect to the policy (in float64).

    J(θ) = E Σ_t γ^t r_t.  [E0]
    """
    probabilities = policy.probabilities_on(mdp)
    edges = jax.tree.map(jnp.asarray, mdp.edges)
    if mdp.horizon is None:
        chain, earned = _markov_chain(edges, probabilities)
        return edges.initial @ fixed_point(discount * chain, earned)

    def backward(after: Array, _: None) -> tuple[Array, None]:
        q = _action_values(edges, jnp.asarray(discount, float), after)
        return jnp.sum(probabilities * q, axis=1), None

    return edges.initial @ jax.lax.scan(backward, jnp.zeros(mdp.states), None, mdp.horizon)[0]


def _markov_chain(edges: Edges, pi: Float[Array, "S A"]) -> tuple[Array, Array]:
    """P_π `[S, S]` and r_π `[S]`."""
    moves = pi[..., None] * edges.weights
    return between_states(edges, moves), jnp.sum(moves * edges.rewards, axis=(1, 2))


def _action_values(edges: Edges, gamma: Array, after: Float[Array, " S"]) -> Float[Array, "S A"]:
    """Q(s, a) = E[r + γ V(s')]."""
    return jnp.sum(edges.weights * (edges.rewards + gamma * on_successors(edges, after)), axis=2)


@compiled
def _finite(edges: Edges, policy: Tabulated, gamma: Array, times: Float[Array, " T"]) -> tuple:
    pi, scores = policy

    def backward(after: Array, _: Array) -> tuple[Array, tuple[Array, Array]]:
        q = _action_values(edges, gamma, after)
        v = jnp.sum(pi * q, axis=1)
        return v, (v, q)

    def forward(p: Array, _: Array) -> tuple[Array, Array]:
        return push(edges, (p[:, None] * pi)[..., None] * edges.weights), p

    _, (values, q) = jax.lax.scan(backward, jnp.zeros(len(pi)), times, reverse=True)
    occupancy = jax.lax.scan(forward, edges.initial, times)[1]
    fading = gamma ** jnp.arange(len(times))

    def direction(weights: Array) -> Array:
        return jnp.sum(scores.mean(pi * jnp.einsum("ts,tsa->sa", weights, q)), axis=0)

    discounted = fading[:, None] * occupancy
    visits = jnp.sum(discounted, axis=0)[:, None] * pi
    j = edges.initial @ values[0]
    return j, values, q, occupancy, direction(discounted), direction(occupancy), visits


def _infinite(mdp: FiniteMDP, edges: Edges, policy: Tabulated, gamma: Array) -> tuple:
    pi = policy.probabilities
    followed = edges._replace(weights=jnp.asarray(mdp.without_strays(pi)))
    if gamma == 1:  # where no end is sure, V would be infinite
        edges = followed
    parts = _discounted(edges, followed, policy, gamma, gamma)
    # without absorption the sum of the visits is infinite, and so is the usual direction
    absorbs = mdp.stuck(pi).size == 0
    visits = _discounted(edges, followed, policy, gamma, jnp.ones(())) if absorbs else None
    usual = jnp.full_like(parts[4], jnp.nan) if visits is None else visits[4]
    j, v, q = parts[:3]
    if gamma == 1:
        ends = mdp.ends(pi)
        leads = (np.asarray(mdp.edges.weights) > 0) & ~ends[mdp.successors]
        v, q = jnp.where(ends, v, jnp.nan), jnp.where(leads.any(axis=2), jnp.nan, q)
    return (j, v, q, *parts[3:5], usual, parts[5])


@compiled
def _discounted(
    edges: Edges, followed: Edges, policy: Tabulated, gamma: Array, fading: Array
) -> tuple:
    pi, scores = policy
    chain, earned = _markov_chain(edges, pi)
    values = fixed_point(gamma * chain, earned)
    q = _action_values(edges, gamma, values)
    occupancy = fixed_point(fading * _markov_chain(followed, pi)[0].T, edges.initial)
    visits = occupancy[:, None] * pi
    direction = jnp.sum(scores.mean(visits * q), axis=0)
    return edges.initial @ values, values, q, occupancy, direction, visits

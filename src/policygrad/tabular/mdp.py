"""A finite Markov decision process, validated once, and the arrays that every computation reads.

Transitions are dense, `[S, A, S]`, or sparse: K successors for each state and action, as indices
and probabilities `[S, A, K]`. An edge is one (state, action, successor slot). Every computation is
a sum over edges, so the cost is proportional to their number.

A state is absorbing if every action stays in it with certainty and without reward: the episode is
over there. Its rewards and scores are zero, and so are V and b.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from policygrad.core.checks import numbers, whole

_TOLERANCE = 1e-9
_BLOCK = 8
_LONGEST = 1e8  # mean steps of an episode; with more, float64 leaves too few digits


@dataclass(frozen=True)
class Sparse:
    """Transitions with at most K successors for each state and action.

    Attributes:
        successors: `[S, A, K]`, state indices. An unused slot holds any state, with probability
            0.
        probabilities: `[S, A, K]`.
    """

    successors: Int[np.ndarray, "S A K"]
    probabilities: Float[np.ndarray, "S A K"]


class Edges(NamedTuple):
    """The arrays of an MDP that the computations read: a pytree in float64.

    Attributes:
        weights: `[S, A, K]`, transition probabilities; zero for transitions from absorbing states.
        rewards: `[S, A, K]`, mean reward of each transition.
        variances: `[S, A, K]`, variance of the reward of each transition.
        initial: `[S]`, the distribution of s_0.
        alive: `[S]`, 0 in absorbing states and 1 elsewhere.
        successors: `[S, A, K]` state indices; None if dense, where slot k is state k.
    """

    weights: Float[Array, "S A K"]
    rewards: Float[Array, "S A K"]
    variances: Float[Array, "S A K"]
    initial: Float[Array, " S"]
    alive: Float[Array, " S"]
    successors: Int[Array, "S A K"] | None


@dataclass(frozen=True, eq=False)
class FiniteMDP:
    """A finite MDP.

    J(θ) = E Σ_t γ^t r_t over T steps, or until absorption. γ is not part of the MDP; it is given
    where a question about the MDP is asked.  [E0]

    Args:
        transitions: `[S, A, S]`, P(s'|s,a), or `Sparse`.
        rewards: `[S, A]`, or of the shape of the transition probabilities, r(s,a,s').
        initial: `[S]`, the distribution of s_0.
        horizon: T, the number of steps, after which the task ends; None for no limit.
        reward_variance: a number or an array like `rewards`: the variance of the reward given
            (s, a, s'), independent of the future. Moments depend on mean and variance only.
            Enumeration and sampling use the mean plus or minus the standard deviation, with
            probability one half each.

    Raises:
        ValueError: shapes disagree, a row is not a distribution, a number is NaN, or the horizon is
            below 1. The message names the place and the value.

    >>> mdp = FiniteMDP([[[0.0, 1.0]], [[0.0, 1.0]]], [[3.0], [0.0]], [1.0, 0.0])
    >>> mdp.absorbing.tolist()
    [False, True]
    """

    transitions: ArrayLike | Sparse
    rewards: ArrayLike
    initial: ArrayLike
    horizon: int | None = None
    reward_variance: ArrayLike = 0.0
    name: str = "MDP"
    edges: Edges = field(init=False, repr=False)

    def __post_init__(self) -> None:
        successors, weights = _checked_transitions(self.transitions)
        states = len(weights)
        rewards = _on_edges("rewards", self.rewards, weights.shape)
        variances = _on_edges("reward_variance", self.reward_variance, weights.shape)
        if np.any(variances < 0):
            raise ValueError(f"reward_variance must be 0 or more, got {variances.min()}")
        initial = distributions("initial", self.initial)
        if initial.shape != (states,):
            raise ValueError(
                f"initial must have shape ({states},), as transitions, got {initial.shape}"
            )
        if self.horizon is not None:
            whole("horizon", self.horizon)

        slots = np.arange(states) if successors is None else successors
        own = np.arange(states)[:, None, None]
        possible = weights > 0
        stays = np.all(~possible | (slots == own), axis=(1, 2))
        earns = np.any(possible & ((rewards != 0) | (variances > 0)), axis=(1, 2))
        alive = (~(stays & ~earns)).astype(float)
        parts: tuple[Any, ...] = (
            weights * alive[:, None, None],
            rewards,
            variances,
            initial,
            alive,
            successors,
        )
        object.__setattr__(self, "edges", Edges(*parts))

    @property
    def states(self) -> int:
        """S, the number of states."""
        return self.edges.weights.shape[0]

    @property
    def actions(self) -> int:
        """A, the number of actions."""
        return self.edges.weights.shape[1]

    @property
    def absorbing(self) -> Bool[np.ndarray, " S"]:
        """`[S]`, True for states where the episode is over."""
        return np.asarray(self.edges.alive) == 0

    @property
    def successors(self) -> Int[np.ndarray, "S A K"]:
        """`[S, A, K]`, the state that each edge leads to."""
        if self.edges.successors is None:
            return np.broadcast_to(np.arange(self.states), self.edges.weights.shape)
        return np.asarray(self.edges.successors)

    def stuck(self, probabilities: ArrayLike) -> Int[np.ndarray, " n"]:
        """States that a policy visits and from which it never reaches an absorbing state."""
        from_, to = self._used(probabilities)
        visited = _reaching(self.initial_support, to, from_)
        return np.flatnonzero(visited & ~_reaching(self.absorbing, from_, to))

    def ends(self, probabilities: ArrayLike) -> Bool[np.ndarray, " S"]:
        """`[S]`, whether an absorbing state is surely reached from a state."""
        from_, to = self._used(probabilities)
        return ~_reaching(~_reaching(self.absorbing, from_, to), from_, to)

    def without_strays(self, probabilities: ArrayLike) -> Float[np.ndarray, "S A K"]:
        """The weights of the edges; zero in states that are never visited and never end.

        No episode goes along these edges, but sums over time without end would be infinite there.
        """
        from_, to = self._used(probabilities)
        visited = _reaching(self.initial_support, to, from_)
        kept = visited | _reaching(self.absorbing, from_, to)
        return np.asarray(self.edges.weights) * kept[:, None, None]

    def _used(self, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """The states that the edges a policy may take lead from, and those they lead to."""
        used = (np.asarray(self.edges.weights) * np.asarray(probabilities)[:, :, None]) > 0
        return np.nonzero(used)[0], self.successors[used]

    def require_absorption(self, probabilities: ArrayLike, what: str, instead: str) -> None:
        """Raise ValueError if there is no horizon and the policy may never reach absorption.

        Args:
            probabilities: `[S, A]`, the policy.
            what: the quantity that needs absorption; named in the error.
            instead: what the caller may do other than give the MDP a horizon.

        Raises:
            ValueError: names a visited state from which no absorbing state is reached.
        """
        if self.horizon is not None:
            return
        stuck = self.stuck(probabilities)
        if stuck.size:
            raise ValueError(
                f"{what} needs absorption, and from state {stuck[0]} this policy never reaches an "
                f"absorbing state; give the MDP a horizon, or {instead}"
            )
        if self._too_long(probabilities, 1.0):
            raise ValueError(
                f"{what} needs absorption, and this policy takes more than {_LONGEST:g} steps on "
                f"average to reach it; give the MDP a horizon, or {instead}"
            )

    def require_digits(self, probabilities: ArrayLike, discount: float) -> None:
        """Raise ValueError if sums over time are infinite, or too long for float64.

        Args:
            probabilities: `[S, A]`, the policy.
            discount: γ; at 1 absorption is needed, and close to it an end that comes soon enough.

        Raises:
            ValueError: without a horizon, E Σ γ^t over the steps of an episode exceeds 1e8.
        """
        if discount == 1:
            self.require_absorption(probabilities, "discount=1", "use a discount below 1")
        elif self.horizon is None and self._too_long(probabilities, discount):
            raise ValueError(
                f"discount={discount!r} is too close to 1 where absorption is far: of sums over "
                f"more than {_LONGEST:g} steps float64 leaves too few digits; give the MDP a "
                f"horizon, or use a discount of at most {1 - 1 / _LONGEST!r}"
            )

    def _too_long(self, probabilities: ArrayLike, discount: float) -> bool:
        """Whether E Σ γ^t over the steps of an episode exceeds what float64 has digits for."""
        if discount <= 1 - 1 / _LONGEST:
            return False
        return not 0 <= self._mean_steps(np.asarray(probabilities), discount) <= _LONGEST

    def _mean_steps(self, probabilities: Float[np.ndarray, "S A"], discount: float) -> float:
        """E Σ γ^t over an episode; only rounding error if it exceeds 1 / machine epsilon."""
        moves = (probabilities[:, :, None] * self.without_strays(probabilities)).reshape(-1)
        from_ = np.repeat(np.arange(self.states), moves.size // self.states)
        chain = np.zeros((self.states, self.states))
        np.add.at(chain, (from_, self.successors.reshape(-1)), moves)
        try:
            left = np.eye(self.states) - discount * chain
            steps = np.linalg.solve(left, np.asarray(self.edges.alive))
        except np.linalg.LinAlgError:  # singular
            return float("inf")
        return float(np.asarray(self.edges.initial) @ steps)

    @property
    def initial_support(self) -> Bool[np.ndarray, " S"]:
        """`[S]`, the states that an episode may start in."""
        return np.asarray(self.edges.initial) > 0


def _reaching(marked: np.ndarray, from_: np.ndarray, to: np.ndarray) -> np.ndarray:
    """States with a path along edges from_ → to into a marked state."""
    while True:
        grown = marked.copy()
        grown[from_[marked[to]]] = True
        if np.array_equal(grown, marked):
            return marked
        marked = grown


def distributions(name: str, values: object) -> Float[np.ndarray, "... n"]:
    """Rows that are distributions, in float64.

    Rows in fewer bits sum to 1 within their own rounding, and are divided by their sum.

    Raises:
        ValueError: a probability is negative or no number, or a row does not sum to 1.
    """
    rows = numbers(name, values)
    if np.any(rows < 0):
        where = tuple(int(i) for i in np.argwhere(rows < 0)[0])
        raise ValueError(f"{name}{list(where)} is a negative probability, {rows[where]}")
    given = np.asarray(values).dtype
    rounded = np.issubdtype(given, np.inexact) and np.finfo(given).eps > 1e-12
    tolerance = 8 * float(np.finfo(given).eps) if rounded else _TOLERANCE
    sums = rows.sum(axis=-1)
    wrong = np.argwhere(np.abs(sums - 1) > tolerance)
    if wrong.size or (sums.ndim == 0 and abs(float(sums) - 1) > tolerance):
        where = tuple(int(i) for i in wrong[0]) if sums.ndim else ()
        place = f"{name}{list(where)}" if where else name
        raise ValueError(f"{place} must sum to 1, got {sums[where]}")
    return rows / sums[..., None] if rounded else rows


def _checked_transitions(
    transitions: object,
) -> tuple[Int[np.ndarray, "S A K"] | None, Float[np.ndarray, "S A K"]]:
    """Successor indices (None when dense) and probabilities."""
    if not isinstance(transitions, Sparse):
        dense = numbers("transitions", transitions)
        if dense.ndim != 3 or dense.shape[0] != dense.shape[2] or 0 in dense.shape:
            raise ValueError(f"transitions must have shape [S, A, S], got {dense.shape}")
        return None, distributions("transitions", transitions)
    weights = numbers("probabilities", transitions.probabilities)
    successors = np.asarray(transitions.successors)
    if weights.ndim != 3 or successors.shape != weights.shape or 0 in weights.shape:
        raise ValueError(
            "successors and probabilities must have one shape [S, A, K], got "
            f"{successors.shape} and {weights.shape}"
        )
    if not np.issubdtype(successors.dtype, np.integer):
        raise ValueError(f"successors must be state indices, got dtype {successors.dtype}")
    outside = (successors < 0) | (successors >= len(weights))
    if outside.any():
        raise ValueError(
            f"successors must be in 0…{len(weights) - 1}, got {successors[outside][0]}"
        )
    return successors.astype(np.int32), distributions("probabilities", transitions.probabilities)


def _on_edges(name: str, values: object, shape: tuple[int, ...]) -> Float[np.ndarray, "S A K"]:
    array = numbers(name, values)
    if array.shape == shape[:2]:
        array = array[:, :, None]
    elif array.ndim and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape[:2]} or {shape}, got {array.shape}")
    return np.broadcast_to(array, shape)


def on_successors(edges: Edges, values: Float[Array, "S *d"]) -> Float[Array, "S A K *d"]:
    """The value of each edge's successor (dense: one broadcast row)."""
    return values[None, None] if edges.successors is None else values[edges.successors]


def pull(edges: Edges, weights: Float[Array, "S A K"], values: Array) -> Array:
    """`[S, …]`: Σ over the edges of each state of weight × value of the successor."""
    flat = values.reshape(len(values), -1)
    if edges.successors is None:
        return (weights.sum(axis=1) @ flat).reshape(values.shape)
    # A few slots at a time: their gathers fuse into one sum, so that no array [S, A, K, d] is
    # stored. All slots in one expression would leave the cache, and take long to compile.
    slots = _in_blocks(edges.successors.reshape(len(flat), -1))
    shares = _in_blocks(weights.reshape(len(flat), -1))

    def add_block(total: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
        for slot, share in zip(*block, strict=True):
            total = total + share[:, None] * flat[slot]
        return total, None

    total, _ = jax.lax.scan(add_block, jnp.zeros_like(flat), (slots, shares))
    return total.reshape(values.shape)


def _in_blocks(columns: Array) -> Array:
    """`[S, n]` as `[n / 8, 8, S]`, filled up with zeros."""
    columns = jnp.pad(columns, ((0, 0), (0, -columns.shape[1] % _BLOCK)))
    return columns.T.reshape(-1, _BLOCK, len(columns))


def push(edges: Edges, weights: Float[Array, "S A K *d"]) -> Float[Array, "S *d"]:
    """`[S, …]`: Σ of the weights of the edges that lead into each state."""
    if edges.successors is None:
        return weights.sum(axis=(0, 1))
    rest = weights.shape[3:]
    return jnp.zeros((len(edges.alive), *rest)).at[edges.successors].add(weights)


def push_values(edges: Edges, weights: Float[Array, "S A K"], values: Array) -> Array:
    """`[S, …]`: Σ over the edges into each state of weight × value of the state they come from."""
    flat = values.reshape(len(values), -1)
    if edges.successors is None:
        return (weights.sum(axis=1).T @ flat).reshape(values.shape)
    return push(edges, weights[..., None] * flat[:, None, None]).reshape(values.shape)


def between_states(edges: Edges, weights: Float[Array, "S A K"]) -> Float[Array, "S S"]:
    """The matrix whose product with values of states is `pull`."""
    if edges.successors is None:
        return weights.sum(axis=1)
    rows = jnp.arange(len(edges.alive))[:, None, None]
    return jnp.zeros((len(edges.alive),) * 2).at[rows, edges.successors].add(weights)

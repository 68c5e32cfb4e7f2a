"""The joint distribution of return and length, with the moments of the score given both.

An outcome o is a pair (R, L). With s = Σ_t z_t, the score of the trajectory, three numbers are
carried forward in time for each state and each return so far ρ, over the episodes that have got
there:

    p = P(s_t, ρ),   m = E[s 1(s_t, ρ)],   M = E[s sᵀ 1(s_t, ρ)],

and one step along an edge of probability q = π(a|s) P(s'|s, a), with ρ' = ρ + γ^t r, adds

    q p,   q (m + p z),   q (M + m zᵀ + z mᵀ + p z zᵀ)

to those of (s', ρ'). An episode that is over is an outcome. Its length is the number of its steps.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from policygrad.core import checks
from policygrad.tabular.mdp import FiniteMDP
from policygrad.tabular.policy import TabularPolicy
from policygrad.tabular.precision import in_float64

_RESOLUTION = 1e-11  # returns that differ by less of the largest one are the same


@dataclass(frozen=True)
class Outcomes:
    """Every pair of return and length, for each state that an episode may start in.

    Attributes:
        start_probabilities: `[N]`, of the N states where an episode may start.
        starts: `[X]`, which of these N the outcome belongs to.
        probabilities: `[X]`, P(R, L | start).
        returns: `[X]`, R.
        lengths: `[X]`, L, at least 1.
        scores: `[X, d]`, E[s | start, R, L].
        squared_scores: `[X, d, d]`, E[s sᵀ | start, R, L].
        greedy_starts, greedy_probabilities, greedy_returns: `[Y]`, the distribution of the return
            if the most probable action is taken each time; the first one of several.
    """

    start_probabilities: Float[np.ndarray, " N"]
    starts: Int[np.ndarray, " X"]
    probabilities: Float[np.ndarray, " X"]
    returns: Float[np.ndarray, " X"]
    lengths: Float[np.ndarray, " X"]
    scores: Float[np.ndarray, "X d"]
    squared_scores: Float[np.ndarray, "X d d"]
    greedy_starts: Int[np.ndarray, " Y"]
    greedy_probabilities: Float[np.ndarray, " Y"]
    greedy_returns: Float[np.ndarray, " Y"]

    @property
    def values(self) -> Float[np.ndarray, " N"]:
        """E[R] from each start."""
        total = self.probabilities * self.returns
        return np.bincount(self.starts, total, minlength=len(self.start_probabilities))

    @property
    def gradient(self) -> Float[np.ndarray, " d"]:
        """`[d]`, ∇J = E[R s]."""
        joint = self.start_probabilities[self.starts] * self.probabilities
        return (joint * self.returns) @ self.scores

    def by_return(self) -> "Outcomes":
        """The same with episodes of all lengths together; L is then the mean length."""
        keys = np.stack([self.starts, self.returns])
        _, first, where = np.unique(keys, axis=1, return_index=True, return_inverse=True)
        merged = np.zeros((len(first), len(self.starts)))
        merged[where.reshape(-1), np.arange(len(self.starts))] = self.probabilities
        probabilities = merged.sum(axis=1)
        mean = merged / probabilities[:, None]
        return replace(
            self,
            starts=self.starts[first],
            probabilities=probabilities,
            returns=self.returns[first],
            lengths=mean @ self.lengths,
            scores=mean @ self.scores,
            squared_scores=np.tensordot(mean, self.squared_scores, axes=1),
        )


@in_float64
def outcomes_of(
    mdp: FiniteMDP,
    policy: TabularPolicy,
    *,
    discount: float = 1.0,
    start: int | None = None,
    limit: int = 200_000,
) -> Outcomes:
    """The exact distribution of an episode's return and length, and its score's moments.

    Args:
        mdp: with a horizon, or one whose every episode is over after as many steps as it has
            states.
        policy: anything that can be tabulated.
        discount: γ of the return, R = Σ_t γ^t r_t.
        start: the only state to start in; None for the MDP's own distribution.
        limit: the largest number of pairs of a state and a return so far, at one time.

    Returns:
        NumPy arrays, float64. A random reward takes two values, its mean plus or minus its standard
        deviation, as in enumeration.

    Raises:
        ValueError: episodes may go on for ever, an episode may start where it is over, a start
            outside the states, or more returns than `limit`.

    Bias: none; the sums are exact to rounding. Returns that differ by less than 1e-11 of the
        largest are one.
    """
    checks.unit_interval("discount", discount)
    initial = np.asarray(mdp.edges.initial)
    if start is not None:
        if not 0 <= start < mdp.states:
            raise ValueError(f"start must be a state in 0…{mdp.states - 1}, got start={start}")
        initial = np.eye(mdp.states)[start]
    states = np.flatnonzero(initial > 0)
    over = [int(s) for s in states if mdp.absorbing[s]]
    if over:
        raise ValueError(f"an episode that starts in state {over[0]} is over before its first step")
    tabulated = policy.tabulate(mdp)
    pi = np.asarray(tabulated.probabilities)
    z = np.asarray(tabulated.scores.z)
    greedy = np.eye(mdp.actions)[np.argmax(pi, axis=1)]
    walk = _Walk.on(mdp, discount, limit)
    own = [walk.outcomes(pi, z, int(s)) for s in states]
    best = [walk.outcomes(greedy, z[..., :0], int(s)) for s in states]
    joined, greedily = _joined(own), _joined(best)
    returns = _as_one(np.append(joined.returns, greedily.returns), walk.resolution)
    returns, greedy_returns = np.split(returns, [len(joined.returns)])
    return Outcomes(
        start_probabilities=initial[states],
        starts=_which(own),
        probabilities=joined.probabilities,
        returns=returns,
        lengths=joined.lengths,
        scores=joined.scores,
        squared_scores=joined.squared_scores,
        greedy_starts=_which(best),
        greedy_probabilities=greedily.probabilities,
        greedy_returns=greedy_returns,
    )


class _Found(NamedTuple):
    """The outcomes from one state: probabilities, returns, lengths and the score's moments."""

    probabilities: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray
    scores: np.ndarray
    squared_scores: np.ndarray


class _Sums(NamedTuple):
    """ρ, p, m and M."""

    earned: float
    p: float
    m: np.ndarray
    outer: np.ndarray

    def plus(self, other: "_Sums") -> "_Sums":
        return _Sums(self.earned, self.p + other.p, self.m + other.m, self.outer + other.outer)


def _as_one(returns: Float[np.ndarray, " N"], resolution: float) -> Float[np.ndarray, " N"]:
    """The same, with the least of those in place of each that differ by less than the resolution.

    0.3 and 0.1 + 0.2 are not one float. Whatever compares returns would take them for two.
    """
    values, where = np.unique(returns, return_inverse=True)
    begins = np.diff(values, prepend=-np.inf) >= resolution
    least = np.maximum.accumulate(np.where(begins, np.arange(len(values)), 0))
    return values[least][where]


def _joined(found: list[_Found]) -> _Found:
    return _Found(*(np.concatenate(x) for x in zip(*found, strict=True)))


def _which(found: list[_Found]) -> np.ndarray:
    return np.repeat(np.arange(len(found)), [len(x.returns) for x in found])


@dataclass(frozen=True)
class _Walk:
    """An MDP as edges of positive probability: lists of (successor, probability, reward)."""

    edges: dict[tuple[int, int], list[tuple[int, float, float]]]
    absorbing: np.ndarray
    horizon: int | None
    discount: float
    resolution: float
    limit: int

    @classmethod
    def on(cls, mdp: FiniteMDP, discount: float, limit: int) -> "_Walk":
        weights, rewards = np.asarray(mdp.edges.weights), np.asarray(mdp.edges.rewards)
        std = np.sqrt(np.asarray(mdp.edges.variances))
        edges: dict[tuple[int, int], list[tuple[int, float, float]]] = {}
        for s, a, k in np.argwhere(weights > 0).tolist():
            successor, spread = int(mdp.successors[s, a, k]), float(std[s, a, k])
            signs = (-1.0, 1.0) if spread > 0 else (0.0,)
            for sign in signs:
                reward = float(rewards[s, a, k]) + sign * spread
                share = float(weights[s, a, k]) / len(signs)
                edges.setdefault((s, a), []).append((successor, share, reward))
        largest = max((abs(r) for each in edges.values() for _, _, r in each), default=1.0)
        steps = mdp.horizon or mdp.states
        resolution = _RESOLUTION * max(largest, 1e-300) * steps
        return cls(edges, mdp.absorbing, mdp.horizon, discount, resolution, limit)

    def outcomes(self, pi: np.ndarray, z: np.ndarray, start: int) -> _Found:
        """The outcomes of the policy `pi` from one state."""
        d = z.shape[-1]
        over: dict[tuple[int, int], _Sums] = {}
        alive = {(start, 0): _Sums(0.0, 1.0, np.zeros(d), np.zeros((d, d)))}
        steps = self.horizon or len(self.absorbing)
        for t in range(steps):
            following: dict[tuple[int, int], _Sums] = {}
            for (state, _), sums in alive.items():
                for successor, moved in self._moves(state, sums, pi, z, self.discount**t):
                    key = round(moved.earned / self.resolution)
                    ends = self.absorbing[successor] or t + 1 == self.horizon
                    into, place = (over, (t + 1, key)) if ends else (following, (successor, key))
                    into[place] = into[place].plus(moved) if place in into else moved
            alive = following
            if len(alive) + len(over) > self.limit:
                raise ValueError(
                    f"more than {self.limit} returns after {t + 1} steps: too many to carry "
                    f"(limit={self.limit})"
                )
        if alive:
            raise ValueError(
                "the outcomes of an episode need an end, and here one may go on for more than "
                f"{steps} steps; give the MDP a horizon"
            )
        return _found(over)

    def _moves(
        self, state: int, sums: _Sums, pi: np.ndarray, z: np.ndarray, scale: float
    ) -> list[tuple[int, _Sums]]:
        moves = []
        earned, p, m, outer = sums
        for action in np.flatnonzero(pi[state] > 0).tolist():
            score = z[state, action]
            crossed = np.outer(m, score)
            m_after = m + p * score
            outer_after = outer + crossed + crossed.T + p * np.outer(score, score)
            for successor, share, reward in self.edges.get((state, action), ()):
                q = share * pi[state, action]
                moved = _Sums(earned + scale * reward, q * p, q * m_after, q * outer_after)
                moves.append((successor, moved))
        return moves


def _found(over: dict[tuple[int, int], _Sums]) -> _Found:
    sums = list(over.values())
    p = np.array([x.p for x in sums])
    return _Found(
        p,
        np.array([x.earned for x in sums]),
        np.array([float(length) for length, _ in over]),
        np.array([x.m / x.p for x in sums]),
        np.array([x.outer / x.p for x in sums]),
    )

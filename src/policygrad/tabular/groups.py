"""Exact mean and covariance of group estimators, from the distribution of outcomes.

Given the outcomes (R, L) of all episodes of a batch the weights w are known, and the scores are
independent with the mean μ_o and the covariance V_o of their outcome. With n episodes in all,

    E[ĝ | outcomes] = (1/n) Σ_i w_i μ_{o_i},   Cov[ĝ | outcomes] = (1/n²) Σ_i w_i² V_{o_i},

and both are averaged over all outcomes of a group, unordered. Groups of one batch are independent.
An estimator whose weights read other groups is averaged over all outcomes of a whole batch.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from policygrad.core import checks
from policygrad.gradients.groups import GroupEstimator, Groups
from policygrad.tabular.multisets import how_many, multisets
from policygrad.tabular.outcomes import Outcomes

_BLOCK = 4_000_000  # numbers of one array at a time

Sums = tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"], float]


@dataclass(frozen=True)
class GroupMoments:
    """Mean and covariance of the gradient of a batch: the mean of ĝ over G groups of k episodes.

    Attributes:
        mean: `[d]`, E ĝ.
        covariance: `[d, d]`.
        gradient: `[d]`, ∇J.
        between: trace of the covariance, over start states, of E[ĝ | start], divided by G: the part
            of the variance that more episodes a group do not reduce. None where the weights read
            other groups.
        power: E (1/n) Σ_i w_i² ‖s_i‖², over the n = G k episodes of the batch: the mean square of
            what one episode adds.
        group_size: k.
        groups: G.
    """

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]
    gradient: Float[np.ndarray, " d"]
    between: float | None
    power: float
    group_size: int
    groups: int

    @property
    def variance(self) -> float:
        """Trace of the covariance."""
        return float(np.trace(self.covariance))

    @property
    def within(self) -> float | None:
        """The rest of the variance: the mean over start states of the variance given the start."""
        return None if self.between is None else self.variance - self.between

    @property
    def bias(self) -> Float[np.ndarray, " d"]:
        """`[d]`, E ĝ − ∇J."""
        return self.mean - self.gradient

    @property
    def cosine(self) -> float:
        """Cosine of E ĝ and ∇J; NaN if one is zero. 1 means that only the length is biased."""
        norms = float(np.linalg.norm(self.mean) * np.linalg.norm(self.gradient))
        return float(self.mean @ self.gradient) / norms if norms > 0 else float("nan")

    @property
    def length(self) -> float:
        """‖E ĝ‖ / ‖∇J‖; NaN if the gradient is zero."""
        norm = float(np.linalg.norm(self.gradient))
        return float(np.linalg.norm(self.mean)) / norm if norm > 0 else float("nan")

    @property
    def relative_variance(self) -> float:
        """Variance / ‖E ĝ‖²: estimates of unlike lengths compared as directions.

        NaN if the mean is zero.
        """
        square = float(self.mean @ self.mean)
        return self.variance / square if square > 0 else float("nan")


def group_moments(
    outcomes: Outcomes,
    estimator: GroupEstimator,
    *,
    group_size: int,
    groups: int = 1,
    limit: int = 1_000_000,
) -> GroupMoments:
    """The exact mean and covariance of a group estimator over a batch.

    Args:
        outcomes: from `outcomes_of`. Each group starts in a state drawn from its distribution, and
            the same for all of its episodes. `values` of the groups is the exact V of that state.
        estimator: from `policygrad.gradients.groups`.
        group_size: k.
        groups: G, drawn independently.
        limit: the largest number of unordered groups, or batches, that are enumerated.

    Raises:
        ValueError: k or G is too small for the estimator, or there are more than `limit`.

    Bias: none; every number is exact to rounding.
    """
    checks.whole("group_size", group_size)
    checks.whole("groups", groups)
    estimator.check_size(groups, group_size)
    gradient = outcomes.gradient
    if "lengths" not in estimator.reads:
        outcomes = outcomes.by_return()
    drawn = _draws(outcomes, estimator, group_size, limit)
    if estimator.batch_wide:
        mean, second, power = _over_batches(outcomes, drawn, estimator, groups, limit)
        covariance, between = second - np.outer(mean, mean), None
    else:
        starts = range(len(outcomes.start_probabilities))
        by_start = [_over_groups(outcomes, drawn, estimator, s) for s in starts]
        means, seconds, powers = (np.stack(x) for x in zip(*by_start, strict=True))
        p = outcomes.start_probabilities
        mean, power = p @ means, float(p @ powers)
        covariance = (np.tensordot(p, seconds, axes=1) - np.outer(mean, mean)) / groups
        between = float(p @ np.sum((means - mean) ** 2, axis=1)) / groups
    return GroupMoments(mean, covariance, gradient, between, power, group_size, groups)


@dataclass(frozen=True)
class _Draws:
    """Every group: its k outcomes unordered, its greedy return, its start, its probability."""

    outcomes: Int[np.ndarray, "U k"]
    greedy: Float[np.ndarray, " U"]
    starts: Int[np.ndarray, " U"]
    probabilities: Float[np.ndarray, " U"]


def _draws(outcomes: Outcomes, estimator: GroupEstimator, size: int, limit: int) -> _Draws:
    """The groups of every start; probabilities are those given the start."""
    starts = range(len(outcomes.start_probabilities))
    own = [np.flatnonzero(outcomes.starts == s) for s in starts]
    greedy = [_greedy(outcomes, estimator, s) for s in starts]
    total = sum(how_many(len(x), size) * len(y[0]) for x, y in zip(own, greedy, strict=True))
    if total > limit:
        raise ValueError(
            f"{total:,} groups of {size} out of {len(outcomes.returns)} outcomes are too many to "
            f"enumerate (limit={limit:,}); take a smaller group, a shorter horizon or fewer "
            "different rewards"
        )
    columns: list[list[np.ndarray]] = [[], [], [], []]
    for s in starts:
        rows, probabilities = multisets(outcomes.probabilities[own[s]], size)
        returns, shares = greedy[s]
        columns[0].append(np.tile(own[s][rows], (len(returns), 1)))
        columns[1].append(np.repeat(returns, len(rows)))
        columns[2].append(np.full(len(rows) * len(returns), s))
        columns[3].append(np.concatenate([share * probabilities for share in shares]))
    return _Draws(*(np.concatenate(x) for x in columns))


def _greedy(
    outcomes: Outcomes, estimator: GroupEstimator, start: int
) -> tuple[Float[np.ndarray, " y"], Float[np.ndarray, " y"]]:
    if "greedy" not in estimator.reads:
        return np.zeros(1), np.ones(1)
    here = outcomes.greedy_starts == start
    returns, where = np.unique(outcomes.greedy_returns[here], return_inverse=True)
    return returns, np.bincount(where, outcomes.greedy_probabilities[here])


def _over_groups(outcomes: Outcomes, drawn: _Draws, estimator: GroupEstimator, start: int) -> Sums:
    """E ĝ and E ĝ ĝᵀ of one group that starts in a state."""
    rows = np.flatnonzero(drawn.starts == start)
    return _averages(outcomes, drawn, estimator, rows[:, None], drawn.probabilities[rows])


def _over_batches(
    outcomes: Outcomes, drawn: _Draws, estimator: GroupEstimator, groups: int, limit: int
) -> Sums:
    """E ĝ and E ĝ ĝᵀ of a whole batch."""
    total = how_many(len(drawn.starts), groups)
    if total > limit:
        raise ValueError(
            f"{total:,} batches of {groups} groups out of {len(drawn.starts):,} are too many to "
            f"enumerate (limit={limit:,}), and the weights of this estimator read the whole batch; "
            "take fewer or smaller groups"
        )
    joint = outcomes.start_probabilities[drawn.starts] * drawn.probabilities
    batches, probabilities = multisets(joint, groups)
    return _averages(outcomes, drawn, estimator, batches, probabilities)


def _averages(
    outcomes: Outcomes,
    drawn: _Draws,
    estimator: GroupEstimator,
    batches: Int[np.ndarray, "N G"],
    probabilities: Float[np.ndarray, " N"],
) -> Sums:
    """E ĝ, E ĝ ĝᵀ and the power, over batches, given as rows of groups."""
    count, d = outcomes.scores.shape
    episodes = batches.shape[1] * drawn.outcomes.shape[1]
    mean, second, squares = np.zeros(d), np.zeros((d, d)), np.zeros(count)
    step = max(1, _BLOCK // max(count, d, episodes))
    for first in range(0, len(batches), step):
        block, p = batches[first : first + step], probabilities[first : first + step]
        which = drawn.outcomes[block]
        weights = estimator.weights(
            Groups(
                outcomes.returns[which],
                outcomes.lengths[which],
                drawn.greedy[block],
                outcomes.values[drawn.starts[block]],
            )
        )
        weights = np.broadcast_to(weights, which.shape)
        given = _by_outcome(weights, which, count) @ outcomes.scores / episodes
        mean += p @ given
        second += (p[:, None] * given).T @ given
        squares += p @ _by_outcome(weights**2, which, count)
    spread = np.tensordot(squares, outcomes.squared_scores, axes=1)
    power = float(np.trace(spread)) / episodes
    spread -= (squares[:, None] * outcomes.scores).T @ outcomes.scores
    return mean, second + spread / episodes**2, power


def _by_outcome(
    weights: Float[np.ndarray, "N G k"], which: Int[np.ndarray, "N G k"], count: int
) -> Float[np.ndarray, "N X"]:
    """Σ of the weights of each outcome, for every batch."""
    rows = np.arange(len(which))[:, None, None] * count
    flat = np.bincount((rows + which).reshape(-1), weights.reshape(-1), len(which) * count)
    return flat.reshape(-1, count)

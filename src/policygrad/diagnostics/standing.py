"""Where a run's return stands: beside that of random actions, and beside the best of the run."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from policygrad.diagnostics.intervals import Measured
from policygrad.diagnostics.spread import Spread

if TYPE_CHECKING:
    from policygrad.diagnostics.examination import Examination

WINDOW = 100  # episodes that `return_mean` is a mean over, once so many have ended
LEAST = 10  # episodes of a mean that counts as a best one
FIRST = 3  # means that a run is taken to begin with
SURELY = 0.999  # of many runs that learned nothing, hardly one is to seem better than random
MEDIAN = 0.6745  # of |x|, where x is a standard Gaussian


@dataclass(frozen=True)
class AtRandom:
    """N episodes of uniformly random actions.

    Attributes:
        episodes: N.
        unfinished: episodes that were stopped at the cap on steps.
        returns: of the undiscounted returns.
        lengths: of the lengths, in steps.
    """

    episodes: int
    unfinished: int
    returns: Spread
    lengths: Spread


@dataclass(frozen=True)
class Standing:
    """A run's mean return now, and what it is beside. Returns are undiscounted.

    Attributes:
        now: of fresh episodes with the newest policy.
        at_random: of random actions; None if they were not played.
        above_random: `now` less `at_random`.
        surely_above: the lower end of its 99.9 % interval; NaN if random actions were not played.
        start: the least of the first three means of training, and of random actions; NaN if too
            few episodes ended in training.
        best: the greatest mean over up to 100 episodes in training, of ten at least; NaN likewise.
        best_update: the update of the best, from 1 on; 0 without one.
        last: the last mean of training.
        lost: `best` less `now`; its interval counts that the best is one of many means.
    """

    now: Measured
    at_random: Measured | None
    above_random: Measured | None
    surely_above: float = math.nan
    start: float = math.nan
    best: float = math.nan
    best_update: int = 0
    last: float = math.nan
    lost: Measured | None = None

    @property
    def gained(self) -> float:
        """What training had gained at its best."""
        return self.best - self.start

    @property
    def share_lost(self) -> Measured | None:
        """The part of the gain that is lost again; None if nothing can be said of it."""
        if self.lost is None or not self.gained > 0:
            return None
        return self.lost.map(lambda x: x / self.gained)


def standing_of(e: "Examination") -> Standing | None:
    """Where the return of an examined run stands; None without fresh episodes.

    The greatest of U means of equal expectation exceeds it by at most σ √(2 ln U) on average, where
    σ is the standard error of one. The interval of what was lost begins lower by that.
    """
    s, r = e.sample, e.at_random
    if s is None or not np.isfinite(s.returns.mean):
        return None
    now, at_random, above = mean_of(s.returns, s.episodes), None, None
    surely, start = math.nan, math.inf
    if r is not None:
        at_random, start = mean_of(r.returns, r.episodes), r.returns.mean
        both = (s.returns, s.episodes), (r.returns, r.episodes)
        above, surely = difference(*both), difference(*both, level=SURELY).low
    means, counts, updates = _means(e)
    if not len(means):
        return Standing(now, at_random, above, surely)
    top = int(np.argmax(means))
    best, size = float(means[top]), min(counts[top], WINDOW)
    deviation = max(
        s.returns.std, 0.0 if r is None else r.returns.std, spread_of_episodes(means, counts)
    )
    error = deviation / math.sqrt(size)
    down = math.hypot(math.sqrt(2 * math.log(len(means))) * error, now.high - now.value)
    up = math.hypot(2 * error, now.value - now.low)
    lost = best - now.value
    return Standing(
        now, at_random, above, surely,
        start=min(start, float(means[:FIRST].min())),
        best=best,
        best_update=int(updates[top]) + 1,
        last=float(means[-1]),
        lost=Measured(lost, lost - down, lost + up),
    )  # fmt: skip


def _means(
    e: "Examination",
) -> tuple[Float[np.ndarray, " U"], Float[np.ndarray, " U"], Int[np.ndarray, " U"]]:
    """The mean returns of training over enough episodes, how many had ended, and the updates."""
    means, counts = e.metric("return_mean"), e.metric("episodes")
    if len(counts) != len(means):
        counts = np.full(len(means), float(WINDOW))
    at = np.flatnonzero(np.isfinite(means) & (counts >= LEAST))
    return means[at], counts[at], at


def spread_of_episodes(means: Float[np.ndarray, " U"], counts: Float[np.ndarray, " U"]) -> float:
    """The standard deviation σ of an episode's return, from how means over 100 episodes change.

    A mean over w episodes of which m are new changes by σ √(2m)/w, in the root mean square. Two
    changes in a row differ by √2 times that at least, whatever the trend. The median over updates
    counts, since a few large changes are not chance.
    """
    if len(means) < FIRST:
        return 0.0
    window = np.minimum(counts[2:], WINDOW)
    new = np.clip(np.diff(counts)[1:], 1, window)
    differ = np.abs(np.diff(means, 2)) * window / (2 * np.sqrt(new))
    return float(np.median(differ)) / MEDIAN


def mean_of(x: Spread, n: int) -> Measured:
    """A mean over n episodes, and its 95 % interval by Student's t."""
    half = float(stdtrit(n - 1, 0.975)) * x.std / math.sqrt(n - 1)
    return Measured(x.mean, x.mean - half, x.mean + half)


def difference(a: tuple[Spread, int], b: tuple[Spread, int], level: float = 0.95) -> Measured:
    """The mean of some episodes less that of others, and its interval (Welch 1947)."""
    (x, n), (y, m) = a, b
    squares = x.std**2 / (n - 1), y.std**2 / (m - 1)
    value, total = x.mean - y.mean, sum(squares)
    if not total:
        return Measured(value, value, value)
    freedom = total**2 / (squares[0] ** 2 / (n - 1) + squares[1] ** 2 / (m - 1))
    half = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(total)
    return Measured(value, value - half, value + half)

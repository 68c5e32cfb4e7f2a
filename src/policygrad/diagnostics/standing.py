"""Where a run's return stands: beside random actions, the policy's mode, and the run's best."""

import math
from dataclasses import dataclass, replace
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
class Beside:
    """N episodes that were played for comparison.

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
        by_mode: of the policy's most probable actions; None if they were not played.
        above_samples: `by_mode` less `now`, which is of sampled actions.
        start: the least of the first three means of training, and of random actions; NaN if too
            few episodes ended in training, or if fresh ones were cut short where those go on.
        best: the greatest mean over up to 100 episodes in training, of ten at least; NaN likewise.
        best_update: the update of the best, from 1 on; 0 without one.
        last: the last mean of training.
        lost: `best` less `now`; its interval counts that the best is one of many means.
    """

    now: Measured
    at_random: Measured | None = None
    above_random: Measured | None = None
    surely_above: float = math.nan
    by_mode: Measured | None = None
    above_samples: Measured | None = None
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

    The greatest of U means of equal expectation μ exceeds it by at most √(2 ln U) σ on average,
    where σ is the standard error of one. Around that it varies the less, the larger U is: by the
    slope of √(2 ln U) it is about σ / √(1 + 2 ln U). So what was lost, best less now, is at least

        lost − √(2 ln U) σ − √((1.96 σ)² / (1 + 2 ln U) + h²),

    where h is the half width of the interval of `now`. With U = 1 it is the interval of a
    difference of two means.
    """
    s, r, m = e.sample, e.at_random, e.by_mode
    if s is None or not np.isfinite(s.returns.mean):
        return None
    samples = s.returns, s.episodes
    at, start = Standing(mean_of(*samples)), math.inf
    now = at.now
    if r is not None:
        start, random = r.returns.mean, (r.returns, r.episodes)
        at = replace(
            at,
            at_random=mean_of(*random),
            above_random=difference(samples, random),
            surely_above=difference(samples, random, level=SURELY).low,
        )
    if m is not None:
        mode = m.returns, m.episodes
        at = replace(at, by_mode=mean_of(*mode), above_samples=difference(mode, samples))
    means, counts, updates = _means(e)
    if e.cut_short or not len(means):
        return at
    top = int(np.argmax(means))
    best, size = float(means[top]), min(counts[top], WINDOW)
    deviation = max(
        s.returns.std, 0.0 if r is None else r.returns.std, spread_of_episodes(means, counts)
    )
    error = deviation / math.sqrt(size)
    many = 2 * math.log(len(means))
    chance = 1.96 * error / math.sqrt(1 + many)
    down = math.sqrt(many) * error + math.hypot(chance, now.high - now.value)
    up = math.hypot(2 * error, now.value - now.low)
    lost = best - now.value
    return replace(
        at,
        start=min(start, float(means[:FIRST].min())),
        best=best,
        best_update=int(updates[top]) + 1,
        last=float(means[-1]),
        lost=Measured(lost, lost - down, lost + up),
    )


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
    """The mean of some episodes less that of others, and its interval."""
    return contrast((1, *a), (-1, *b), level=level)


def contrast(*parts: tuple[float, Spread, int], level: float = 0.95) -> Measured:
    """A weighted sum of means over independent episodes, and its interval by Student's t.

    c = Σ wᵢ x̄ᵢ,  s² = Σ sᵢ² with sᵢ² = wᵢ² Var(xᵢ)/nᵢ,  ν = s⁴ / Σ sᵢ⁴/(nᵢ − 1).

    A `Spread` divides by n, so that std²/(n − 1) is Var(x)/n. Source: Welch 1947.
    """
    value = sum(w * x.mean for w, x, _ in parts)
    squares = [w**2 * x.std**2 / (n - 1) for w, x, n in parts]
    total = sum(squares)
    if not total:
        return Measured(value, value, value)
    freedom = total**2 / sum(v**2 / (n - 1) for v, (_, _, n) in zip(squares, parts, strict=True))
    half = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(total)
    return Measured(value, value - half, value + half)

"""The verdict on a change: what several seeds say of the difference that it makes.

Both sides are trained with the same seeds. d_i is the difference between seed i with the change and
seed i without it. Its mean has the interval d̄ ± t · s_d/√n of Student. The seeds are looked at once
or more, and trained on only while nothing is clear. The error is shared out over the looks: at each
of L looks the interval misses in 5 %/L, so that all of them together miss in at most 5 %.

A run that stops by itself, on a NaN for instance, cannot be trained on. So it counts as the worst
return that was seen, whatever it had reached. Both sides are treated alike, so that a change
without effect is adopted no more often.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from policygrad.diagnostics.intervals import Measured

ERROR = 0.05  # of all looks together, both sides
FIRST_LOOK = 3  # seeds; with two, Student's t is 13 and more
WORTH = 0.1  # of what training gains: less than that is no reason to change a setting

Word = Literal["adopt", "keep", "cannot be told"]
ADOPT, KEEP, UNCLEAR = "adopt", "keep", "cannot be told"


@dataclass(frozen=True)
class Outcome:
    """What one run of a trial reached.

    Attributes:
        start: the first mean return that is known; NaN if no episode ended.
        end: the last one, over the newest 100 episodes.
        area: the mean over its steps of the mean return at each: the area under the learning curve.
        steps: environment steps that it took.
        failed: why training stopped by itself; None if it did not.
    """

    start: float
    end: float
    area: float
    steps: int
    failed: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What was measured of a change, and what follows.

    Attributes:
        word: adopt, keep, or cannot be told.
        seeds: n, how many pairs.
        looks: how often the pairs are looked at, at most.
        confidence: of the intervals at this look; over all looks it is 95 %.
        without, with_change: mean return at the end, over the seeds.
        end: the difference of the returns at the end, and its interval.
        area: the difference of the mean returns over the run, and its interval.
        worth: the difference below which a change is not worth making.
        stopped_without, stopped_with_change: how many runs stopped by themselves.
        note: what is to be known beside the numbers: runs that stopped, runs in which no episode
            ended. None if there is nothing.
    """

    word: Word
    seeds: int
    looks: int
    confidence: float
    without: float
    with_change: float
    end: Measured
    area: Measured
    worth: float
    stopped_without: int = 0
    stopped_with_change: int = 0
    note: str | None = None

    @property
    def higher(self) -> bool:
        """Whether the return is higher at the end, or not lower there and higher over the run."""
        return self.end.low > 0 or (self.area.low > 0 and self.end.value >= 0)

    @property
    def stops_more(self) -> int:
        """How many more runs stopped by themselves with the change than without it."""
        return self.stopped_with_change - self.stopped_without


def looks_of(seeds: int) -> tuple[int, ...]:
    """After how many pairs the outcome is looked at: three, twice as many…, all.

    >>> looks_of(2), looks_of(3), looks_of(5), looks_of(20)
    ((2,), (3,), (3, 5), (3, 6, 12, 20))
    """
    found, n = [], FIRST_LOOK
    while n < seeds:
        found.append(n)
        n *= 2
    return (*found, seeds)


def difference(values: Sequence[float], error: float, spread: float = 0.0) -> Measured:
    """The mean of paired differences, and Student's interval, which misses with this error.

    Args:
        values: at least two.
        error: from 0 to 1.
        spread: the least standard deviation that is believed.

    >>> found = difference([1.0, 2.0, 3.0], 0.05)
    >>> round(found.low, 2), found.value, round(found.high, 2)
    (-0.48, 2.0, 4.48)
    """
    x = np.asarray(values, np.float64)
    deviation = max(float(x.std(ddof=1)), spread)
    half = float(stdtrit(len(x) - 1, 1 - error / 2)) * deviation / math.sqrt(len(x))
    return Measured(float(x.mean()), float(x.mean()) - half, float(x.mean()) + half)


def judge(
    without: Mapping[int, Outcome], with_change: Mapping[int, Outcome], looks: int
) -> Verdict:
    """The verdict on a change, from the same seeds with it and without it.

    It is adopted if the return at the end is higher, or if it is not lower and the mean return over
    the run is higher; beyond the interval each. The two intervals have one half of their error on
    the side of a gain, so that a change without effect is adopted in at most 5 %. It is not worth
    making if the interval of the end lies below a tenth of what training gains.

    Runs that stopped by themselves count as the worst return that was seen. Besides, a change with
    which more runs stop is not adopted. One with which fewer stop is refused only if the interval
    of the end lies below zero all the same. That fewer stop does not suffice to adopt it: of a few
    runs, one more or less is often chance.

    Args:
        without, with_change: by seed, at least two; the same seeds.
        looks: how often the pairs are looked at, at most.

    Bias: Student's interval takes the differences for normal. Pairs of equal distribution have
    symmetric differences, for which it errs on the safe side; a change that leaves the mean as it
    is and makes the returns skew may be adopted more often.

    Source: Student 1908; Bonferroni over the looks; the sign test, Arbuthnott 1710.
    """
    seeds = sorted(without.keys() & with_change.keys())
    sides = [[side[seed] for seed in seeds] for side in (without, with_change)]
    error = ERROR / looks
    nothing = Measured(math.nan, -math.inf, math.inf)
    stopped = [sum(x.failed is not None for x in side) for side in sides]
    found = Verdict(
        UNCLEAR, len(seeds), looks, 1 - error, math.nan, math.nan, nothing, nothing, math.nan,
        stopped[0], stopped[1], _note(seeds, *sides),
    )  # fmt: skip
    a, b = _counted(*sides)
    if np.isnan([x.end for x in (*a, *b)]).any():
        return found
    end, area = (_paired(a, b, name, error) for name in ("end", "area"))
    ends = float(np.mean([x.end for x in a])), float(np.mean([y.end for y in b]))
    gained = max(ends) - float(np.mean([x.start for x in (*a, *b)]))
    found = replace(
        found, without=ends[0], with_change=ends[1], end=end, area=area,
        worth=WORTH * max(gained, 0.0),
    )  # fmt: skip
    if found.higher and found.stops_more <= 0:
        return replace(found, word=ADOPT)
    if end.high < 0 or (end.high <= found.worth and found.stops_more >= 0):
        return replace(found, word=KEEP)
    return found


def _paired(a: list[Outcome], b: list[Outcome], name: str, error: float) -> Measured:
    """The difference b − a of one number.

    Means of whole numbers are multiples of some step, so that a few gains may be equal by chance.
    Their deviation then says nothing, and at least that of unpaired runs is taken. Where both sides
    are constant, as many pairs are needed as show a gain by their signs alone.
    """
    one, other = (np.array([getattr(x, name) for x in side]) for side in (a, b))
    gains = np.sort((other - one)[other > one])
    spread = 0.0
    if np.any(np.diff(gains) <= 1e-9 * np.max(np.abs([one, other]))):
        spread = math.sqrt(one.var(ddof=1) + other.var(ddof=1))
        if not spread and 2 * 0.5 ** len(one) > error:
            spread = math.inf
    return difference(list(other - one), error, spread)


def _counted(a: list[Outcome], b: list[Outcome]) -> list[list[Outcome]]:
    """The same with runs that stopped by themselves at the worst return that was seen."""
    seen = [value for x in (*a, *b) for value in (x.start, x.end, x.area)]
    worst = min((value for value in seen if not math.isnan(value)), default=math.nan)

    def counted(x: Outcome) -> Outcome:
        start = worst if math.isnan(x.start) else x.start
        return x if x.failed is None else replace(x, start=start, end=worst, area=worst)

    return [[counted(x) for x in side] for side in (a, b)]


def _note(seeds: list[int], without: list[Outcome], with_change: list[Outcome]) -> str | None:
    """What is to be known beside the numbers."""
    n, said = len(seeds), []
    changed, base = (
        [(seed, x.failed) for seed, x in zip(seeds, side, strict=True) if x.failed is not None]
        for side in (with_change, without)
    )
    for seed, why in (changed + base)[:1]:
        said.append(
            f"{len(changed)} of {n} runs with the change and {len(base)} of {n} without it stopped "
            f"by themselves, and count as the worst return that was seen (seed {seed}: {why})"
        )
    if any(x.failed is None and math.isnan(x.end) for x in (*without, *with_change)):
        said.append("no episode ended in some of the runs; give a greater --budget")
    return "; ".join(said) or None


def outcome_of(rows: Sequence[Mapping[str, Any]], failed: str | None = None) -> Outcome:
    """What a run reached, from its metrics.

    Args:
        rows: one an update.
        failed: as of `Outcome`.
    """
    steps = np.array([0, *(row["env_steps"] for row in rows)], np.float64)
    returns = np.array(
        [math.nan if row["return_mean"] is None else row["return_mean"] for row in rows], np.float64
    )
    known = np.flatnonzero(np.isfinite(returns))
    taken = int(steps[-1])
    if not len(known):
        return Outcome(math.nan, math.nan, math.nan, taken, failed)
    # an update without a return has the one before it; those before the first have the first
    latest = np.maximum.accumulate(np.where(np.isfinite(returns), np.arange(len(returns)), -1))
    held = returns[np.where(latest < 0, known[0], latest)]
    lasted = np.diff(steps)
    area = float(held @ lasted / lasted.sum())
    return Outcome(float(returns[known[0]]), float(held[-1]), area, taken, failed)

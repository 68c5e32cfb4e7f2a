"""The verdict on a change: what several seeds say of the difference that it makes.

Both sides are trained with the same seeds. d_i is the difference between seed i with the change and
seed i without it. Its mean has the interval d̄ ± t · s_d/√n of Student. The seeds are looked at once
or more, and trained on only while nothing is clear. The error is shared out over the looks: at each
of L looks the interval misses in 5 %/L, so that all of them together miss in at most 5 %.
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
        area: the mean over all steps of the mean return at each: the area under the learning curve.
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
        note: what stands in the way of a verdict; None if nothing does.
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
    note: str | None = None


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

    Args:
        without, with_change: by seed, at least two; the same seeds.
        looks: how often the pairs are looked at, at most.

    Bias: Student's interval takes the differences for normal. Pairs of equal distribution have
    symmetric differences, for which it errs on the safe side; a change that leaves the mean as it
    is and makes the returns skew may be adopted more often.

    Source: Student 1908; Bonferroni over the looks; the sign test, Arbuthnott 1710.
    """
    seeds = sorted(without.keys() & with_change.keys())
    a, b = _known([without[s] for s in seeds], [with_change[s] for s in seeds])
    error = ERROR / looks
    nothing = Measured(math.nan, -math.inf, math.inf)
    if np.isnan([x.end for x in (*a, *b)]).any():
        return Verdict(UNCLEAR, len(seeds), looks, 1 - error, math.nan, math.nan, nothing, nothing,
                       math.nan, "no episode ended in some of the runs; give a greater --budget"
                       )  # fmt: skip
    end, area = (_paired(a, b, name, error) for name in ("end", "area"))
    ends = float(np.mean([x.end for x in a])), float(np.mean([y.end for y in b]))
    gained = max(ends) - float(np.mean([x.start for x in (*a, *b)]))
    worth = WORTH * max(gained, 0.0)
    word: Word = UNCLEAR
    if end.low > 0 or (area.low > 0 and end.value >= 0):
        word = ADOPT
    elif end.high <= worth:
        word = KEEP
    return Verdict(word, len(seeds), looks, 1 - error, *ends, end, area, worth)


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


def _known(a: list[Outcome], b: list[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Runs that failed before an episode ended count as the worst that was seen."""
    seen = [x.start for x in (*a, *b)] + [x.end for x in (*a, *b)]
    worst = min((x for x in seen if not math.isnan(x)), default=math.nan)

    def filled(x: Outcome) -> Outcome:
        lost = x.failed is not None and math.isnan(x.end)
        return replace(x, start=worst, end=worst, area=worst) if lost else x

    return [filled(x) for x in a], [filled(x) for x in b]


def outcome_of(
    rows: Sequence[Mapping[str, Any]], budget: int, failed: str | None = None
) -> Outcome:
    """What a run reached, from its metrics.

    Args:
        rows: one an update.
        budget: steps that it was to take. A run that stopped keeps the return that it had.
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
    lasted[-1] += max(budget - taken, 0)
    area = float(held @ lasted / lasted.sum())
    return Outcome(float(returns[known[0]]), float(held[-1]), area, taken, failed)

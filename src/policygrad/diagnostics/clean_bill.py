"""Whether a run in which nothing was found may be called healthy, and what its return is beside."""

from collections.abc import Sequence

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.facts import (
    begin,
    chance_of_returns,
    either_end,
    end,
    return_rises,
    series,
    taken_for_new,
)
from policygrad.diagnostics.findings import Finding
from policygrad.diagnostics.intervals import Measured
from policygrad.diagnostics.rules import looked_at, not_looked_at
from policygrad.diagnostics.rules.standing import shown
from policygrad.diagnostics.sample import Sample
from policygrad.diagnostics.standing import Beside, Standing, standing_of

CLEARLY = 0.1  # of what training had gained
# rules that wait for longer than it takes to judge a run
PATIENT = ("no-better-than-random", "noise-costs-most", "mode-loses-most")
STANDS = "clearly above that of random actions and not clearly below its best"
NEVER = (
    "No rule looks at whether a better return is possible, or whether the reward is the right one."
)


def healthy(findings: Sequence[Finding], e: Examination) -> bool | None:
    """Whether a run is healthy; None where nothing was found and it cannot be told."""
    return False if findings else None if doubts(e) else True


def doubts(e: Examination) -> tuple[str, ...]:
    """What keeps a run from being called healthy although nothing is found; empty if nothing does.

    A healthy run stands clearly above random actions, beyond a 99.9 % interval, and not clearly
    below its best: it has not lost a tenth of what it had gained, by the lower end of a 95 %
    interval.

    Args:
        e: the examination of a run, or of the log of another library.
    """
    if e.language is not None:
        return ("A log does not say what random actions return.",)
    return (*_too_short(e), *_beside(e))


def _too_short(e: Examination) -> tuple[str, ...]:
    early = [
        each.name
        for each in not_looked_at(e)
        if each.needs.endswith("updates") and each.name not in PATIENT
    ]
    if not early:
        return ()
    return (
        f"The run is too short to judge: it has {e.updates} updates, and {len(early)} rules look "
        f"at more ({', '.join(early)}).",
    )


def _beside(e: Examination) -> tuple[str, ...]:
    at = standing_of(e)
    if at is None:
        return ("The return is not known: no fresh episodes could be looked at.",)
    found = []
    if at.above_random is None:
        found.append("It is not known what random actions return.")
    elif not at.surely_above > 0:
        found.append(
            "The return is not clearly above that of random actions: the difference is "
            f"{shown(at.above_random)}, and its 99.9 % interval begins at {at.surely_above:.4g}."
        )
    if e.cut_short and e.sample is not None:
        found.append(
            f"{e.sample.unfinished} of {e.sample.episodes} fresh episodes were stopped after "
            f"{e.sample.lengths.most:,.0f} steps, where those of training go on; so it is not "
            "known how far the return is below its best in training."
        )
    elif at.lost is None:
        found.append("Too few episodes ended in training for a best return to be known.")
    elif at.lost.low > CLEARLY * at.gained:
        found.append(
            f"The return is clearly below its best in training: the difference is {shown(at.lost)}."
        )
    return tuple(found)


def headline(findings: Sequence[Finding], e: Examination) -> str | None:
    """The verdict in one sentence where nothing was found; None where something was."""
    if findings:
        return None
    rules = len(looked_at(e))
    if healthy(findings, e):
        return (
            f"Healthy, as far as was looked at: {rules} rules found nothing, and the return is "
            f"{STANDS}."
        )
    if e.language is not None:
        return f"Nothing was found by {rules} rules."
    return f"Nothing was found by {rules} rules, but this is no clean bill."


def all_the_same(findings: Sequence[Finding], e: Examination) -> str | None:
    """In one sentence, that a run in which something was found has learned; None if it has not.

    Of a run it is said under the conditions on the return of a healthy one, of a log where its
    return rises.
    """
    if not findings:
        return None
    if e.language is None:
        return None if _beside(e) else f"All the same the run has learned: its return is {STANDS}."
    return "All the same the return rose." if return_rises(e) else None


def lines_of(e: Examination) -> list[str]:
    """What the mean return is now, and beside what, with 95 % intervals; empty if not known."""
    if e.language is not None:
        return _of_a_log(e)
    at = standing_of(e)
    if at is None or e.sample is None:
        return []
    return [
        "mean return (95 % intervals):",
        f"   now: {shown(at.now)}, of {e.sample.episodes:,} fresh episodes{_cut(e.sample)}",
        *_played("by the mode", e.by_mode, at.by_mode, at.above_samples),
        *_played("of random actions", e.at_random, at.at_random, at.above_random),
        *_best(e, at),
    ]


def _played(
    what: str, played: Beside | None, mean: Measured | None, apart: Measured | None
) -> list[str]:
    """What other episodes returned, and how far that is from `now`."""
    if played is None or mean is None or apart is None:
        return []
    return [
        f"   {what}: {shown(mean)}, of {played.episodes} episodes{_cut(played)}; the difference is "
        f"{shown(apart)}"
    ]


def _cut(played: Beside | Sample) -> str:
    return f", {played.unfinished} stopped without an end" if played.unfinished else ""


def _best(e: Examination, at: Standing) -> list[str]:
    if e.cut_short:
        return ["   best in training: not compared, since fresh episodes were stopped"]
    if at.lost is None:
        return ["   best in training: not known, too few episodes ended"]
    share = at.share_lost
    of_gain = "" if share is None or share.low <= 0 else f", {share.value:.0%} of what was gained"
    since = f"lost since: {shown(at.lost)}{of_gain}" if at.lost.low > 0 else "not lost since"
    return [
        f"   best in training: {at.best:.4g}, at update {at.best_update} of {e.updates}; {since}"
    ]


def _of_a_log(e: Examination) -> list[str]:
    """The return's curve in words."""
    returns = series(e, "return_mean")
    if not len(returns):
        return ["mean return: not logged"]
    first, best, last = begin(returns), float(returns.max()), end(returns)
    if len(returns) < 4:
        how = "too few rows to say whether it rose"
    elif return_rises(e):
        how = "it rose"
    elif abs(last - first) <= 2 * either_end(chance_of_returns(e)):
        how = "it did not rise, beyond chance"
    else:
        how = "it rose and fell" if last > first else "it fell"
    return [
        f"mean return: {first:.4g} in the first rows, {best:.4g} at its best, {last:.4g} in the "
        f"last rows: {how}{taken_for_new(e)}"
    ]

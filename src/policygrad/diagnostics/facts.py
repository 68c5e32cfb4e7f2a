"""What is known of a run, whatever it was learned from, and what rules make of it."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.moving_means import (
    deviation_of_episodes,
    spread_of_rows,
    spread_of_sum,
)
from policygrad.diagnostics.standing import WINDOW

FRESH_EPISODES = "fresh episodes"
GRADIENTS = "gradients"
RANDOM = "random actions"
MODE = "the policy's mode"
LATE = "rows of a late time"
TELLING = "episodes that tell"
WIDE = "batches of many steps"
MOVED = "a KL after an update"
USUAL = "a usual learning rate"
ROWS = 50  # until which a critic with targets of a few steps looks untrained although it learns
FIRST, LAST = 0.1, 0.2  # of a series: where it begins, and where it ends
EPISODES = 100  # none in N: at most 3/N of all, with 95 %
STEPS = 100  # of a batch; the returns of a few steps in a row hardly differ
OF_RUNS = {
    FRESH_EPISODES: "fresh episodes with the policy",
    GRADIENTS: "the gradients of fresh episodes",
    RANDOM: "episodes of random actions",
    MODE: "episodes of the policy's mode",
    LATE: f"{ROWS} rows: with targets of a few steps a critic shows only late that it learns",
    TELLING: f"{EPISODES} episodes: among fewer, none may have reached its goal yet",
    WIDE: f"batches of {STEPS} steps: the returns of a few steps in a row hardly differ",
    MOVED: "KL(old ‖ new) after each update",
    USUAL: "a library with a usual learning rate",
    "refit": "the critic's explained variance after each fit",
}


def known(e: Examination, fact: str) -> bool:
    """Whether something was measured, logged or set: a metric, a setting, or fresh episodes."""
    if fact == FRESH_EPISODES:
        return e.sample is not None
    if fact == GRADIENTS:
        return e.noise is not None
    if fact == LATE:
        return e.language is None or not e.language.single_episodes or e.updates >= ROWS
    if fact == TELLING:
        return _differ(e) or episodes(e) >= EPISODES
    if fact == WIDE:
        return (e.settings.get("batch_steps") or STEPS) >= STEPS
    if fact == MOVED:
        before = e.language is not None and e.language.kl_before_step
        return not before and known(e, "kl")
    if fact == USUAL:
        return e.language is not None and e.language.usual_step_size is not None
    not_finite = e.logged is not None and fact in e.logged.not_finite
    return bool(len(series(e, fact))) or not_finite or e.settings.get(fact) is not None


def _differ(e: Examination) -> bool:
    """Whether two episodes, or two means over episodes, had different returns."""
    single = None if e.logged is None else e.logged.returns
    returns = e.metric("return_mean") if single is None else single
    returns = returns[np.isfinite(returns)]
    return bool(np.any(returns != returns[:1]))


def series(e: Examination, name: str) -> Float[np.ndarray, " N"]:
    """The finite entries of a metric."""
    x = e.metric(name)
    return x[np.isfinite(x)]


def begin(x: Float[np.ndarray, " N"], share: float = FIRST) -> float:
    """The median of the first tenth, three entries at least; NaN if there are none."""
    return float(np.median(x[: _rows(x, share)])) if len(x) else float("nan")


def end(x: Float[np.ndarray, " N"], share: float = LAST) -> float:
    """The median of the last fifth, three entries at least; NaN if there are none."""
    return float(np.median(x[-_rows(x, share) :])) if len(x) else float("nan")


def _rows(x: Float[np.ndarray, " N"], share: float) -> int:
    """Of a share of a series: three at least, if it has so many."""
    return min(len(x), max(3, round(share * len(x))))


def chance(x: Float[np.ndarray, " N"]) -> float:
    """The standard deviation of single entries around their trend, from their differences."""
    return float(np.std(np.diff(x)) / np.sqrt(2)) if len(x) > 2 else 0.0


def chance_of_returns(e: Examination) -> Float[np.ndarray, " N"]:
    """The standard deviation by chance of each finite mean return, around their trend.

    Means over the newest episodes, which a run of ours and most libraries log, wander further than
    their small steps tell (`moving_means`). Where it is not known how many episodes end in a row,
    rows are taken to be of different episodes.
    """
    means, ended, window = _moving(e)
    if window is None:
        return np.full(len(means), chance(means))
    return spread_of_rows(means, ended, window)


def _moving(
    e: Examination,
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"], int | None]:
    """The finite mean returns, how many episodes had ended by each, and over how many of the newest
    they are; None where that, or how many had ended, is not known."""
    means, ended = e.metric("return_mean"), e.metric("episodes")
    window = WINDOW if e.logged is None else e.logged.window
    kept = np.isfinite(means)
    if window is None or len(ended) != len(means):
        return means[kept], np.zeros(0), None
    return means[kept], ended[kept], window


def taken_for_new(e: Examination) -> str:
    """What was assumed of a log of moving means without the number of episodes; empty otherwise."""
    if e.logged is None or e.logged.window is None or len(e.metric("episodes")):
        return ""
    return (
        f"; a row is a mean over the newest {e.logged.window} episodes, and was taken to share "
        "none with the row before, since the log does not say how many end in between"
    )


def return_rises(e: Examination, *, late: bool = False) -> bool:
    """Whether the mean return ended higher than it began, by more than chance, and near its best.

    The mean of the last fifth of the rows, less that of the first tenth, is more than two of its
    standard deviations by chance.

    Args:
        e: what is known.
        late: whether only the second half of the rows counts.
    """
    means, ended, window = _moving(e)
    x = means[len(means) // 2 if late else 0 :]
    if len(x) < 4:
        return False
    weights = np.zeros(len(x))
    weights[: _rows(x, FIRST)] -= 1 / _rows(x, FIRST)
    weights[-_rows(x, LAST) :] += 1 / _rows(x, LAST)
    if window is None:
        by_chance = chance(x) * float(np.sqrt(np.sum(weights**2)))
    else:
        deviation = deviation_of_episodes(means, ended, window)
        by_chance = deviation * spread_of_sum(ended[-len(x) :], window, weights)
    gained, best = float(weights @ x), float(np.max(x) - np.mean(x[: _rows(x, FIRST)]))
    return gained > 2 * by_chance and gained > 0.5 * best


def either_end(spread: Float[np.ndarray, " N"]) -> float:
    """The larger of what is at the beginning and at the end."""
    return max(begin(spread), end(spread))


def episodes(e: Examination) -> float:
    """How many episodes ended in training; NaN if the log does not tell."""
    lengths = series(e, "length_mean")
    if e.logged is not None and e.logged.returns is not None:
        return float(len(e.logged.returns))
    return e.env_steps / float(np.median(lengths)) if len(lengths) and e.env_steps else np.nan


def return_rose(e: Examination, chances: float) -> bool:
    """Whether the mean return ended higher than the lowest of its first three, beyond chance."""
    x, spread = series(e, "return_mean"), chance_of_returns(e)
    return len(x) > 2 and end(x) - float(np.min(x[:3])) > chances * float(spread[:3].max())


def of_choices(e: Examination) -> bool:
    """Whether the entropy is that of choices, which is never negative, as far as the log tells."""
    entropy = series(e, "entropy")
    return not len(series(e, "action_std")) and bool(len(entropy) and entropy.min() >= -1e-6)


def deterministic(e: Examination, t: Mapping[str, float]) -> bool:
    """Whether the policy hardly explores at the end: its noise or its entropy is about zero.

    The entropy of a density has no zero to fall to, so that it tells nothing.
    """
    std = series(e, "action_std")
    if len(std):
        return end(std) < t["std"]
    return of_choices(e) and end(series(e, "entropy")) < t["nats"]


def learning_rate(e: Examination) -> float | None:
    """The largest that was logged, or the one that was set; None if it is not known."""
    logged = series(e, "step_size")
    if len(logged):
        return float(logged.max())
    given = e.settings.get("step_size")
    return None if given is None else float(given)


def upset(e: Examination, t: Mapping[str, float]) -> bool:
    """Whether a policy that is deterministic, or a huge learning rate, explains the other numbers.

    What a critic is fitted to is then no sign of γ, of λ, or of what it observes.
    """
    rate = learning_rate(e)
    return deterministic(e, t) or (rate is not None and rate >= t["step_size"])


def reward_of_a_step(e: Examination) -> float:
    """The mean reward of one step, in size, at the beginning; NaN if it is not known."""
    returns, lengths = e.metric("return_mean"), e.metric("length_mean")
    if len(returns) != len(lengths):
        return float("nan")
    ratio = np.abs(returns) / lengths
    return begin(ratio[np.isfinite(ratio)])


def reach(e: Examination) -> float:
    """How many steps ahead the critic's targets look at least, by the size of its errors.

    √(mean square of return minus value) / |mean reward of a step|. An untrained critic says about
    zero, so that its error is the target: about 1/(1 − γλ) rewards, or as many as an episode has.
    A critic that learns is less wrong, but in states that it did not foresee. Therefore the larger
    of the first rows' and of all rows' root mean square; NaN if there are none.
    """
    errors = series(e, "value_error")
    if not len(errors):
        return float("nan")
    first = errors[: max(3, len(errors) // 10)]
    return float(np.sqrt(max(first.mean(), errors.mean())) / reward_of_a_step(e))

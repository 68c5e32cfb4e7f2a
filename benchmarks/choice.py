"""Candidates beside the defaults: scores by task, and what may be concluded from them.

A run's score is the mean of its deterministic and its stochastic score, between random actions (0)
and the task's goal (1). Compared are the tasks and seeds that both have run.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from summary import RESAMPLES, grouped
from tasks import KNOWN

GAINED = 0.03  # the least that a candidate brings to survive a screening
FALLEN = 0.10  # the most that it may cost on one task


@dataclass(frozen=True)
class Comparison:
    """A candidate beside a reference, on the tasks and seeds that both have run.

    Attributes:
        name: the candidate.
        seeds: that were compared, by task.
        gains: mean score less that of the reference, by task.
        gain: mean over tasks.
        interval: 95 % of `gain`: seeds of both are resampled within each task.
    """

    name: str
    seeds: Mapping[str, Sequence[int]]
    gains: Mapping[str, float]
    gain: float
    interval: tuple[float, float]

    @property
    def survives(self) -> bool:
        """Whether it passes a screening."""
        return self.gain >= GAINED and min(self.gains.values()) >= -FALLEN

    @property
    def wins(self) -> bool:
        """Whether the reference lies below it, beyond the interval."""
        return self.interval[0] > 0


def score(line: Mapping[str, Any]) -> float:
    """The mean of the deterministic and the stochastic score of a run."""
    task = KNOWN[line["task"]]
    return (task.score(line["deterministic"]["mean"]) + task.score(line["stochastic"]["mean"])) / 2


def comparisons(lines: Sequence[dict[str, Any]], reference: str) -> list[Comparison]:
    """Every algorithm of the file beside the reference, the greatest gain first.

    Raises:
        ValueError: the file has no run of the reference.
    """
    runs = {
        key: {line["seed"]: score(line) for line in group}
        for key, group in grouped(list(lines)).items()
    }
    names = sorted({name for _, name in runs})
    if reference not in names:
        raise ValueError(f"no run of {reference}; there are: {', '.join(names) or 'no runs'}")
    found = [comparison(name, reference, runs) for name in names if name != reference]
    return sorted((c for c in found if c is not None), key=lambda c: -c.gain)


def comparison(
    name: str, reference: str, runs: Mapping[tuple[str, str], Mapping[int, float]]
) -> Comparison | None:
    """One candidate beside the reference; None where they have no task and seed in common.

    Args:
        name, reference: algorithms.
        runs: scores by seed, of each task and algorithm.
    """
    seeds, pairs = {}, {}
    for (task, algorithm), ours in runs.items():
        theirs = runs.get((task, reference), {})
        common = sorted(ours.keys() & theirs.keys())
        if algorithm == name and common:
            seeds[task] = common
            pairs[task] = np.array([[ours[seed] for seed in common], [theirs[s] for s in common]])
    if not pairs:
        return None
    gains = {task: float(both[0].mean() - both[1].mean()) for task, both in pairs.items()}
    gain = float(np.mean(list(gains.values())))
    return Comparison(name, seeds, gains, gain, interval_of(list(pairs.values())))


def interval_of(pairs: Sequence[Float[np.ndarray, "2 seeds"]]) -> tuple[float, float]:
    """95 % of the mean over tasks of a difference of means, by the percentile bootstrap.

    The seeds of candidate and reference are resampled apart from each other, within each task.
    Infinite where a task has one seed.
    """
    if min(both.shape[1] for both in pairs) < 2:
        return -math.inf, math.inf
    random, total = np.random.default_rng(0), np.zeros(RESAMPLES)
    for both in pairs:
        ours, theirs = (
            side[random.integers(len(side), size=(RESAMPLES, len(side)))].mean(axis=1)
            for side in both
        )
        total += (ours - theirs) / len(pairs)
    low, high = np.quantile(total, (0.025, 0.975))
    return float(low), float(high)


def plain(found: Comparison) -> dict[str, Any]:
    """As plain data; without the interval where it is infinite, which JSON does not know."""
    interval = list(found.interval) if math.isfinite(found.interval[0]) else None
    return vars(found) | {"interval": interval, "survives": found.survives, "wins": found.wins}


def markdown(found: Sequence[Comparison], reference: str) -> str:
    """A line a candidate: its gain over tasks, and on each."""
    tasks = list(dict.fromkeys(task for c in found for task in c.gains))
    heads = [f"beside {reference}", "runs", "gain in score", "95 % interval", *tasks]
    told = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for c in found:
        ends = "–" if math.isinf(c.interval[0]) else f"[{c.interval[0]:+.3f}, {c.interval[1]:+.3f}]"
        cells = [f"{c.gains[task]:+.3f}" if task in c.gains else "" for task in tasks]
        count = sum(map(len, c.seeds.values()))
        told.append(f"| {' | '.join([c.name, str(count), f'{c.gain:+.3f}', ends, *cells])} |")
    return "\n".join([
        *told, "",
        f"Passes a screening so far (gains {GAINED}, loses no more than {FALLEN} on any task): "
        + (", ".join(c.name for c in found if c.survives) or "none"),
        f"Better than {reference} beyond the interval: "
        + (", ".join(c.name for c in found if c.wins) or "none"),
    ])  # fmt: skip

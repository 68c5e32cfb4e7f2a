"""Results in numbers: interquartile means with stratified bootstrap intervals, as tables.

Agarwal, Schwarzer, Castro, Courville & Bellemare (2021), "Deep reinforcement learning at the edge
of the statistical precipice": the interquartile mean over runs, and percentile bootstrap intervals
that resample runs within each task.
"""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tasks import KNOWN

from policygrad.maths.intervals import interquartile_mean, iqm_interval

RESAMPLES = 10_000


def mean_over_run(metrics: list[dict[str, Any]]) -> float:
    """The training return of recent episodes, averaged over the steps of the run."""
    known = [m for m in metrics if m["return_mean"] is not None]
    ends = np.array([0, *(m["env_steps"] for m in known)])
    return float(np.average([m["return_mean"] for m in known], weights=np.diff(ends)))


@dataclass(frozen=True)
class Row:
    """One algorithm on one task.

    Attributes:
        task, algorithm: which.
        seeds: in rising order.
        returns: the stochastic policy's mean return over the evaluation episodes, by seed.
        iqm, interval: over seeds.
        steps: environment steps of training, the most of any seed.
        seconds: wall time of training, median over seeds; evaluation is not counted.
        steps_per_second: median over seeds.
        env: with the engine that ran.
    """

    task: str
    algorithm: str
    seeds: list[int]
    returns: list[float]
    iqm: float
    interval: tuple[float, float]
    steps: int
    seconds: float
    steps_per_second: float
    env: str


def stratified_interval(
    strata: Iterable[Any], resamples: int = RESAMPLES
) -> tuple[float, tuple[float, float]]:
    """The IQM over the runs of all tasks, and its 95 % stratified bootstrap interval.

    Args:
        strata: one array of scores a task, `[runs]` each; their sizes may differ.
        resamples: the same ones every time.

    A task with a single run has no spread to resample: the interval is then infinite.
    """
    strata = [np.asarray(scores, np.float64) for scores in strata]
    point = float(interquartile_mean(np.concatenate(strata)))
    if min(len(scores) for scores in strata) < 2:
        return point, (-math.inf, math.inf)
    random = np.random.default_rng(0)
    drawn = [s[random.integers(len(s), size=(resamples, len(s)))] for s in strata]
    low, high = np.quantile(interquartile_mean(np.concatenate(drawn, axis=1)), (0.025, 0.975))
    return point, (float(low), float(high))


def grouped(lines: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Lines by task and algorithm, by rising seed; tasks in the suite's order."""
    known = list(KNOWN)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in sorted(lines, key=lambda line: line["seed"]):
        groups.setdefault((line["task"], line["algorithm"]), []).append(line)

    def place(key: tuple[str, str]) -> tuple[int, str, str]:
        task, algorithm = key
        return (known.index(task) if task in known else len(known)), task, algorithm

    return {key: groups[key] for key in sorted(groups, key=place)}


def rows_of(lines: list[dict[str, Any]]) -> list[Row]:
    """A row for every algorithm on every task."""
    rows = []
    for (task, algorithm), cells in grouped(lines).items():
        returns = [cell["stochastic"]["mean"] for cell in cells]
        iqm, interval = iqm_interval(returns, RESAMPLES)
        rows.append(
            Row(
                task,
                algorithm,
                [cell["seed"] for cell in cells],
                returns,
                iqm,
                interval,
                max(cell["steps"] for cell in cells),
                statistics.median(cell["seconds"] for cell in cells),
                statistics.median(cell["steps"] / cell["seconds"] for cell in cells),
                ", ".join(sorted({cell["env"] for cell in cells})),
            )
        )
    return rows


def overall(rows: list[Row]) -> dict[str, tuple[float, tuple[float, float]]]:
    """Every algorithm's IQM score over the tasks that all algorithms ran, with its interval.

    A score is 0 at random actions and 1 at the task's goal. Empty for fewer than two such tasks.
    """
    tasks_of: dict[str, set[str]] = {}
    for row in rows:
        tasks_of.setdefault(row.algorithm, set()).add(row.task)
    common = set.intersection(*tasks_of.values()) & set(KNOWN) if tasks_of else set()
    if len(common) < 2:
        return {}
    return {
        algorithm: stratified_interval(
            [KNOWN[row.task].score(value) for value in row.returns]
            for row in rows
            if row.algorithm == algorithm and row.task in common
        )
        for algorithm in sorted(tasks_of)
    }


def markdown(rows: list[Row]) -> str:
    """Tables: one of all cells, and one of scores over tasks where there are several."""
    lines = [
        "| task | algorithm | IQM | 95 % interval | by seed | steps | seconds | steps/s | engine |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        seeds = ", ".join(number(x) for x in row.returns)
        lines.append(
            f"| {row.task} | {row.algorithm} | {number(row.iqm)} | {interval(row.interval)} "
            f"| {seeds} | {row.steps:,} | {row.seconds:,.0f} | {row.steps_per_second:,.0f} "
            f"| {row.env.rpartition('/')[0] or 'gymnasium'} |"
        )
    scores = overall(rows)
    if scores:
        lines += ["", "| algorithm | IQM score over tasks | 95 % interval |", "|---|---|---|"]
        for algorithm, (iqm, ends) in scores.items():
            lines.append(f"| {algorithm} | {iqm:.2f} | {interval(ends, '.2f')} |")
    return "\n".join(lines)


def number(value: float) -> str:
    """A return with as many digits as it is worth."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"


def interval(ends: tuple[float, float], form: str | None = None) -> str:
    """`[low, high]`; a dash where there is none."""
    low, high = (number(end) if form is None else f"{end:{form}}" for end in ends)
    return f"[{low}, {high}]" if math.isfinite(ends[0]) else "–"

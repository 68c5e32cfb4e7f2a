"""Runs that differ in their seed alone, as groups; and what tells the groups apart.

A run that was given objects which no file describes is a line of its own. The seeds of one call
were given the same objects, and are a group.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from policygrad.core.errors import RunError, UserError
from policygrad.core.settings import did_you_mean
from policygrad.maths.intervals import iqm_interval
from policygrad.runs import RunDirectory

# what does not change what is learned
NOT_COMPARED: frozenset[str] = frozenset(
    ("seed", "checkpoint_seconds", "keep_checkpoints", "tensorboard", "wandb", "video_every",
     "processors", "monitor_every", "step_timeout", "processes")
)  # fmt: skip
UNTOLD = ("function", "array")  # how a file describes what it cannot describe
CHOICES = ("algorithm", "estimator", "baseline", "optimiser")
AXES = {"steps": "env_steps", "wall-time": "seconds"}
POINTS, RESAMPLES = 200, 2_000

Usual = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Curve:
    """One run, as it is drawn.

    Attributes:
        path: of the run.
        env: the environment's name.
        seed: of the run; None if its file has none.
        settings: what it is compared by, flat, for labels.
        alike: the same for runs that differ in their seed alone.
        rows: its metrics, one an update.
    """

    path: Path
    env: str
    seed: int | None
    settings: Mapping[str, Any]
    alike: str = field(repr=False)
    rows: list[dict[str, Any]] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> "Curve":
        """Read a run; RunError if it is missing or damaged."""
        directory = RunDirectory.open(path)
        saved, rows = directory.read_config(), directory.read_metrics()
        if not rows:
            raise RunError(f"{path} holds no metrics: no update of it was recorded")
        config = saved.get("config") or {}
        compared = {k: v for k, v in config.items() if k not in NOT_COMPARED and v is not None}
        compared |= {f"env.{k}": v for k, v in (saved.get("env_kwargs") or {}).items()}
        compared |= {k: str(v) for k, v in (saved.get("values") or {}).items()}
        if saved.get("schedules"):
            compared["schedules"] = ", ".join(saved["schedules"])
        if changes := _changes(saved):
            compared["changed"] = ", ".join(changes)
        start = saved.get("from") or {}
        if start:
            compared["from"] = start["path"]
        env = saved.get("env") or "environment passed as an object"
        alone = str(_made_with(path)) if _untold(saved) else None
        alike = json.dumps([env, start.get("sha256"), alone, compared], sort_keys=True)
        return cls(path, env, config.get("seed"), compared, alike, rows)

    @property
    def name(self) -> str:
        """What it is called where nothing else tells it from others."""
        return _made_with(self.path).name

    def has(self, metric: str) -> bool:
        """Whether a metric was recorded at all."""
        return any(row.get(metric) is not None for row in self.rows)

    def series(self, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
        """Where a metric was recorded, and its values; RunError if one is no number."""
        pairs = [(row.get(x), row[y]) for row in self.rows if row.get(y) is not None]
        for pair in pairs:
            if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in pair):
                raise RunError(f"{self.path}: {y!r} or {x!r} is no number in its metrics: {pair}")
        found = np.array(pairs, float).reshape(-1, 2)
        return found[:, 0], found[:, 1]


def _untold(saved: Mapping[str, Any]) -> bool:
    """Whether a run was given something that its file does not tell from others of its kind: an
    object without a description, the function of a schedule, or a first policy of no file."""
    values = saved.get("values") or {}
    of_no_file = saved.get("begins_from_a_policy") and not saved.get("from")
    described = set(saved.get("objects") or ()) <= values.keys()
    described &= not str(values.get("env")).startswith("__main__:")  # of some script or other
    return bool(of_no_file or saved.get("schedules") or not described or _has_untold(values))


def _has_untold(value: Any) -> bool:
    if isinstance(value, (dict, list)):
        return any(map(_has_untold, value.values() if isinstance(value, dict) else value))
    return value in UNTOLD


def _made_with(path: Path) -> Path:
    """What tells a run from those that were given other objects: its path, or, of the seeds of one
    call, which were given the same, the directory of all."""
    path = path.resolve()
    return path.parent if re.fullmatch("seed-[0-9]+", path.name) else path


def _changes(saved: Mapping[str, Any]) -> list[str]:
    """Settings that were changed as a run was resumed, and that its numbers depend on."""
    without = set(NOT_COMPARED)
    if (saved.get("config") or {}).get("step_size_schedule") != "linear":
        without.add("total_steps")
    return [
        f"{name} {value} at {change['env_steps']}"
        for change in saved.get("changes") or ()
        for name, value in change["settings"].items()
        if name not in without
    ]


@dataclass(frozen=True)
class Band:
    """A metric of a group of N runs, on a grid that all of them reach.

    Attributes:
        x: `[G]`, steps or seconds.
        middle: `[G]`, the interquartile mean over the runs; the value itself for one run.
        low, high: `[G]`, its 95 % bootstrap interval; equal to `middle` for one run.
    """

    x: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Group:
    """Runs of equal settings.

    Attributes:
        label: what tells it from the other groups; the same for equal settings elsewhere.
        env: the environment's name.
        curves: its runs, by seed.
    """

    label: str
    env: str
    curves: Sequence[Curve]

    def having(self, metric: str) -> list[Curve]:
        """The runs that have a metric, whose lines are drawn."""
        return [curve for curve in self.curves if curve.has(metric)]

    def lines(self, x: str, y: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """The series of each run that has the metric."""
        return [curve.series(x, y) for curve in self.having(y)]

    def band(self, x: str, y: str) -> Band | None:
        """The interquartile mean over the runs, and its interval.

        Between two records a run's metric is interpolated linearly. None where no run has the
        metric, or where the runs have no stretch of x in common.
        """
        lines = self.lines(x, y)
        if not lines:
            return None
        if len(lines) == 1:
            where, values = lines[0]
            return Band(where, values, values, values)
        first, last = max(line[0][0] for line in lines), min(line[0][-1] for line in lines)
        if first > last:
            return None
        grid = np.linspace(first, last, POINTS if last > first else 1)
        values = np.array([np.interp(grid, *line) for line in lines])
        found = [iqm_interval(column, RESAMPLES) for column in values.T]
        middle = np.array([mean for mean, _ in found])
        low, high = np.array([interval for _, interval in found]).T
        return Band(grid, middle, low, high)


def grouped(curves: Sequence[Curve], usual: Usual | None = None) -> list[Group]:
    """Runs by their environment and settings, in the order in which they were named.

    Args:
        curves: runs.
        usual: settings -> the value that each has unless a user gives another, given the choices by
            name. Settings that have it need no mention beside these choices. None if not known.

    Raises:
        UserError: two runs with the same settings and seed, which are one run and not two.
    """
    found: dict[str, list[Curve]] = {}
    for curve in curves:
        same = found.setdefault(curve.alike, [])
        twin = next((c for c in same if c.seed == curve.seed and c.seed is not None), None)
        if twin is not None:
            raise UserError(
                f"{twin.path} and {curve.path} have the same settings and the same seed: they are "
                "one run, not two; leave one out"
            )
        same.append(curve)
    groups = list(found.values())
    labels = _labels([group[0].settings for group in groups], usual or (lambda settings: {}))
    named: list[Group] = []
    for group, label in zip(groups, labels, strict=True):
        twins = [g for g, other in zip(groups, labels, strict=True) if other == label]
        if not label or len({g[0].env for g in twins}) < len(twins):
            label = ", ".join(filter(None, (label, group[0].name)))
        named.append(Group(label, group[0].env, group))
    return named


def _labels(settings: Sequence[Mapping[str, Any]], usual: Usual) -> list[str]:
    """For each group its choices and settings that are not those of all others."""
    keys = [*CHOICES, *sorted({key for s in settings for key in s} - set(CHOICES))]
    defaults = [usual(s) for s in settings]

    def told(key: str) -> bool:
        values = {str(s.get(key)) for s in settings}
        if key in CHOICES:
            return len(values - {"None"}) > 1
        if len(values) == 1:
            return False
        return any(
            key in s and s[key] != d.get(key) for s, d in zip(settings, defaults, strict=True)
        )

    shown = [key for key in keys if told(key)]

    def word(key: str, value: Any) -> str:
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return text if key in CHOICES else f"{key.replace('_', '-')} {text}"

    return [", ".join(word(key, s[key]) for key in shown if key in s) for s in settings]


def check_metric(curves: Sequence[Curve], name: str) -> list[Curve]:
    """The runs without a metric; UserError, which lists what there is, if no run has it."""
    without = [curve for curve in curves if not curve.has(name)]
    if len(without) < len(curves):
        return without
    known = sorted({key for c in curves for row in c.rows for key, v in row.items() if _number(v)})
    there = f"there are {', '.join(known)}" if known else "they have recorded nothing yet"
    hint = did_you_mean(name, known)
    raise UserError(f"no run has a metric called {name!r}{hint}; {there}")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

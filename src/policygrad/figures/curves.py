"""Learning curves of runs. Matplotlib is imported when a figure is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policygrad.figures.style import COLOURS, load_matplotlib, steps_label, tidy
from policygrad.runs import RunDirectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["learning_curve", "save_figure"]

PANELS = (
    ("return_mean", "mean return, last 100 episodes"),
    ("kl", "KL per update (nats)"),
    ("entropy", "entropy (nats)"),
    ("explained_variance_before", "explained variance before the fit"),
)


def preload() -> None:
    """Import matplotlib early: in a thread, while the first program compiles, it costs no time."""
    load_matplotlib()


def learning_curve(runs: list[Path], labels: list[str] | None = None) -> Figure:
    """Return, KL, entropy and explained variance over environment steps, one line a run.

    Args:
        runs: run directories.
        labels: one a run. With None, several runs are named after their directories, and a single
            run after its environment and seed.

    Raises:
        RunError: a directory holds no run, or its metrics are damaged.
    """
    load_matplotlib()
    from matplotlib.figure import Figure

    directories = [RunDirectory.open(path) for path in runs]
    rows = [directory.read_metrics() for directory in directories]
    if labels is None:
        several = [path.resolve().name for path in runs]
        labels = several if len(runs) > 1 else [name_of(directories[0])]
    figure = Figure(figsize=(9.6, 5.6), dpi=110)
    grid = figure.add_gridspec(
        2, 3, height_ratios=(2.1, 1), left=0.06, right=0.985, top=0.95, bottom=0.06, hspace=0.33
    )
    axes = [figure.add_subplot(grid[0, :])]
    axes += [figure.add_subplot(grid[1, i], sharex=axes[0]) for i in range(3)]
    for (name, title), axis in zip(PANELS, axes, strict=True):
        for number, metrics in enumerate(rows):
            steps, values = series(metrics, name)
            colour = COLOURS[number % len(COLOURS)]
            width = 1.8 if axis is axes[0] else 1.0
            axis.plot(steps, values, color=colour, linewidth=width, label=labels[number])
        axis.set_title(title, fontsize=9, loc="left")
        tidy(axis)
        axis.margins(x=0.01)
    axes[2].set_ylim(bottom=min(0.0, axes[2].get_ylim()[0]))
    axes[3].set_ylim(max(-1.05, axes[3].get_ylim()[0]), 1.05)
    for axis in axes:
        axis.xaxis.set_major_formatter(lambda x, _: steps_label(x))
    axes[0].set_xlabel("environment steps", fontsize=9)
    axes[0].legend(fontsize=8, frameon=False, loc="best")
    return figure


def name_of(directory: RunDirectory) -> str:
    """The environment and the seed of a run."""
    config = directory.read_config()
    env = config.get("env") or directory.path.resolve().name
    return f"{env}, seed {config.get('config', {}).get('seed', '?')}"


def series(metrics: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps and values of one metric, from the lines that have it."""
    rows = [(m["env_steps"], m[name]) for m in metrics if m.get(name) is not None]
    if not rows:
        return np.zeros(0), np.zeros(0)
    steps, values = zip(*rows, strict=True)
    return np.array(steps), np.array(values, float)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to a file. The ending of the name selects the format."""
    figure.savefig(path)

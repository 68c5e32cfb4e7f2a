"""Learning curves: one panel a task, one colour an algorithm, one thin line a seed."""

from pathlib import Path
from typing import Any

import numpy as np
from summary import grouped
from tasks import KNOWN

from policygrad.figures.style import COLOURS, steps_label
from policygrad.maths.intervals import interquartile_mean


def on_grid(curves: list[list[list[float]]], points: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Curves at common steps, where all of them are defined.

    Args:
        curves: of each seed, pairs of environment steps and value.

    Returns:
        Steps `[points]`, and values `[seeds, points]` by linear interpolation.
    """
    first = max(curve[0][0] for curve in curves)
    last = min(curve[-1][0] for curve in curves)
    grid = np.linspace(first, max(first, last), points)
    return grid, np.stack([np.interp(grid, *np.array(curve).T) for curve in curves])


def draw(lines: list[dict[str, Any]], path: Path) -> None:
    """Write the picture of all cells; the thick lines are interquartile means over seeds."""
    from matplotlib.figure import Figure

    groups = {key: cells for key, cells in grouped(lines).items() if any(c["curve"] for c in cells)}
    names = list(dict.fromkeys(task for task, _ in groups))
    algorithms = sorted({algorithm for _, algorithm in groups})
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(algorithms)}
    columns = min(3, len(names))
    shape = -(-len(names) // columns), columns
    figure = Figure(figsize=(4.2 * shape[1], 3.1 * shape[0]), dpi=110, layout="constrained")
    panels = figure.subplots(*shape, squeeze=False).ravel()
    for panel, task in zip(panels, names, strict=False):
        for algorithm in algorithms:
            cells = [cell for cell in groups.get((task, algorithm), []) if cell["curve"]]
            if not cells:
                continue
            for cell in cells:
                x, y = np.array(cell["curve"]).T
                panel.plot(x, y, color=colours[algorithm], linewidth=0.6, alpha=0.45)
            grid, values = on_grid([cell["curve"] for cell in cells])
            middle = interquartile_mean(values.T)
            label = f"{algorithm} ({len(cells)})"
            panel.plot(grid, middle, color=colours[algorithm], linewidth=1.9, label=label)
        if task in KNOWN:
            panel.axhline(KNOWN[task].goal, color="grey", linewidth=0.8, linestyle=":")
        panel.set_title(task, fontsize=10, loc="left")
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
        panel.xaxis.set_major_formatter(lambda x, _: steps_label(x))
        panel.legend(fontsize=7, frameon=False)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    figure.supxlabel("environment steps", fontsize=9)
    figure.supylabel("mean return of recent episodes", fontsize=9)
    figure.savefig(path)

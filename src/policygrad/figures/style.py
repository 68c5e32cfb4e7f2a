"""How every figure looks: one palette, one kind of axes. Matplotlib is imported late."""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#0b5fa5", "#c2571a", "#2e7d4f", "#8a3a8f"
OLIVE, GREY, RED, CYAN = "#a08000", "#50606e", "#b3243b", "#2596a3"
LONGEST = 200  # characters of a title or a label
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, OLIVE, GREY, RED, CYAN)
"""In this order for lines that have no meaning of their own."""


def load_matplotlib() -> None:
    """Import Matplotlib, also where MPLBACKEND names a backend that does not exist here.

    A process inherits that variable, from a notebook for instance, and Matplotlib refuses to be
    imported with a wrong one. Figures of this library need no backend. The user's own keep it.
    """
    wanted = os.environ.get("MPLBACKEND")
    if "matplotlib" in sys.modules or not wanted:
        import matplotlib.backends.backend_agg
        import matplotlib.figure

        return
    del os.environ["MPLBACKEND"]
    try:
        import matplotlib
        import matplotlib.backends.backend_agg
        import matplotlib.figure
    finally:
        os.environ["MPLBACKEND"] = wanted
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = wanted


def new_figure(columns: int = 1, width: float = 4.8, height: float = 3.6) -> "tuple[Figure, Any]":
    """A figure without a window, and its axes: one, or an array of them.

    Args:
        columns: how many axes stand side by side.
        width, height: of one of them, inches.
    """
    import numpy as np

    load_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height), dpi=120, layout="constrained")
    axes = figure.subplots(1, columns)
    for one in np.ravel(axes):
        tidy(one)
    return figure, axes


def tidy(axes: "Axes") -> None:
    """A faint grid, no frame above and to the right, small labels on the ticks."""
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=8)


def titled(axes: "Axes", title: str, x: str, y: str) -> None:
    """The title on the left, and the names of both axes."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)


def bars(axes: "Axes", names: Sequence[str], numbers: Sequence[float], **kwargs: Any) -> None:
    """Horizontal bars with their numbers written beside them."""
    drawn = axes.barh(range(len(names)), numbers, **kwargs)
    axes.set_yticks(range(len(names)), names)
    axes.bar_label(drawn, fmt="%.4g", fontsize=7, padding=2)
    axes.invert_yaxis()
    axes.margins(x=0.15)


def steps_label(x: float) -> str:
    """1500 -> 1.5k, 2000000 -> 2M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:g}{letter}"
    return f"{x:g}"


def shortened(text: str) -> str:
    """A text that leaves room for a picture beside it."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

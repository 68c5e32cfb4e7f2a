"""Live progress on stderr: a small table on a terminal, a line every few seconds elsewhere."""

import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

FIELDS = (
    ("episodes", "episodes", "{:,.0f}"),
    ("return_mean", "mean return", "{:.1f}"),
    ("kl", "KL", "{:.4f}"),
    ("entropy", "entropy", "{:.3f}"),
    ("explained_variance_before", "expl. var. before", "{:.2f}"),
    ("explained_variance_after", "after fit", "{:.2f}"),
    ("gradient_norm", "gradient norm", "{:.3g}"),
    ("step_size", "step size", "{:.2g}"),
    ("steps_per_second", "steps/s", "{:,.0f}"),
)
TERMINAL_SECONDS, LINE_SECONDS = 0.2, 5.0


class Progress:
    """A context manager that shows the metrics of the newest update.

    Only `update` draws it, at most five times a second, so that no thread runs beside training.
    What remains at the end shows the steps a second of the whole run.
    """

    def __init__(self, title: str, total_steps: int) -> None:
        self._title, self._total = title, total_steps
        self._console = Console(stderr=True)
        self._live = self._console.is_terminal
        self._drawn = time.perf_counter()
        self._newest: dict[str, Any] | None = None
        self._shown: dict[str, Any] | None = None
        self._display = Live(console=self._console, auto_refresh=False, transient=False)

    def __enter__(self) -> "Progress":
        if self._live:
            self._display.start()
            self._display.update(Text(f"{self._title}: compiling …"), refresh=True)
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._newest is not None and (self._live or self._newest is not self._shown):
            self._draw(self._newest | {"steps_per_second": _of_the_run(self._newest)})
        elif self._live and self._newest is None:
            self._display.update(Text(""), refresh=True)
        if self._live:
            self._display.stop()

    def update(self, metrics: dict[str, Any]) -> None:
        """Take the metrics of one update."""
        self._newest = metrics
        now = time.perf_counter()
        if now - self._drawn >= (TERMINAL_SECONDS if self._live else LINE_SECONDS):
            self._drawn = now
            self._draw(metrics)

    update.needs_state = False  # pyright: ignore[reportFunctionMemberAccess]

    def _draw(self, metrics: dict[str, Any]) -> None:
        self._shown = metrics
        if self._live:
            self._display.update(self._table(metrics), refresh=True)
        else:
            print(self._line(metrics), file=self._console.file, flush=True)

    def _table(self, metrics: dict[str, Any]) -> RenderableType:
        head = Table.grid(padding=(0, 2))
        total = max(self._total, 1)
        bar = ProgressBar(total=total, completed=min(metrics["env_steps"], total), width=40)
        steps = f"{metrics['env_steps']:,} / {self._total:,} steps"
        head.add_row(Text(self._title, style="bold"), bar, steps)
        grid = Table.grid(padding=(0, 2))
        cells = [
            cell
            for name, label, form in FIELDS
            for cell in (Text(label, style="dim"), Text(shown(metrics[name], form)))
        ]
        for start in range(0, len(cells), 6):
            grid.add_row(*cells[start : start + 6])
        return Group(head, grid)

    def _line(self, metrics: dict[str, Any]) -> str:
        parts = [f"{label} {shown(metrics[name], form)}" for name, label, form in FIELDS]
        return f"{metrics['env_steps']:,}/{self._total:,} steps, " + ", ".join(parts)


def _of_the_run(metrics: dict[str, Any]) -> float | None:
    """Environment steps a second since the run began."""
    return metrics["env_steps"] / metrics["seconds"] if metrics["seconds"] else None


def shown(value: float | None, form: str) -> str:
    """A number in its format, or a dash."""
    return "–" if value is None else form.format(value)


class SeedsProgress:
    """A context manager that shows the newest update of every seed: a row each on a terminal."""

    def __init__(self, title: str, seeds: list[int], total_steps: int) -> None:
        self._title, self._total = title, total_steps
        self._newest: dict[int, dict[str, Any] | None] = dict.fromkeys(seeds)
        self._console = Console(stderr=True)
        self._live = self._console.is_terminal
        self._drawn = time.perf_counter()
        self._display = Live(console=self._console, auto_refresh=False, transient=False)

    def __enter__(self) -> "SeedsProgress":
        if self._live:
            self._display.start()
            self._display.update(Text(f"{self._title}: compiling …"), refresh=True)
        return self

    def __exit__(self, *exception: Any) -> None:
        if any(self._newest.values()):  # else the error says why
            self._draw()
        if self._live:
            self._display.stop()

    def update(self, seed: int, metrics: dict[str, Any]) -> None:
        """Take the metrics of one update of one seed."""
        self._newest[seed] = metrics
        now = time.perf_counter()
        if now - self._drawn >= (TERMINAL_SECONDS if self._live else LINE_SECONDS):
            self._drawn = now
            self._draw()

    def _draw(self) -> None:
        if not self._live:
            parts = [f"{seed}: {self._steps(m)}" for seed, m in self._newest.items()]
            print("steps and mean return by seed: " + "; ".join(parts), file=self._console.file)
            return
        grid = Table.grid(padding=(0, 2))
        total = max(self._total, 1)
        for seed, metrics in self._newest.items():
            done = 0 if metrics is None else min(metrics["env_steps"], total)
            bar = ProgressBar(total=total, completed=done, width=30)
            grid.add_row(f"seed {seed}", bar, self._steps(metrics))
        self._display.update(Group(Text(self._title, style="bold"), grid), refresh=True)

    @staticmethod
    def _steps(metrics: dict[str, Any] | None) -> str:
        if metrics is None:
            return "–"
        return f"{metrics['env_steps']:,}, {shown(metrics['return_mean'], '{:.1f}')}"

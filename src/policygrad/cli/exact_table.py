"""What `policygrad exact` prints: its table, with a title and a legend. Heavy imports wait."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policygrad.tabular.exact_estimators import ExactEstimators
    from policygrad.tabular.results import Result

PIPED_DIGITS, TERMINAL_DIGITS = 4, (4, 3, 2)


def as_data(
    task: "ExactEstimators", results: "list[Result]", batch_episodes: int
) -> dict[str, Any]:
    """The task and every row, for JSON."""
    return {**size_of(task), "batch_episodes": batch_episodes, "rows": results}


def print_table(task: "ExactEstimators", results: "list[Result]", batch_episodes: int) -> None:
    """The table on stdout: with colours as wide as the terminal, or as plain text."""
    from rich.console import Console

    from policygrad.tabular.results import as_text

    title, legend = title_of(task), _legend(results, batch_episodes)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        print(title, "", as_text(results, PIPED_DIGITS), "", legend, sep="\n")
        return
    console.print(title, style="bold")
    console.print()
    table, least = _rich_table(results, console.width)
    # wider than the terminal: lines that wrap are better than digits that are cut off
    Console(width=max(console.width, least)).print(table)
    console.print()
    console.print(legend, style="dim")


def size_of(task: "ExactEstimators") -> dict[str, Any]:
    """The task in numbers: states, actions, parameters, J, ‖∇J‖."""
    mdp = task.mdp
    return {
        "task": mdp.name,
        "states": mdp.states,
        "actions": mdp.actions,
        "parameters": task.solution.gradient.size,
        "horizon": mdp.horizon,
        "discount": task.discount,
        "discounted_states": task.discounted_states,
        "objective": task.solution.objective,
        "gradient_norm": math.sqrt(float(sum(task.solution.gradient**2))),
    }


def title_of(task: "ExactEstimators") -> str:
    """The task in two lines."""
    size = size_of(task)
    counts = ", ".join(
        f"{size[name]:,} {name if size[name] != 1 else name.removesuffix('s')}"
        for name in ("states", "actions", "parameters")
    )
    horizon = "no horizon" if size["horizon"] is None else f"{size['horizon']:,} steps"
    dropped = task.discount < 1 and not task.discounted_states
    gamma = f"γ = {task.discount:g}" + (" with γ^t dropped" if dropped else "")
    return (
        f"{size['task']}: {counts}, {horizon}, {gamma}\n"
        f"J = {size['objective']:.6g}, ‖∇J‖ = {size['gradient_norm']:.6g}"
    )


def _legend(results: "list[Result]", batch_episodes: int) -> str:
    lines = [
        "bias ‖E ĝ − ∇J‖ and variance (trace) of one episode: Var = D + C − B.",
        "D = Σ E‖g_t‖², which is approximation (i); C = 2 Σ E[g_t·g_k]; B = ‖E ĝ‖².",
        "(ii): the second approximation. N: episodes for a cosine of 0.9 with ∇J.",
    ]
    if any(result.between for result in results):
        lines.append(
            f"LOO: leave-one-out over {batch_episodes} episodes, whose covariance adds to Var."
        )
    if any(result.name.startswith("usual direction") for result in results):
        lines.append("usual direction: reward to go with γ^t dropped.")
    return "\n".join(lines)


def _rich_table(results: "list[Result]", width: int) -> tuple[Any, int]:
    """The table with as many digits as the terminal has room for, and its own width."""
    from rich import box
    from rich.table import Table

    from policygrad.tabular.results import COLUMNS, as_text, cells

    widths = {d: len(as_text(results, d).splitlines()[0]) for d in TERMINAL_DIGITS}
    digits = next((d for d in TERMINAL_DIGITS if widths[d] <= width), TERMINAL_DIGITS[-1])
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("estimator", no_wrap=True)
    for name in COLUMNS.values():
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        table.add_row(*cells(result, digits))
    return table, widths[digits]

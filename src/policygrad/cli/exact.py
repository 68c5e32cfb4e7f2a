"""`policygrad exact`: the laboratory's table for a task. Heavy imports wait in the functions."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from policygrad.cli.commands import Json, parse_kwargs, prepare_jax, print_json
from policygrad.core.errors import UserError
from policygrad.training.config import chosen

if TYPE_CHECKING:
    from policygrad.tabular.gallery import Task
    from policygrad.tabular.lineup import Lineup
    from policygrad.tabular.rows import Row

PIPED_DIGITS, TERMINAL_DIGITS = 4, (4, 3, 2)


def exact(
    task: Annotated[
        Positional[str],
        arg(
            metavar="NAME_OR_ENV",
            help="A task of the gallery, such as short-corridor, or a Gymnasium environment that "
            "carries its model, such as FrozenLake-v1.",
        ),
    ],
    theta: Annotated[
        str | None,
        arg(
            metavar="NUMBERS",
            help="The softmax policy's parameters, separated by commas or spaces. Default: the "
            "task's own, zeros for an environment.",
        ),
    ] = None,
    discount: Annotated[
        float | None, arg(help="γ. Default: 1, or what the task is there to show.")
    ] = None,
    estimator: Annotated[
        tuple[str, ...],
        arg(
            metavar="NAMES",
            help="Only these: total-return, reward-indexed, reward-to-go, n-step, gae, td, "
            "all-action.",
        ),
    ] = (),
    baseline: Annotated[
        tuple[str, ...],
        arg(
            metavar="NAMES",
            help="Only these: none, constant (J), best-constant, time-dependent, leave-one-out, "
            "value (V), optimal.",
        ),
    ] = (),
    gae_lambda: Annotated[float, arg(help="λ of gae.")] = 0.95,
    n: Annotated[int, arg(help="Number of rewards of n-step.")] = 3,
    batch_episodes: Annotated[int, arg(help="Episodes in a batch of leave-one-out.")] = 2,
    discounted_states: Annotated[
        bool, arg(help="Keep the factor γ^t, which makes the gradient that of J.")
    ] = True,
    critic_scale: Annotated[
        float, arg(help="The critic of gae, td and n-step is the exact V times this.")
    ] = 1.0,
    horizon: Annotated[int | None, arg(help="Number of steps. Default: the task's own.")] = None,
    seed: Annotated[int | None, arg(help="Of the task random.")] = None,
    env_kwargs: Annotated[
        str, arg(help="Arguments of the task, as JSON: '{\"is_slippery\": false}'.")
    ] = "{}",
    plot: Annotated[
        Path | None, arg(metavar="FILE", help="Draw bias and variance, over λ and over baselines.")
    ] = None,
    json: Json = False,
) -> int:
    """Bias and variance of every estimator on a finite task, exactly."""
    kwargs = parse_kwargs(env_kwargs)
    prepare_jax()
    from policygrad.tabular import gallery
    from policygrad.tabular import rows as report
    from policygrad.tabular.lineup import BASELINES, ESTIMATORS, Lineup

    named = _names("estimator", estimator, tuple(ESTIMATORS))
    subtracted = _names("baseline", baseline, tuple(BASELINES))
    try:
        mdp, policy = _with_theta(_load(task, kwargs, seed), theta)
        if horizon is not None:
            mdp = replace(mdp, horizon=horizon)
        gamma = gallery.DISCOUNTS.get(mdp.name, 1.0) if discount is None else discount
        lineup = Lineup(mdp, policy, gamma, discounted_states, gae_lambda, n, critic_scale)
        selected = lineup.chosen(named, subtracted) if named or subtracted else lineup.usual()
        rows = report.rows(mdp, policy, selected, batch_episodes=batch_episodes)
    except ValueError as error:
        raise UserError(str(error)) from error
    if plot is not None:
        _draw(lineup, rows, plot)
    if json:
        print_json(_as_json(lineup, rows, batch_episodes))
    else:
        _print_table(lineup, rows, batch_episodes)
        if plot is not None:
            print(plot)
    return 0


def join_theta(argv: Sequence[str]) -> list[str]:
    """`--theta -1,2 3` as `--theta=-1,2,3`: a number's minus sign is no flag's."""
    out: list[str] = []
    taking = False
    for argument in argv:
        if taking and (out[-1] == "--theta=" or _are_numbers(argument)):
            out[-1] += ("" if out[-1].endswith("=") else ",") + argument
            continue
        taking = argument == "--theta"
        out.append("--theta=" if taking else argument)
    return out


def _are_numbers(text: str) -> bool:
    try:
        return bool(_numbers(text))
    except ValueError:
        return False


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.replace(",", " ").split()]


def _names(setting: str, given: Sequence[str], choices: tuple[str, ...]) -> list[str]:
    """The names that a user chose, in one argument or in several."""
    words = [word for text in given for word in text.split(",") if word]
    fitted = {"value-network", "linear-features"}
    for word in words:
        if setting == "baseline" and word.replace("_", "-").lower() in fitted:
            raise UserError(
                f"--baseline {word} is fitted to samples and has no exact form; value is the V "
                "that it approaches"
            )
    return [name for word in words if (name := chosen(setting, word, choices)) is not None]


def _load(name: str, kwargs: dict[str, Any], seed: int | None) -> "Task":
    """A task of the gallery, or of Gymnasium."""
    from policygrad.tabular import gallery

    spelled = name.replace("_", "-").lower()
    if seed is not None:
        if spelled != "random":
            raise UserError(f"--seed {seed}: only the task random takes a seed, got {name!r}")
        kwargs = {**kwargs, "seed": seed}
    if spelled not in gallery.TASKS:
        return _from_gymnasium(name, kwargs)
    try:
        return gallery.TASKS[spelled](**kwargs)
    except TypeError as error:
        raise UserError(f"--env-kwargs for {spelled}: {error}") from error


def _from_gymnasium(name: str, kwargs: dict[str, Any]) -> "Task":
    import gymnasium
    import numpy as np

    from policygrad.tabular import SoftmaxPolicy, from_gymnasium
    from policygrad.tabular.gallery import Task

    known = name.split(":")[-1] in gymnasium.registry or ":" in name
    if not known:
        raise UserError(_unknown(name, gymnasium.registry))
    try:
        env = gymnasium.make(name, **kwargs)
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot make {name}: {first}") from error
    try:
        mdp = from_gymnasium(env)
    finally:
        env.close()
    return Task(mdp, SoftmaxPolicy.of(np.zeros((mdp.states, mdp.actions))))


def _unknown(name: str, registry: Any) -> str:
    from policygrad.tabular import gallery

    known = {key.lower(): key for key in (*gallery.TASKS, *registry)}
    close = difflib.get_close_matches(name.replace("_", "-").lower(), known, cutoff=0.8)
    if close:
        hint = f"did you mean {' or '.join(known[key] for key in close)}?"
    else:
        hint = f"choose from {', '.join(gallery.TASKS)}, or a Gymnasium id such as FrozenLake-v1"
    return f"unknown task {name!r}; {hint}"


def _with_theta(task: "Task", theta: str | None) -> "Task":
    if theta is None:
        return task
    import numpy as np

    from policygrad.tabular import SoftmaxPolicy

    try:
        numbers = _numbers(theta)
    except ValueError as error:
        raise UserError(f"--theta must be numbers, got {theta!r}") from error
    shape = np.shape(task.policy.theta)
    needed = math.prod(shape)
    if len(numbers) != needed:
        raise UserError(
            f"--theta has {len(numbers)} numbers, and the policy on {task.mdp.name} needs {needed}"
        )
    features = task.policy.features
    given = np.reshape(numbers, shape)
    policy = SoftmaxPolicy.of(given, None if features is None else features.value)
    return task._replace(policy=policy)


def _draw(lineup: "Lineup", rows: "list[Row]", path: Path) -> None:
    from policygrad.figures.laboratory import bias_against_variance

    figure = bias_against_variance(lineup, rows)
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write --plot {path}: {error}") from error


def _size(lineup: "Lineup") -> dict[str, Any]:
    mdp = lineup.mdp
    return {
        "task": mdp.name,
        "states": mdp.states,
        "actions": mdp.actions,
        "parameters": lineup.solution.gradient.size,
        "horizon": mdp.horizon,
        "discount": lineup.discount,
        "discounted_states": lineup.discounted_states,
        "objective": lineup.solution.objective,
        "gradient_norm": _norm(lineup),
    }


def _norm(lineup: "Lineup") -> float:
    return math.sqrt(float(sum(lineup.solution.gradient**2)))


def _as_json(lineup: "Lineup", rows: "list[Row]", batch_episodes: int) -> dict[str, Any]:
    return {
        **_size(lineup),
        "batch_episodes": batch_episodes,
        "rows": [row.as_json() for row in rows],
    }


def _print_table(lineup: "Lineup", rows: "list[Row]", batch_episodes: int) -> None:
    from rich.console import Console

    from policygrad.tabular.rows import as_text

    title, legend = _title(lineup), _legend(lineup, rows, batch_episodes)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        print(title, "", as_text(rows, PIPED_DIGITS), "", legend, sep="\n")
        return
    console.print(title, style="bold")
    console.print()
    table, least = _rich_table(rows, console.width)
    # wider than the terminal: lines that wrap are better than digits that are cut off
    Console(width=max(console.width, least)).print(table)
    console.print()
    console.print(legend, style="dim")


def _title(lineup: "Lineup") -> str:
    size = _size(lineup)
    counts = ", ".join(
        f"{size[name]:,} {name if size[name] != 1 else name.removesuffix('s')}"
        for name in ("states", "actions", "parameters")
    )
    horizon = "no horizon" if size["horizon"] is None else f"{size['horizon']:,} steps"
    dropped = lineup.discount < 1 and not lineup.discounted_states
    gamma = f"γ = {lineup.discount:g}" + (" with γ^t dropped" if dropped else "")
    return (
        f"{size['task']}: {counts}, {horizon}, {gamma}\n"
        f"J = {size['objective']:.6g}, ‖∇J‖ = {size['gradient_norm']:.6g}"
    )


def _legend(lineup: "Lineup", rows: "list[Row]", batch_episodes: int) -> str:
    lines = [
        "bias ‖E ĝ − ∇J‖ and variance (trace) of one episode: Var = D + C − B.",
        "D = Σ E‖g_t‖², which is approximation (i); C = 2 Σ E[g_t·g_k]; B = ‖E ĝ‖².",
        "(ii): the second approximation. N: episodes for a cosine of 0.9 with ∇J.",
    ]
    if any(row.between for row in rows):
        lines.append(
            f"LOO: leave-one-out over {batch_episodes} episodes, whose covariance adds to Var."
        )
    if any(row.name.startswith("usual direction") for row in rows):
        lines.append("usual direction: reward to go with γ^t dropped.")
    return "\n".join(lines)


def _rich_table(rows: "list[Row]", width: int) -> tuple[Any, int]:
    """The table with as many digits as the terminal has room for, and its own width."""
    from rich import box
    from rich.table import Table

    from policygrad.tabular.rows import COLUMNS, as_text, cells

    widths = {d: len(as_text(rows, d).splitlines()[0]) for d in TERMINAL_DIGITS}
    digits = next((d for d in TERMINAL_DIGITS if widths[d] <= width), TERMINAL_DIGITS[-1])
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("estimator", no_wrap=True)
    for name in COLUMNS.values():
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*cells(row, digits))
    return table, widths[digits]

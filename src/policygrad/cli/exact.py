"""`policygrad exact`: the laboratory's table for a task. Heavy imports wait in the functions."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, arg

from policygrad.cli.commands import Json, parse_kwargs, print_json
from policygrad.cli.exact_groups import GroupFlags, check_used, show
from policygrad.core.errors import UserError
from policygrad.core.settings import chosen as spelled
from policygrad.devices.starting import prepare_jax

if TYPE_CHECKING:
    from policygrad.tabular.exact_estimators import ExactEstimators
    from policygrad.tabular.gallery import Task
    from policygrad.tabular.results import Result


@dataclass(frozen=True)
class TaskFlags:
    """The task, and the policy on it."""

    task: Annotated[Positional[str], arg(metavar="NAME_OR_ENV")]
    """A task of the gallery, such as short-corridor, or a Gymnasium environment that carries its
    model, such as FrozenLake-v1."""
    theta: Annotated[str | None, arg(metavar="NUMBERS")] = None
    """The softmax policy's parameters, separated by commas or spaces. Default: the task's own;
    zeros for an environment."""
    discount: float | None = None
    """The discount γ. Default: that of the task, in most cases 1."""
    horizon: int | None = None
    """Number of steps. Default: the task's own."""
    seed: int | None = None
    """Seed of the task named random."""
    env_kwargs: str = "{}"
    """Arguments of the task, as JSON: '{"is_slippery": false}'."""


@dataclass(frozen=True)
class EstimatorFlags:
    """Which estimators, and their settings."""

    estimator: Annotated[tuple[str, ...], arg(metavar="NAMES")] = ()
    """Show only these estimators: total-return, reward-indexed, reward-to-go, n-step, gae, td,
    all-action."""
    baseline: Annotated[tuple[str, ...], arg(metavar="NAMES")] = ()
    """Show only these baselines: none, constant (J), best-constant, time-dependent, leave-one-out,
    value (V), optimal."""
    gae_lambda: float = 0.95
    """λ of gae."""
    n: int = 3
    """How many rewards n-step sums before it bootstraps."""
    batch_episodes: int = 2
    """Episodes in a batch of leave-one-out."""
    discounted_states: bool = True
    """Keep the factor γ^t of each score. The gradient is then that of J."""
    critic_scale: float = 1.0
    """The critic of gae, td and n-step is the exact V times this number."""


def exact(
    task: OmitArgPrefixes[TaskFlags],
    estimators: OmitArgPrefixes[EstimatorFlags],
    groups: OmitArgPrefixes[GroupFlags],
    plot: Annotated[
        Path | None, arg(metavar="FILE", help="Draw bias and variance, over λ and over baselines.")
    ] = None,
    json: Json = False,
) -> int:
    """Bias and variance of every estimator on a finite task, exactly."""
    kwargs = parse_kwargs(task.env_kwargs)
    check_used(groups, estimators, plot)
    prepare_jax()
    if groups.group_size is not None:
        return _groups(task, estimators, groups, kwargs, json)
    from policygrad.cli.exact_table import as_data, print_table
    from policygrad.tabular.exact_estimators import BASELINES, ESTIMATORS
    from policygrad.tabular.results import results_of

    named = _names("estimator", estimators.estimator, tuple(ESTIMATORS))
    subtracted = _names("baseline", estimators.baseline, tuple(BASELINES))
    episodes = estimators.batch_episodes
    try:
        exact = _exact_estimators(task, estimators, kwargs)
        table = exact.chosen(named, subtracted) if named or subtracted else exact.usual()
        results = results_of(exact.mdp, exact.policy, table, batch_episodes=episodes)
    except ValueError as error:
        raise UserError(str(error)) from error
    if plot is not None:
        _draw(exact, results, plot)
    if json:
        print_json(as_data(exact, results, episodes))
    else:
        print_table(exact, results, episodes)
        if plot is not None:
            print(plot)
    return 0


def _groups(
    task: TaskFlags,
    estimators: EstimatorFlags,
    flags: GroupFlags,
    kwargs: dict[str, Any],
    json: bool,
) -> int:
    from policygrad.gradients.groups import ESTIMATORS

    named = _names("estimator", estimators.estimator, tuple(ESTIMATORS))
    try:
        show(_exact_estimators(task, estimators, kwargs), flags, named, json)
    except ValueError as error:
        raise UserError(str(error)) from error
    return 0


def _exact_estimators(
    task: TaskFlags, estimators: EstimatorFlags, kwargs: dict[str, Any]
) -> "ExactEstimators":
    from policygrad.tabular import gallery
    from policygrad.tabular.exact_estimators import ExactEstimators

    mdp, policy = _with_theta(_load(task.task, kwargs, task.seed), task.theta)
    if task.horizon is not None:
        mdp = replace(mdp, horizon=task.horizon)
    usual = gallery.DISCOUNTS.get(mdp.name, 1.0)
    return ExactEstimators(
        mdp,
        policy,
        discount=usual if task.discount is None else task.discount,
        discounted_states=estimators.discounted_states,
        gae_lambda=estimators.gae_lambda,
        n=estimators.n,
        critic_scale=estimators.critic_scale,
    )


def join_theta(argv: Sequence[str]) -> list[str]:
    """`--theta -1,2 3` as `--theta=-1,2,3`, so that a minus sign does not look like a flag."""
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
    fitted = {"value-network", "value-classifier", "linear-features"}
    for word in words:
        if setting == "baseline" and word.replace("_", "-").lower() in fitted:
            raise UserError(
                f"--baseline {word} is fitted to samples and has no exact form; value is the V "
                "that it approaches"
            )
    return [name for word in words if (name := spelled(setting, word, choices)) is not None]


def _load(name: str, kwargs: dict[str, Any], seed: int | None) -> "Task":
    """A task of the gallery, or of Gymnasium."""
    from policygrad.tabular import gallery

    known = name.replace("_", "-").lower()
    if seed is not None:
        if known != "random":
            raise UserError(f"--seed {seed}: only the task random takes a seed, got {name!r}")
        kwargs = {**kwargs, "seed": seed}
    if known not in gallery.TASKS:
        return _from_gymnasium(name, kwargs)
    try:
        return gallery.TASKS[known](**kwargs)
    except TypeError as error:
        raise UserError(f"--env-kwargs for {known}: {error}") from error


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


def _draw(task: "ExactEstimators", results: "list[Result]", path: Path) -> None:
    from policygrad.figures.laboratory import bias_against_variance

    figure = bias_against_variance(task, results)
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write --plot {path}: {error}") from error

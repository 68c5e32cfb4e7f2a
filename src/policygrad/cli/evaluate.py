"""`policygrad evaluate`: the returns of a policy, where it was trained or elsewhere."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from policygrad.cli.commands import Json, RunPath, parse_kwargs, print_json
from policygrad.core.errors import PolicygradError, UserError
from policygrad.core.shell import user_path
from policygrad.devices.starting import prepare_jax

WAYS = ("deterministic", "stochastic")
ENV_HELP = "Environment to evaluate in. Default: the run's own."
KWARGS_HELP = (
    "Arguments of the environment, as JSON. Default: the run's own if the environment is the run's."
)
WRAPPER_HELP = (
    "A wrapper around an environment of Gymnasium, as module:Class. It may be repeated; the last "
    "one is outermost."
)
NOISE_HELP = (
    "Standard deviation of Gaussian noise on what the policy sees, in the units of the "
    "observation: one number, or one for each component, with commas."
)
SEED_HELP = (
    "Seed of the environments and of the sampled actions. Each run of a directory of seeds has one "
    "of its own that follows from it."
)
TIMEOUT_HELP = (
    "Seconds that a step or a reset of a Gymnasium environment may take; a longer one is an error "
    "that names the environment. Default: the run's own limit where a limit can be kept; none "
    "with --video."
)
VIDEO_HELP = "Write videos of the first three episodes of each way of acting here (extra: video)."
EVERY_HELP = (
    "With --video: film the episodes 0, K, 2K and so on of each way of acting, in place of the "
    "first three."
)


def evaluate(
    run: Positional[RunPath],
    env: Annotated[str | None, arg(help=ENV_HELP)] = None,
    env_kwargs: Annotated[str | None, arg(help=KWARGS_HELP)] = None,
    wrapper: Annotated[UseAppendAction[list[str]], arg(metavar="M:C", help=WRAPPER_HELP)] = [],  # noqa: B006
    observation_noise: Annotated[str | None, arg(metavar="SIGMA", help=NOISE_HELP)] = None,
    episodes: Annotated[int, arg(help="Episodes for each of the two ways of acting.")] = 100,
    seed: Annotated[int, arg(help=SEED_HELP)] = 0,
    max_episode_steps: Annotated[
        int | None,
        arg(help="Greatest length of an episode. Default: the environment's limit, or 10000."),
    ] = None,
    num_envs: Annotated[int, arg(help="Environments stepped together.")] = 32,
    processes: Annotated[
        bool, arg(help="Step Gymnasium environments in spawned worker processes.")
    ] = False,
    step_timeout: Annotated[float | None, arg(metavar="SECONDS", help=TIMEOUT_HELP)] = None,
    video: Annotated[Path | None, arg(metavar="DIR", help=VIDEO_HELP)] = None,
    video_every: Annotated[int | None, arg(metavar="K", help=EVERY_HELP)] = None,
    json: Json = False,
) -> int:
    """Mean returns of a policy, deterministic and stochastic, with 95 % intervals."""
    settings: dict[str, Any] = {
        "episodes": episodes, "seed": seed, "max_episode_steps": max_episode_steps,
        "num_envs": num_envs, "processes": processes, "step_timeout": step_timeout, "video": video,
        "video_every": video_every,
        "env_kwargs": None if env_kwargs is None else parse_kwargs(env_kwargs),
        "observation_noise": parse_noise(observation_noise),
    }  # fmt: skip
    prepare_jax()
    from policygrad import evaluating
    from policygrad.core.settings import Timeout, check_setting
    from policygrad.runs import seed_directories

    for name, least in (("episodes", 1), ("num_envs", 1), ("seed", 0)):
        evaluating.check_whole(name, settings[name], least)
    check_setting("step_timeout", Timeout | None, step_timeout)
    settings["wrappers"] = [imported(name) for name in wrapper]
    run = user_path(run)
    runs = seed_directories(run)
    if runs and video is not None:
        raise UserError(f"--video is for one run, and {run} holds {len(runs)}; name one of them")
    return _directory(runs, env, settings, json) if runs else _alone(run, env, settings, json)


def _alone(run: Path, env: str | None, settings: dict[str, Any], json: bool) -> int:
    """Evaluate one policy; returns the exit code."""
    from policygrad import evaluating

    with warnings.catch_warnings():
        if not json:  # what is shown says it
            warnings.simplefilter("ignore", evaluating.CutShort)
        result = evaluating.evaluate(run, env, **settings)
    if json:
        print_json(result.to_json())
    else:
        show(result)
    return 0


def _directory(runs: Sequence[Path], env: str | None, settings: dict[str, Any], json: bool) -> int:
    """Evaluate the runs of a directory of seeds, each in episodes of its own; the exit code."""
    from policygrad import evaluating

    results: dict[str, Any] = {}
    failures: dict[str, str] = {}
    for path in runs:  # one that is damaged does not cost the others
        own = {**settings, "seed": own_seed(settings["seed"], path)}
        try:
            results[path.name] = evaluating.evaluate(path, env, **own)
        except PolicygradError as error:
            failures[path.name] = str(error)
            print(f"policygrad: {path.name}: {str(error).splitlines()[0]}", file=sys.stderr)
    if results or json:
        report_seeds(settings["seed"], results, failures, json)
    return int(bool(failures))


def own_seed(seed: int, run: Path) -> int:
    """The seed with which one run of a directory of seeds is evaluated.

    In the same episodes all runs would have the error of their mean in common, which a bootstrap
    over runs does not see.

    Args:
        seed: that was asked for.
        run: `seed-N` in the directory.

    >>> own_seed(0, Path("runs/a/seed-1")), own_seed(0, Path("runs/a/seed-2"))
    (1982462498, 1570558271)
    """
    import numpy as np

    numbers = seed, int(run.name.removeprefix("seed-"))
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 1)


def show(result: Any) -> None:
    """Print the evaluation of one policy."""
    kwargs = f" {result.env_kwargs}" if result.env_kwargs else ""
    inside = f" in {', '.join(result.wrappers)}" if result.wrappers else ""
    noise = result.observation_noise
    noisy = f", observation noise {noise}" if noise else ""
    episodes = result.stochastic.episodes
    print(f"{result.env}{kwargs}{inside}, {episodes} episodes each, seed {result.seed}{noisy}")
    for name in WAYS:
        returns = getattr(result, name)
        low, high = returns.ci95
        stopped = f", {returns.unfinished} stopped at the cap" if returns.unfinished else ""
        print(
            f"  {name:<14}{returns.mean:>10.2f}   95 % interval [{low:.2f}, {high:.2f}]   "
            f"mean length {returns.length_mean:.1f}{stopped}"
        )
    levels = [f"{float(level):.0%}" for level in result.stochastic.quantiles]
    print("  quantiles     " + "".join(f"{level:>11}" for level in levels))
    for name in WAYS:
        quantiles = getattr(result, name).quantiles.values()
        print(f"  {name:<14}" + "".join(f"{value:>11.2f}" for value in quantiles))
    for name in WAYS:
        for info, (mean, had) in getattr(result, name).infos.items():
            print(f"  {name:<14}{info}: {mean:.4g} (mean of {had} episodes)")


def report_seeds(seed: int, results: dict[str, Any], failures: dict[str, str], json: bool) -> None:
    """Print the evaluations of several seeds, and the IQM over them."""
    from policygrad.maths.intervals import iqm_interval

    iqm = {
        kind: iqm_interval([getattr(result, kind).mean for result in results.values()])
        for kind in WAYS
        if results
    }
    if json:
        summary = {k: {"iqm": mean, "ci95": interval} for k, (mean, interval) in iqm.items()}
        seeds = {name: result.to_json() for name, result in results.items()}
        failed = {"failures": failures} if failures else {}
        print_json({"seed": seed, "seeds": seeds, **summary, **failed})
        return
    first = next(iter(results.values()))
    print(f"{first.env}, {first.stochastic.episodes} episodes each, seed {seed}, mean returns")
    print(f"  {'':<12}{WAYS[0]:>14}{WAYS[1]:>14}")
    for name, result in results.items():
        print(f"  {name:<12}{result.deterministic.mean:>14.2f}{result.stochastic.mean:>14.2f}")
    for kind, (mean, (low, high)) in iqm.items():
        print(f"  IQM, {kind}: {mean:.2f}   95 % bootstrap interval [{low:.2f}, {high:.2f}]")


def parse_noise(text: str | None) -> float | list[float]:
    """The numbers of `--observation-noise`."""
    try:
        numbers = [float(part) for part in ("0" if text is None else text).split(",")]
    except ValueError as error:
        raise UserError(
            f"--observation-noise takes a number, or numbers with commas, got {text!r}"
        ) from error
    return numbers if len(numbers) > 1 else numbers[0]


def imported(name: str) -> Any:
    """What `module:Class` names; modules in the current folder are found."""
    module, colon, inner = name.partition(":")
    if not colon or not module or not inner:
        raise UserError(
            f"--wrapper takes module:Class, such as gymnasium.wrappers:ClipAction, got {name!r}"
        )
    try:
        return getattr(importlib.import_module(module), inner)
    except (ImportError, ValueError, TypeError) as error:
        raise UserError(f"cannot import {module!r} of --wrapper {name!r}: {error}") from error
    except AttributeError as error:
        raise UserError(f"--wrapper {name!r}: {module} has no {inner}") from error

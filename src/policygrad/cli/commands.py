"""The subcommands: their arguments and what they print. Heavy imports wait inside."""

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from policygrad.core.errors import UserError
from policygrad.devices.starting import prepare_jax

Json = Annotated[bool, arg(help="Print only the result, as JSON, on stdout.")]
RunPath = Annotated[Path, arg(help="Run directory.", metavar="RUN")]


def train() -> int:
    """Train a policy, and write a run directory."""
    raise AssertionError("cli.train.main parses it")


def diagnose() -> int:
    """Say what is wrong with a run, most likely cause first, and what to change."""
    raise AssertionError("cli.diagnose.main parses it")


def resume(
    run: Positional[RunPath],
    total_steps: Annotated[
        int | None, arg(help="New total number of steps. Default: the run's own.")
    ] = None,
    json: Json = False,
) -> int:
    """Continue a run from its newest checkpoint, as if it had never stopped."""
    prepare_jax()
    from policygrad.cli.progress import Progress
    from policygrad.training import entry

    if total_steps is not None and total_steps < 1:
        raise UserError(f"--total-steps must be at least 1, got {total_steps}")
    with Progress(f"resuming {run}", total_steps or planned_steps(run)) as progress:
        result = entry.resume(run, total_steps=total_steps, on_update=progress.update)
    if result.summary["resumed_exactly"] is False:
        print(
            "policygrad: the environments could not be brought back to where they were. They began "
            "fresh episodes, so the result differs from that of an uninterrupted run.",
            file=sys.stderr,
        )
    return report_run(result, json)


def evaluate(
    run: Positional[RunPath],
    env: Annotated[
        str | None, arg(help="Environment to evaluate in. Default: the run's own.")
    ] = None,
    episodes: Annotated[int, arg(help="Episodes for each of the two ways of acting.")] = 100,
    seed: Annotated[int, arg(help="Seed of the environments and of the sampled actions.")] = 0,
    max_episode_steps: Annotated[
        int | None,
        arg(help="Greatest length of an episode. Default: the environment's limit, or 10000."),
    ] = None,
    num_envs: Annotated[int, arg(help="Environments stepped together.")] = 32,
    json: Json = False,
) -> int:
    """Mean returns of a policy, deterministic and stochastic, with 95 % intervals."""
    if seed < 0:
        raise UserError(f"--seed must be at least 0, got {seed}")
    prepare_jax()
    from policygrad import evaluation
    from policygrad.runs import seed_directories

    def of(path: Path) -> evaluation.Evaluation:
        return evaluation.evaluate(
            path,
            env,
            episodes=episodes,
            seed=seed,
            max_episode_steps=max_episode_steps,
            num_envs=num_envs,
        )

    if runs := seed_directories(run):
        return report_seeds({path.name: of(path) for path in runs}, json)
    result = of(run)
    if json:
        print_json(result.to_json())
        return 0
    print(f"{result.env}, {episodes} episodes each, seed {seed}")
    for name in ("deterministic", "stochastic"):
        returns = getattr(result, name)
        low, high = returns.ci95
        stopped = f", {returns.unfinished} stopped at the cap" if returns.unfinished else ""
        print(
            f"  {name:<14}{returns.mean:>10.2f}   95 % interval [{low:.2f}, {high:.2f}]   "
            f"mean length {returns.length_mean:.1f}{stopped}"
        )
    return 0


def report_seeds(results: dict[str, Any], json: bool) -> int:
    """Print the evaluations of several seeds, and the IQM over them; returns the exit code."""
    from policygrad.maths.intervals import iqm_interval

    kinds = ("deterministic", "stochastic")
    iqm = {
        kind: iqm_interval([getattr(result, kind).mean for result in results.values()])
        for kind in kinds
    }
    if json:
        summary = {k: {"iqm": mean, "ci95": interval} for k, (mean, interval) in iqm.items()}
        seeds = {name: result.to_json() for name, result in results.items()}
        print_json({"seeds": seeds, **summary})
        return 0
    first = next(iter(results.values()))
    print(f"{first.env}, {first.stochastic.episodes} episodes each, mean returns")
    print(f"  {'':<12}{kinds[0]:>14}{kinds[1]:>14}")
    for name, result in results.items():
        print(f"  {name:<12}{result.deterministic.mean:>14.2f}{result.stochastic.mean:>14.2f}")
    for kind, (mean, (low, high)) in iqm.items():
        print(f"  IQM, {kind}: {mean:.2f}   95 % bootstrap interval [{low:.2f}, {high:.2f}]")
    return 0


def plot(
    runs: Positional[Annotated[list[Path], arg(help="Run directories.", metavar="RUN")]],
    out: Annotated[Path, arg(help="File to write; its ending selects the format.")] = Path(
        "learning_curves.png"
    ),
    json: Json = False,
) -> int:
    """Draw the learning curves of runs into one picture."""
    from policygrad.figures import curves as plots

    if not runs:
        raise UserError("no run to plot; name at least one run directory")
    from policygrad.runs import seed_directories

    runs = [path for run in runs for path in seed_directories(run) or [run]]
    figure = plots.learning_curve(runs)
    try:
        plots.save_figure(figure, out)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write --out {out}: {error}") from error
    if json:
        print_json({"path": str(out), "runs": [str(run) for run in runs]})
    else:
        print(out)
    return 0


def parse_seeds(text: str) -> list[int]:
    """The seeds of `--seeds`: `0..4` are five, `0,3,7` three; both may be mixed."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        try:
            low = int(first)
            high = int(last) if dots else low
        except ValueError as error:
            raise UserError(f"--seeds takes 0..4 or 0,3,7, got {text!r}") from error
        if high < low or low < 0:
            raise UserError(
                f"--seeds takes 0..4 or 0,3,7, with rising ranges from 0 on, got {text!r}"
            )
        if high - low >= 10_000:
            raise UserError(f"--seeds names more than 10000 seeds, got {text!r}")
        seeds += range(low, high + 1)
    return seeds


def parse_kwargs(text: str) -> dict[str, Any]:
    """The JSON object of `--env-kwargs`."""
    try:
        kwargs = json_module.loads(text)
    except ValueError as error:
        raise UserError(f"--env-kwargs is not JSON: {text!r} ({error})") from error
    if not isinstance(kwargs, dict):
        raise UserError(f"--env-kwargs must be a JSON object, got {text!r}")
    return kwargs


def planned_steps(run: Path) -> int:
    """The total number of steps in a run's settings."""
    from policygrad.runs import RunDirectory

    return int(RunDirectory.open(run).read_config().get("config", {}).get("total_steps", 0))


def report_run(run: Any, as_json: bool) -> int:
    """Print how a run ended; returns the exit code."""
    if as_json:
        print_json(run.summary)
    else:
        mean = run.summary["return_mean"]
        score = (
            "no episode ended" if mean is None else f"mean return {mean:.1f} (last 100 episodes)"
        )
        print(
            f"{run.path}: {run.summary['env_steps']:,} environment steps, "
            f"{run.summary['episodes']:,} episodes, {score}, {run.summary['seconds']:.1f} s"
        )
        if not run.interrupted:
            print(f"next: policygrad evaluate {run.path}")
    if run.interrupted:
        print(
            f"interrupted and saved; continue with: policygrad resume {run.path}", file=sys.stderr
        )
    return run.exit_code


def print_json(data: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Print one JSON value on stdout, with null in place of NaN and infinity."""
    from policygrad.core.plain import to_json

    print(json_module.dumps(to_json(data), indent=1))

"""`policygrad train`: train a policy, or one for each of many seeds."""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from policygrad.cli.commands import Json, parse_kwargs, parse_seeds, print_json, report_run
from policygrad.core.errors import UserError
from policygrad.devices.starting import prepare_jax

DESCRIPTION = "Train a policy, and write a run directory."
ENV_HELP = "CartPole-v1, module:Env-v0, gymnax/CartPole-v1 …"
OUT_HELP = "Directory to write the run to. Default: runs/ENV-seedN."
KWARGS_HELP = "Arguments of the environment, as JSON: '{\"gravity\": 5.0}'."
SEEDS_HELP = "Train with several seeds at once, each in its own directory in OUT: 0..4, or 0,3,7."
JOBS_HELP = "With --seeds: number of worker processes. Default: one for each processor."


def main(argv: Sequence[str]) -> int:
    """Run `policygrad train`; returns the exit code."""
    prepare_jax()
    from policygrad.cli.options import Argument, parse

    own = {
        "": [Argument("env", Annotated[Positional[str], arg(metavar="ENV", help=ENV_HELP)])],
        "run": [
            Argument("seeds", Annotated[str | None, arg(metavar="SEEDS", help=SEEDS_HELP)], None),
            Argument("jobs", Annotated[int | None, arg(help=JOBS_HELP)], None),
        ],
        "environment": [Argument("env_kwargs", Annotated[str, arg(help=KWARGS_HELP)], "{}")],
        "files": [
            Argument("out", Annotated[Path | None, arg(help=OUT_HELP)], None),
            Argument("json", Json, False),
        ],
    }
    given, config = parse(argv, own, prog="policygrad train", description=DESCRIPTION, defaults={})
    kwargs = parse_kwargs(given["env_kwargs"])
    if given["seeds"] is not None:
        if "--seed" in argv:
            raise UserError(f"--seed {config.seed} and --seeds exclude each other; give one")
        seeds = parse_seeds(given["seeds"])
        return _train_seeds(
            given["env"], config, seeds, given["jobs"], given["out"], kwargs, given["json"]
        )
    if given["jobs"] is not None:
        raise UserError(f"--jobs {given['jobs']} is for --seeds only; add --seeds 0..4, or omit it")
    return _train(given["env"], config, given["out"], kwargs, given["json"])


def _train(env: str, config: Any, out: Path | None, kwargs: dict[str, Any], json: bool) -> int:
    from policygrad.cli.progress import Progress
    from policygrad.figures.curves import preload
    from policygrad.runs import fresh_directory
    from policygrad.training import entry

    threading.Thread(target=preload, daemon=True).start()
    if out is None:
        out = fresh_directory(Path("runs"), f"{_as_folder(env)}-seed{config.seed}")
    with Progress(f"{env}, seed {config.seed}", config.total_steps) as progress:
        result = entry.train(
            env, out=out, config=config, env_kwargs=kwargs, on_update=progress.update
        )
    return report_run(result, json)


def _train_seeds(
    env: str,
    config: Any,
    seeds: list[int],
    jobs: int | None,
    out: Path | None,
    env_kwargs: dict[str, Any],
    json: bool,
) -> int:
    """Train many seeds at once; returns the exit code."""
    import policygrad
    from policygrad.cli.progress import SeedsProgress
    from policygrad.runs import fresh_directory

    if out is None:
        out = fresh_directory(Path("runs"), f"{_as_folder(env)}-seeds{seeds[0]}-{seeds[-1]}")
    with SeedsProgress(env, seeds, config.total_steps) as progress:
        result = policygrad.train_seeds(
            env, seeds, out=out, jobs=jobs, config=config, env_kwargs=env_kwargs,
            on_update=progress.update,
        )  # fmt: skip
    for seed, error in result.failures.items():
        print(f"policygrad: seed {seed}: {error}", file=sys.stderr)
    if json:
        print_json([run.summary for run in result.runs.values()])
    else:
        for seed, run in result.runs.items():
            mean = run.summary["return_mean"]
            shown = "no episode ended" if mean is None else f"mean return {mean:.1f}"
            print(f"{run.path}: seed {seed}, {run.summary['env_steps']:,} steps, {shown}")
        if result.runs and not result.interrupted:
            print(f"next: policygrad evaluate {out}")
    stopped = [run for run in result.runs.values() if run.interrupted]
    for run in stopped:
        print(f"interrupted; continue with: policygrad resume {run.path}", file=sys.stderr)
    missing = len(result.runs) + len(result.failures) < len(seeds)
    if stopped:
        return stopped[0].exit_code
    return 130 if missing else int(bool(result.failures))


def _as_folder(env: str) -> str:
    return env.replace("/", "-").replace(":", "-")

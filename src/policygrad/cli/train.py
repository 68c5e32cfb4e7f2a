"""`policygrad train`: train a policy, or one for each of many seeds."""

import contextlib
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from tyro.conf import Positional, arg

from policygrad.cli.commands import (
    Json,
    only_json,
    parse_kwargs,
    parse_seeds,
    print_json,
    report_run,
    take_workers,
    worker_arguments,
)
from policygrad.core.errors import UserError
from policygrad.core.shell import command
from policygrad.devices.starting import prepare_jax

DESCRIPTION = "Train a policy, and write a run directory."
ENV_HELP = (
    "CartPole-v1, module:Env-v0, gymnax/CartPole-v1 … Default: that of --config, or else of --from."
)
CONFIG_HELP = (
    "Read settings from a file, which flags override: a run or its config.json, which repeats the "
    "run, or TOML, YAML or JSON."
)
START_HELP = (
    "Begin from a saved policy, with what it normalises by: a run, a checkpoint or a policy file. "
    "The settings are those of the new run."
)
OUT_HELP = "Directory to write the run to. Default: runs/ENV-seedN."
KWARGS_HELP = "Arguments of the environment, as JSON, such as '{\"g\": 5.0}' of Pendulum-v1."
SEEDS_HELP = "Train with several seeds at once, each in its own directory in OUT: 0..4, or 0,3,7."
JOBS_HELP = "With --seeds: number of worker processes. Default: one for each processor."

Env = Annotated[Positional[str | None], arg(metavar="ENV", help=ENV_HELP)]


class Task(NamedTuple):
    """What is trained in, and from what: the arguments of `train` that are no settings."""

    env: str
    env_kwargs: dict[str, Any]
    start: str | None


def main(argv: Sequence[str]) -> int:
    """Run `policygrad train`; returns the exit code."""
    prepare_jax()
    from policygrad.cli.options import Argument, flags_in, parse
    from policygrad.training.plan import read_config

    own = {
        "": [Argument("env", Env, None)],
        "run": [
            Argument("config", Annotated[str | None, arg(metavar="FILE", help=CONFIG_HELP)], None),
            Argument(
                "start", Annotated[str | None, arg(name="from", metavar="RUN", help=START_HELP)],
                None,
            ),
            Argument("seeds", Annotated[str | None, arg(metavar="SEEDS", help=SEEDS_HELP)], None),
            Argument("jobs", Annotated[int | None, arg(help=JOBS_HELP)], None),
        ],
        "environment": [
            Argument("env_kwargs", Annotated[str | None, arg(help=KWARGS_HELP)], None),
            *(Argument(*each) for each in worker_arguments()),
        ],
        "files": [
            Argument("out", Annotated[Path | None, arg(help=OUT_HELP)], None),
            Argument("json", Json, False),
        ],
    }  # fmt: skip
    flags = flags_in(argv)
    file = flags.get("config")  # read first: it decides which flags there are
    plan = None if file is None else read_config(file)
    given, config = parse(argv, own, prog="policygrad train", description=DESCRIPTION, plan=plan)
    task, workers = _task(given, plan), take_workers(given)
    if plan is not None and plan.changed:
        print(
            f"policygrad: {plan.source} is of a run that was resumed with another "
            f"{', '.join(plan.changed)}; it holds the newest settings, so this run is not the same",
            file=sys.stderr,
        )
    with contextlib.nullcontext() if plan is None else plan.named_in_errors(flags):
        if given["seeds"] is not None:
            if "seed" in flags:
                raise UserError(f"--seed {config.seed} and --seeds exclude each other; give one")
            seeds = parse_seeds(given["seeds"])
            jobs = given["jobs"] if workers is None else workers
            if workers is not None and given["jobs"] is not None:
                raise UserError(
                    f"--jobs {given['jobs']} and --workers {workers.workers} exclude each other: "
                    "both train the seeds in processes; give one"
                )
            return _train_seeds(task, config, seeds, jobs, given["out"], given["json"])
        if given["jobs"] is not None:
            raise UserError(
                f"--jobs {given['jobs']} is for --seeds only; add --seeds 0..4, or omit it"
            )
        return _train(task, config, workers, given["out"], given["json"])


def _task(given: dict[str, Any], plan: Any) -> Task:
    """The environment, its arguments and the policy to begin from: of the flags, else of the file,
    else of the run to begin from."""
    from policygrad.training.beginning import Trained, place, trained_in

    env, start, kwargs = given["env"], given["start"], given["env_kwargs"]
    kwargs = None if kwargs is None else parse_kwargs(kwargs)
    if start is None and plan is not None:
        plan.check_start()
        start = plan.start
    trained = None
    if plan is not None and plan.env is not None:
        trained = Trained(plan.source, plan.env, plan.env_kwargs)
    elif start is not None:
        trained = trained_in(start)
    return Task(*place(env, kwargs, trained), start)


def _train(task: Task, config: Any, workers: Any, out: Path | None, json: bool) -> int:
    from policygrad.cli.progress import Progress
    from policygrad.figures.curves import preload
    from policygrad.runs import fresh_directory
    from policygrad.training import entry

    threading.Thread(target=preload, daemon=True).start()
    if out is None:
        out = fresh_directory(Path("runs"), f"{_as_folder(task.env)}-seed{config.seed}")
    name = f"{task.env}, seed {config.seed}"
    with only_json(json), Progress(name, config.total_steps) as progress:
        result = entry.train(
            **task._asdict(), out=out, config=config, collector=workers, on_update=progress.update
        )
    return report_run(result, json)


def _train_seeds(
    task: Task, config: Any, seeds: list[int], jobs: Any, out: Path | None, json: bool
) -> int:
    """Train many seeds at once; returns the exit code."""
    import policygrad
    from policygrad.cli.progress import SeedsProgress
    from policygrad.runs import fresh_directory

    if out is None:
        out = fresh_directory(Path("runs"), f"{_as_folder(task.env)}-seeds{seeds[0]}-{seeds[-1]}")
    with only_json(json), SeedsProgress(task.env, seeds, config.total_steps) as progress:
        result = policygrad.train_seeds(
            **task._asdict(), seeds=seeds, out=out, jobs=jobs, config=config,
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
            print(f"next: {command('evaluate', out)}")
    missing = len(result.runs) + len(result.failures) < len(seeds)
    if result.interrupted:
        return result.exit_code
    return 130 if missing else int(bool(result.failures))


def _as_folder(env: str) -> str:
    return env.replace("/", "-").replace(":", "-")

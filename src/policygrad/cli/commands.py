"""The subcommands: their arguments and what they print. Heavy imports wait inside."""

import contextlib
import json as json_module
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from policygrad.core.errors import UserError
from policygrad.core.shell import command

Json = Annotated[bool, arg(help="Print only the result, as JSON, on stdout.")]
RunPath = Annotated[Path, arg(help="Run directory.", metavar="RUN")]


WORKERS_HELP = (
    "Collect with this many worker processes of Ray's (extra: ray). No number depends on how many."
)
RAY_HELP = (
    "With --workers: address of a Ray cluster, host:port. Default: RAY_ADDRESS, or this machine."
)
TIMEOUT_HELP = (
    "With --workers: seconds after which a worker that has not answered counts as dead, its "
    "compilation included. Default: no limit."
)
CPUS_HELP = (
    "With --workers: CPUs that each asks for. Less than 1 lets them share one, where environments "
    "wait more than they compute. Default: 1."
)


def worker_arguments(purpose: str = WORKERS_HELP) -> list[tuple[str, Any, Any]]:
    """The flags of workers elsewhere: name, kind, default; for `cli.options.Argument`.

    Args:
        purpose: help of `--workers`.
    """
    return [
        ("workers", Annotated[int | None, arg(help=purpose)], None),
        ("ray", Annotated[str | None, arg(metavar="ADDRESS", help=RAY_HELP)], None),
        ("worker_timeout", Annotated[float | None, arg(help=TIMEOUT_HELP)], None),
        ("cpus_per_worker", Annotated[float | None, arg(help=CPUS_HELP)], None),
    ]


def take_workers(given: dict[str, Any]) -> Any:
    """The workers that the flags ask for, which are taken out of `given`; None without any."""
    from policygrad.core.settings import flag

    values = {name: given.pop(name) for name, *_ in worker_arguments()}
    workers = values.pop("workers")
    asked = {name: value for name, value in values.items() if value is not None}
    if workers is None:
        for name, value in asked.items():
            raise UserError(f"{flag(name)} {value} is for --workers only; add --workers N")
        return None
    from policygrad.machines.remote import remote

    return remote(workers, **{"address" if k == "ray" else k: v for k, v in asked.items()})


def train() -> int:
    """Train a policy, and write a run directory."""
    raise AssertionError("cli.train.main parses it")


def diagnose() -> int:
    """Say what is wrong with a run, most likely cause first, and what to change."""
    raise AssertionError("cli.diagnose.main parses it")


def resume() -> int:
    """Continue a run from its newest checkpoint, as if it had never stopped."""
    raise AssertionError("cli.resume.main parses it")


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


def report_run(run: Any, as_json: bool) -> int:
    """Print how a run ended; returns the exit code."""
    if as_json:
        print_json(run.summary)
    else:
        mean = run.summary["return_mean"]
        score = "no episode ended"
        if mean is not None:
            score = f"mean return {mean:.1f} (last 100 episodes of training)"
        speed = run.summary["steps_per_second"]
        print(
            f"{run.path}: {run.summary['env_steps']:,} environment steps, "
            f"{run.summary['episodes']:,} episodes, {score}, {run.summary['seconds']:.1f} s"
            f"{'' if speed is None else f', {speed:,.0f} steps/s'}"
        )
        if not run.interrupted:
            print(f"next: {command('evaluate', run.path)}")
    return run.exit_code


@contextlib.contextmanager
def only_json(as_json: bool) -> Iterator[None]:
    """Where stdout is to hold JSON alone, send what is printed meanwhile to stderr: environments
    print, and so does Ray."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield


def print_json(data: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Print one JSON value on stdout, with null in place of NaN and infinity."""
    from policygrad.core.plain import to_json

    print(json_module.dumps(to_json(data), indent=1))

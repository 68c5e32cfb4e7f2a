"""The subcommands: their arguments and what they print. Heavy imports wait inside."""

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from policygrad.core.errors import UserError
from policygrad.core.shell import command

Json = Annotated[bool, arg(help="Print only the result, as JSON, on stdout.")]
RunPath = Annotated[Path, arg(help="Run directory.", metavar="RUN")]


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
        score = (
            "no episode ended" if mean is None else f"mean return {mean:.1f} (last 100 episodes)"
        )
        print(
            f"{run.path}: {run.summary['env_steps']:,} environment steps, "
            f"{run.summary['episodes']:,} episodes, {score}, {run.summary['seconds']:.1f} s"
        )
        if not run.interrupted:
            print(f"next: {command('evaluate', run.path)}")
    if run.interrupted:
        print(
            f"interrupted and saved; continue with: {command('resume', run.path)}", file=sys.stderr
        )
    return run.exit_code


def print_json(data: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Print one JSON value on stdout, with null in place of NaN and infinity."""
    from policygrad.core.plain import to_json

    print(json_module.dumps(to_json(data), indent=1))

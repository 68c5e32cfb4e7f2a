"""`policygrad diagnose`: what is wrong with a run, in plain words, and what to change."""

import json as json_module
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from policygrad.cli import logs, trying
from policygrad.cli.commands import (
    Json,
    only_json,
    parse_kwargs,
    print_json,
    take_workers,
    worker_arguments,
)
from policygrad.core.errors import UserError
from policygrad.core.settings import flag
from policygrad.core.shell import user_path
from policygrad.devices.starting import prepare_jax

DESCRIPTION = "Say what is wrong with a run, most likely cause first, and what to change."
PROBE_STEPS = 20_480
OF_THE_DIAGNOSIS = ("seed", "processes", "step_timeout")  # settings that its fresh episodes read
RUN_HELP = (
    "Run directory, finished or not. Or a log of another library: a file, or the folder of one run."
)
ENV_HELP = (
    "Without RUN: train a short run in this environment with the settings below, and diagnose it. "
    "With RUN: the environment of the fresh episodes."
)
REPORT_HELP = (
    "Also write a report into this directory: report.html, one page that holds the findings, the "
    "learning curve, the settings and the pictures; the pictures as PNG files; and every number as "
    "report.json."
)
WORKERS_HELP = (
    "Collect the fresh episodes with this many worker processes of Ray's (extra: ray), each of "
    "which reduces its own to sums. No number depends on how many. A short run is trained here."
)
Run = Annotated[Path | None, arg(help=RUN_HELP, metavar="[RUN]")]
Report = Annotated[Path | None, arg(metavar="DIR", help=REPORT_HELP)]


def main(argv: Sequence[str]) -> int:
    """Run `policygrad diagnose`; returns the exit code."""
    prepare_jax()
    from policygrad.cli.options import Argument, flags_in, parse
    from policygrad.logs import is_log

    kwargs_help = "Arguments of the environment, as JSON."
    gradients_help = "Also measure the gradient on the fresh episodes; this takes longest."
    own = {
        "": [Argument("run_path", Positional[Run], None)],
        "diagnosis": [
            Argument("episodes", Annotated[int, arg(help="Number of fresh episodes.")], 64),
            Argument("gradients", Annotated[bool, arg(help=gradients_help)], True),
            Argument("report", Report, None),
            Argument("out", Annotated[Path | None, arg(help="Also write the JSON here.")], None),
            Argument("json", Json, False),
        ],
        "environment": [
            Argument("env", Annotated[str | None, arg(help=ENV_HELP)], None),
            Argument("env_kwargs", Annotated[str, arg(help=kwargs_help)], "{}"),
        ],
        "logs": [
            Argument("columns", logs.Columns, None),
            Argument("setting", logs.Setting, ()),
        ],
        "trial": [Argument(*each) for each in trying.trial_arguments()],
        "workers": [Argument(*each) for each in worker_arguments(WORKERS_HELP)],
    }
    probe = {"total_steps": PROBE_STEPS}
    given, config = parse(
        argv, own, prog="policygrad diagnose", description=DESCRIPTION, defaults=probe
    )
    kwargs = parse_kwargs(given.pop("env_kwargs"))
    given["run"], given["workers"] = given.pop("run_path"), take_workers(given)
    given["trial"] = trying.take_trial(given)
    for name in ("run", "out", "report"):
        given[name] = None if given[name] is None else user_path(given[name])
    of_log = {name: given.pop(name) for name in logs.OF_LOGS}
    if given["run"] is not None and is_log(given["run"]):
        logs.refuse_unread(given["run"], flags_in(argv))
        check_out(given["out"])
        files = {name: given[name] for name in ("out", "report", "json")}
        return logs.diagnose(given["run"], **of_log, **files)
    logs.refuse_of_logs(given["run"], flags_in(argv))
    logs.refuse_neither(given["run"])
    _check(given["run"], given["env"], config, kwargs, given["out"])
    trying.check(given["trial"], given["run"], given["env"], gradients=given["gradients"])
    return diagnose(config=config, kwargs=kwargs, **given)


def diagnose(
    run: Path | None,
    env: str | None,
    kwargs: dict[str, Any],
    config: Any,
    *,
    episodes: int,
    workers: Any,
    trial: trying.Asked | None,
    gradients: bool,
    out: Path | None,
    report: Path | None,
    json: bool,
) -> int:
    """Diagnose, write the files and show the result; returns the exit code."""
    if report is not None:
        make_folder(report)
    look: dict[str, Any] = {
        "episodes": episodes, "seed": config.seed, "gradients": gradients, "say": _say,
        "pictures": report is not None, "workers": workers,
    }  # fmt: skip
    if run is not None:
        look |= {"processes": config.processes, "step_timeout": config.step_timeout}
    with only_json(json):
        result = _looked(run, env, kwargs, config, look)
    further = trying.Further()
    if trial is not None and run is not None:
        if not json:
            show(result)
        with only_json(json):
            further = trying.go_further(trial, run, env, result, look, quiet=json)
    data = result.to_json() | dict(further.data)
    if out is not None:
        write(out, data)
    if report is not None:
        write_report(report, result, further)
    if json:
        print_json(data)
    elif trial is None:
        show(result)
    return further.code


def _looked(
    run: Path | None, env: str | None, kwargs: dict[str, Any], config: Any, look: dict[str, Any]
) -> Any:
    """The diagnosis of a run; without one, of a short run that is trained first, with progress."""
    from policygrad.cli.progress import Progress
    from policygrad.doctor import diagnosis as doctor

    if run is not None:
        return doctor.diagnose(run, env, **look)
    with Progress(f"{env}, seed {config.seed}", config.total_steps) as progress:
        return doctor.diagnose(
            env=env, config=config, env_kwargs=kwargs or None, on_update=progress.update, **look
        )


def _say(what: str) -> None:
    print(f"{what} …", file=sys.stderr, flush=True)


def write_report(report: Path, result: Any, further: trying.Further | None = None) -> None:
    """Write the report of a diagnosis, and say on stderr where it is.

    Args:
        report: the folder.
        result: a `Diagnosis`.
        further: what was tried beside it.
    """
    from policygrad.report import writing

    tried = trying.Further() if further is None else further
    written = writing.write_report(
        report, result.name, result.findings, result.examination,
        tried=tried.lines, further=tried.data,
    )  # fmt: skip
    print(f"report: {written[0]}", file=sys.stderr)


def _check(
    run: Path | None,
    env: str | None,
    config: Any,
    env_kwargs: dict[str, Any],
    out: Path | None,
) -> None:
    if run is None and env is None:
        raise UserError("nothing to diagnose; name a run directory, or an environment (--env ENV)")
    own = {name: getattr(config, name) for name in OF_THE_DIAGNOSIS}
    if run is not None and config != type(config)(**own, total_steps=PROBE_STEPS):
        raise UserError(
            f"{run} has its own settings; leave out those of train except "
            f"{', '.join(map(flag, OF_THE_DIAGNOSIS))}, or leave out RUN"
        )
    if run is not None and env_kwargs:
        raise UserError(f"{run} has its own --env-kwargs; leave them out, or leave out RUN")
    check_out(out)


def check_out(out: Path | None) -> None:
    """Raise UserError for a file that cannot be written."""
    if out is not None and not out.parent.is_dir():
        raise UserError(f"cannot write --out {out}: no such directory {out.parent}")
    if out is not None and out.is_dir():
        raise UserError(f"cannot write --out {out}: it is a directory; name a file in it")


def make_folder(report: Path) -> None:
    """Make the folder first, so that an error comes before minutes of work."""
    try:
        report.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write --report {report}: {error.strerror}") from error


def write(out: Path, data: dict[str, Any]) -> None:
    """Write the JSON; UserError if the system refuses."""
    try:
        out.write_text(json_module.dumps(data, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write --out {out}: {error.strerror}") from error


def show(diagnosis: Any) -> None:
    """The verdict on stdout."""
    from rich.console import Console

    from policygrad.doctor.telling import tell

    tell(diagnosis, Console(highlight=False))

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
    "Also write a report into this directory: report.html, one page of findings and pictures, the "
    "pictures as PNG files, and every number as report.json."
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
        return logs.diagnose(given["run"], **of_log, out=given["out"], json=given["json"])
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
        _make_folder(report)
    from policygrad.cli.progress import Progress
    from policygrad.doctor import diagnosis as doctor

    def say(what: str) -> None:
        print(f"{what} …", file=sys.stderr, flush=True)

    common: dict[str, Any] = {
        "episodes": episodes, "seed": config.seed, "gradients": gradients, "say": say,
        "pictures": report is not None, "workers": workers,
    }  # fmt: skip
    look: dict[str, Any] = {}
    with only_json(json):
        if run is None:
            with Progress(f"{env}, seed {config.seed}", config.total_steps) as progress:
                result = doctor.diagnose(
                    env=env, config=config, env_kwargs=kwargs or None, on_update=progress.update,
                    **common,
                )  # fmt: skip
        else:
            look = {
                **common, "processes": config.processes, "step_timeout": config.step_timeout,
            }  # fmt: skip
            result = doctor.diagnose(run, env, **look)
    data, further = result.to_json(), trying.Further()
    name = str(env) if run is None else str(run)
    if trial is not None and run is not None:
        if not json:
            show(result, name)
        with only_json(json):
            further = trying.go_further(trial, run, env, result, look, quiet=json)
        data |= further.data
    if out is not None:
        write(out, data)
    if report is not None:
        from policygrad.figures.page import write_report

        written = write_report(
            report, name, result.findings, result.examination,
            tried=further.lines, further=further.data,
        )  # fmt: skip
        print(f"report: {written[0]}", file=sys.stderr)
    if json:
        print_json(data)
    elif trial is None:
        show(result, name)
    return further.code


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


def _make_folder(report: Path) -> None:
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


def show(result: Any, name: str) -> None:
    """The verdict on stdout: every finding with its evidence and what to change."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    examination = result.examination
    seen = [f"{examination.env_steps:,} steps", f"{examination.updates} updates"]
    if examination.sample is not None:
        seen.append(f"{examination.sample.episodes:,} fresh episodes")
    console.print(Text(f"{name}: looked at {', '.join(seen)}"))
    if result.healthy:
        console.print(Text("Healthy: nothing is wrong.", style="green"))
    show_findings(console, result.findings)
    if examination.groups is not None:
        console.print()
        for line in in_groups(examination.groups):
            console.print(Text(line))
    for note in examination.notes:
        console.print(Text(f"not examined: {note}", style="dim"))


def show_findings(console: Any, findings: Sequence[Any]) -> None:
    """Every finding with its evidence, what to change and where its threshold comes from."""
    from rich.padding import Padding
    from rich.text import Text

    for number, finding in enumerate(findings, 1):
        console.print()
        console.print(Text.assemble(f"{number}. ", (finding.cause, "bold")))
        console.print(Padding(Text(finding.evidence), (0, 0, 0, 3)))
        console.print(Padding(Text(f"→ {finding.change}", style="cyan"), (0, 0, 0, 3)))
        console.print(
            Padding(Text(f"({finding.name}; {finding.source})", style="dim"), (0, 0, 0, 3))
        )


def in_groups(found: Any) -> list[str]:
    """Lines about the noise between and within groups."""

    def told(x: Any) -> str:
        return f"{x.value:.4g} ({x.low:.4g} to {x.high:.4g})"

    even = f"{found.even.low:.3g} to {found.even.high:.3g}"
    together = f", {found.weighed_together} weighed together" if found.weighed_together > 1 else ""
    return [
        f"noise of the gradient, from {found.starts} groups of {found.group_size}{together} "
        "(95 % intervals):",
        f"   between groups: {told(found.between)}",
        f"   within groups, one episode: {told(found.within)}",
        f"   both are equal at {even} episodes a group",
        "   a batch of m groups of k has the variance (between + within / k) / m",
    ]

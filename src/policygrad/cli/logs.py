"""`policygrad diagnose LOG`: what the log of another library says, and what it does not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import UseAppendAction, arg

from policygrad.cli.commands import print_json
from policygrad.core.errors import UserError
from policygrad.core.settings import flag

COLUMNS_HELP = (
    "With a log of another library: which of its columns hold what, such as "
    "return=score,length=steps,kl=kl. The others are those of the library, if it is recognised."
)
SETTING_HELP = (
    "With a log of another library: a setting that the log does not say, by that library's name, "
    "such as gamma=0.99; may be given several times."
)
Columns = Annotated[str | None, arg(help=COLUMNS_HELP, metavar="NAME=COLUMN,…")]
Setting = UseAppendAction[Annotated[tuple[str, ...], arg(help=SETTING_HELP, metavar="NAME=VALUE")]]
OF_LOGS = ("columns", "setting")
READ = (*OF_LOGS, "json", "out", "report")  # flags that a diagnosis of a log reads


def refuse_unread(path: Path, flags: Mapping[str, Any]) -> None:
    """Raise UserError for a flag that says nothing about a log."""
    for name in flags:
        if name not in READ:
            raise UserError(
                f"{path} is a log of another library: it is read, and nothing is run; leave out "
                f"{flag(name)}"
            )


def refuse_of_logs(run: Path | None, flags: Mapping[str, Any]) -> None:
    """Raise UserError for a flag that only a log reads, where there is none."""
    for name in OF_LOGS:
        if name in flags:
            what = "no path was given" if run is None else f"{run} is none"
            raise UserError(f"{flag(name)} is about a log of another library, and {what}")


def refuse_neither(run: Path | None) -> None:
    """Raise UserError for a folder that is no run directory and holds no log."""
    from policygrad.logs.finding import OWN, READ

    if run is not None and run.is_dir() and not (run / OWN).exists():
        raise UserError(
            f"neither a run nor a log at {run}: a run directory has {OWN}; of other libraries' "
            f"logs, what is read are {READ}"
        )


def parse_columns(text: str | None) -> dict[str, str] | None:
    """`return=score,kl=kl` as names and columns."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    for name, equals, theirs in pairs:
        if not (name.strip() and equals and theirs.strip()):
            raise UserError(f"--columns takes NAME=COLUMN,…, such as return=score, got {text!r}")
    return {name.strip(): theirs.strip() for name, _, theirs in pairs}


def diagnose(
    path: Path,
    columns: str | None,
    setting: Sequence[str],
    *,
    out: Path | None,
    report: Path | None,
    json: bool,
) -> int:
    """Diagnose a log, write the files and show the result; returns the exit code."""
    from policygrad.cli.diagnose import make_folder, show, write, write_report
    from policygrad.doctor.of_logs import diagnose_logs
    from policygrad.logs import parse_setting

    settings = dict(map(parse_setting, setting))
    if report is not None:
        make_folder(report)
    result = diagnose_logs(path, columns=parse_columns(columns), settings=settings)
    if out is not None:
        write(out, result.to_json())
    if report is not None:
        write_report(report, result)
    if json:
        print_json(result.to_json())
    else:
        show(result)
    return 0

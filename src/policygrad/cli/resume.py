"""`policygrad resume`: continue a run, with other settings where these may change."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from policygrad.cli.commands import Json, only_json, report_run, take_workers, worker_arguments
from policygrad.core.errors import UserError
from policygrad.core.shell import user_path
from policygrad.devices.starting import prepare_jax

DESCRIPTION = "Continue a run from its newest checkpoint, as if it had never stopped."
RUN_HELP = "Run directory. `policygrad resume RUN --help` lists the settings that may change."


def main(argv: Sequence[str]) -> int:
    """Run `policygrad resume`; returns the exit code."""
    run = _run_in(argv)
    if run is None:  # shows the help, or says that RUN is missing
        import tyro

        return tyro.cli(_without_run, args=argv, prog="policygrad resume", description=DESCRIPTION)
    from policygrad.runs import RunDirectory

    directory, _ = RunDirectory.open_at(user_path(run))
    from policygrad.cli.options import (
        Argument,
        flags_in,
        parse_arguments,
        refuse_translated,
        setting_argument,
    )
    from policygrad.training.changes import cannot_change, changeable, listed
    from policygrad.training.config import TrainConfig
    from policygrad.training.entry import check_objects, saved_config
    from policygrad.training.given import Given

    saved = directory.read_config()
    config = saved_config(directory, saved)
    check_objects(directory, saved, {})
    allowed, flags = changeable(config, Given()), flags_in(argv)
    for name in flags.keys() & TrainConfig.__dataclass_fields__.keys() - allowed.keys():
        raise UserError(f"{cannot_change(name, config)}; {listed(allowed)}")
    own = {
        "": [Argument("path", Annotated[Positional[Path], arg(metavar="RUN", help=RUN_HELP)])],
        "settings": [setting_argument(s, getattr(config, s.name)) for s in allowed.values()],
        "workers": [Argument(*each) for each in worker_arguments()],
        "output": [Argument("json", Json, False)],
    }
    refuse_translated(flags, allowed)
    values = parse_arguments(argv, own, prog="policygrad resume", description=DESCRIPTION)
    changed = {name: values[name] for name in flags.keys() & allowed.keys()}
    return _resume(run, config, changed, take_workers(values), values["json"])


def _run_in(argv: Sequence[str]) -> str | None:
    """The run that is named, which decides which flags there are; None if there is none."""
    if all(word.startswith("-") for word in argv):
        return None
    prepare_jax()
    from policygrad.core.reflection import settings_of
    from policygrad.training.config import FileSettings, RunSettings

    kinds = {s.name: s.kind for record in (RunSettings, FileSettings) for s in settings_of(record)}
    switches = {"json", *(name for name, kind in kinds.items() if kind is bool)}
    takes_value, runs = False, []
    for word in argv:
        name = word.removeprefix("--").removeprefix("no-").replace("-", "_")
        if word.startswith("--"):
            takes_value = "=" not in word and name not in switches
        elif takes_value:
            takes_value = False
        elif not word.startswith("-"):
            runs.append(word)
    known = (word for word in argv if (user_path(word) / "config.json").is_file())
    return next(iter([*runs, *known]), None)


def _without_run(run: Annotated[Positional[Path], arg(metavar="RUN", help=RUN_HELP)]) -> int:
    raise UserError(f"{run} is an option, not a run; name the run first")


def _resume(run: str, config: Any, changed: dict[str, Any], workers: Any, json: bool) -> int:
    from policygrad.cli.progress import Progress
    from policygrad.training import entry

    total_steps = changed.get("total_steps", config.total_steps)
    with only_json(json), Progress(f"resuming {run}", total_steps) as progress:
        result = entry.resume(run, collector=workers, on_update=progress.update, **changed)
    return report_run(result, json)

"""`policygrad plot`: learning curves of runs, with bands over seeds."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from policygrad.cli.commands import Json, print_json
from policygrad.core.errors import PolicygradError, RunError, UserError
from policygrad.core.shell import user_path

RUNS_HELP = "Run directories, or directories of seeds."
X_HELP = "What to draw over."
Y_HELP = (
    "What to draw: a metric of metrics.jsonl, such as kl or info/NAME; several with commas, a row "
    "of panels each."
)
OUT_HELP = "File to write; its ending selects the format."


def plot(
    runs: Positional[Annotated[list[Path], arg(help=RUNS_HELP, metavar="RUN")]],
    x: Annotated[Literal["steps", "wall-time"], arg(help=X_HELP)] = "steps",
    y: Annotated[str, arg(metavar="NAME", help=Y_HELP)] = "return_mean",
    out: Annotated[Path, arg(help=OUT_HELP)] = Path("learning_curves.png"),
    json: Json = False,
) -> int:
    """Draw learning curves: runs of equal settings are one line, with a band over their seeds."""
    from policygrad.figures import comparing
    from policygrad.figures.curves import save_figure
    from policygrad.figures.groups import check_metric, grouped

    out, metrics = user_path(out), [name.strip() for name in y.split(",")]
    curves, failed = _read(runs)
    for name in metrics:
        if without := check_metric(curves, name):
            paths = ", ".join(str(curve.path) for curve in without)
            print(f"policygrad: {paths}: has no {name}", file=sys.stderr)
    groups = grouped(curves, usual)
    figure = comparing.comparison(groups, x=x, y=metrics)
    try:
        save_figure(figure, out)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write --out {out}: {error}") from error
    if json:
        drawn = comparing.numbers(groups, x=x, y=metrics)
        print_json(
            {"path": str(out), "runs": [str(c.path) for c in curves], "x": x, "drawn": drawn}
        )
    else:
        print(out)
    return int(failed)


def _read(runs: list[Path]) -> tuple[list[Any], bool]:
    """All runs, and whether one of a directory of seeds could not be read."""
    from policygrad.figures.groups import Curve
    from policygrad.runs import seed_directories

    if not runs:
        raise UserError("no run to plot; name at least one run directory")
    curves: dict[Path, Any] = {}
    failed = False
    for run in map(user_path, runs):
        seeds = seed_directories(run)
        for path in seeds or [run]:
            try:
                curves.setdefault(path.resolve(), Curve.read(path))
            except RunError as error:
                if len(seeds) < 2:
                    raise
                print(f"policygrad: {error}", file=sys.stderr)
                failed = True
    if not curves:
        raise RunError("none of the runs can be read")
    return list(curves.values()), failed


def usual(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The value of every setting unless a user gives another, with these choices by name."""
    from policygrad.training.config import Choices, TrainConfig
    from policygrad.training.given import Given
    from policygrad.training.resolve import resolve

    names = [*Choices.__dataclass_fields__, "batch_episodes"]
    choices = {name: settings[name] for name in names if settings.get(name) is not None}
    try:
        return resolve(TrainConfig(**choices), Given())[0].config.to_json()
    except PolicygradError:  # a run of values that have no names
        return {}

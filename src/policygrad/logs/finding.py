"""From a path to the log that is there: which files are read, and what is refused."""

import re
from collections.abc import Callable
from pathlib import Path

from policygrad.core.errors import UserError
from policygrad.logs import events, readers
from policygrad.logs.table import Table

PROGRESS, RESULT, TRAINER, PARAMS = (
    "progress.csv", "result.json", "trainer_state.json", "params.json",
)  # fmt: skip
ARGUMENTS = ("training_args.json",)
OWN, BESIDE = "config.json", ("metrics.jsonl", "checkpoints")  # of a run of this library
PICKLES = (".zip", ".pkl", ".pickle", ".pt", ".pth", ".bin")
READ = (
    "TensorBoard event files, progress.csv, monitor.csv, result.json, trainer_state.json, *.jsonl"
)


def is_log(path: Path) -> bool:
    """Whether a path is a log of another library, and not a run directory of this one's."""
    return bool(_runs_under(path)) if path.is_dir() else path.is_file()


def read(path: Path) -> Table:
    """The log at a path: a file, a folder of files of one run, or a folder with one such folder.

    Raises:
        UserError: nothing to read, several runs, a damaged file, or a file of pickles.
    """
    if path.is_file():
        return _beside(_read_file(path), path.parent)
    folders = _runs_under(path)
    if not folders:
        raise UserError(f"no log at {path}; what is read are {READ}")
    if all(re.fullmatch(r"checkpoint-\d+", folder.name) for folder in folders):
        folders = [max(folders, key=lambda folder: int(folder.name.split("-")[1]))]  # holds all
    if len(folders) > 1:
        shown = ", ".join(str(folder) for folder in folders[:4])
        more = f" and {len(folders) - 4} more" if len(folders) > 4 else ""
        raise UserError(f"{path} holds several logs; name one of them: {shown}{more}")
    return _read_folder(folders[0])


def _runs_under(path: Path) -> list[Path]:
    """The folder itself if it holds a log, else those of its folders that do, two deep.

    A run of this library is none, nor is what is inside of it.
    """
    if _holds_a_log(path):
        return [path]
    if _is_own(path):
        return []
    inner = sorted(p for p in path.iterdir() if p.is_dir())
    found = [p for p in inner if _holds_a_log(p)]
    return found or [
        q for p in inner for q in sorted(p.iterdir()) if q.is_dir() and _holds_a_log(q)
    ]


def _is_own(folder: Path) -> bool:
    return (folder / OWN).is_file() and any((folder / name).exists() for name in BESIDE)


def _holds_a_log(folder: Path) -> bool:
    files = [path for path in folder.iterdir() if path.is_file()]
    return not _is_own(folder) and any(map(_is_read, files))


def _is_read(path: Path) -> bool:
    own = path.name in (PROGRESS, RESULT, TRAINER) or path.name.endswith("monitor.csv")
    return own or events.EVENTS in path.name or path.suffix == ".jsonl"


def _read_folder(folder: Path) -> Table:
    """Rows first, since they need no further package; else event files; and monitors beside."""
    table = None
    for name in (RESULT, PROGRESS, TRAINER):
        path = folder / name
        if path.is_file() and path.stat().st_size:
            table = _read_file(path)
            break
    has_events = any(events.EVENTS in path.name for path in folder.iterdir())
    lines = sorted(folder.glob("*.jsonl"))
    monitors = sorted(folder.glob("*monitor.csv"))
    if table is None and has_events:
        table = events.read_events(folder)
    elif table is None and len(lines) == 1:
        table = _read_file(lines[0])
    elif table is None and lines:
        raise UserError(f"{folder} holds several logs; name one of them: {lines[0]}, …")
    if monitors:
        episodes = readers.read_monitors(monitors)
        table = episodes if table is None else table | episodes
    if table is None or not table.columns:
        raise UserError(f"the logs in {folder} hold no numbers; the run has written nothing yet")
    return _beside(table, folder)


def _read_file(path: Path) -> Table:
    name = path.name
    if name.endswith(PICKLES):
        raise UserError(
            f"{path} is not read: files of this kind hold pickles, which can run any program; name "
            "the folder that the run logged to (progress.csv, event files)"
        )
    reader: Callable[[Path], Table]
    if events.EVENTS in name:
        reader = events.read_events
    elif name.endswith("monitor.csv"):
        return readers.read_monitors([path])
    elif name == TRAINER:
        reader = readers.read_trainer_state
    elif name.endswith(".csv"):
        reader = readers.read_csv
    elif name == RESULT or name.endswith((".jsonl", ".json")):
        reader = readers.read_json_lines
    else:
        raise UserError(f"{path} is not a log that is read; those are {READ}, and *.csv")
    return reader(path)


def _beside(table: Table, folder: Path) -> Table:
    """With the settings of a file beside the log."""
    for name in (PARAMS, *ARGUMENTS):
        path = folder / name
        if path.is_file() and path.name not in table.files:
            settings = dict(readers.flat(readers.read_json(path)))
            return table | Table({}, settings=settings, files=(name,))
    return table

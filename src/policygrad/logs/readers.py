"""The kinds of files that hold logs: one reader each, from a path to a `Table`.

Nothing is unpickled: what is read is text, JSON, CSV, and TensorBoard's event files.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from policygrad.core.errors import UserError
from policygrad.logs.table import Column, Table, table_of_rows

EVENTS = "events.out.tfevents"
NEEDS_TENSORBOARD = (
    "TensorBoard's event files are read by the package tensorboard, which is not installed; "
    "pip install 'policygrad[logs]'"
)


def read_csv(path: Path) -> Table:
    """A CSV file with a line of names, such as SB3's and RLlib's `progress.csv`.

    Raises:
        UserError: no names, or no line of numbers.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = [{k: _number(v) for k, v in row.items() if k} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is damaged, or no CSV: {error}") from error
    return _not_empty(table_of_rows(rows, path.name), path)


def read_monitor(path: Path) -> list[tuple[float, float, float]]:
    """SB3's `monitor.csv`: for each episode the seconds at its end, its return and its length."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in file if not line.startswith("#")]
        rows = [{k: _number(v) for k, v in row.items() if k} for row in csv.DictReader(lines)]
        numbers = [(row.get("t"), row.get("r"), row.get("l")) for row in rows]
        # a line that was cut off lacks its last numbers
        return [(float(t), float(r), float(n)) for t, r, n in numbers if None not in (t, r, n)]  # type: ignore[arg-type]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is damaged, or no CSV: {error}") from error


def read_monitors(paths: list[Path]) -> Table:
    """The episodes of several environments that ran side by side, in the order of their ends."""
    episodes = np.array(
        sorted(episode for path in paths for episode in read_monitor(path)), np.float64
    ).reshape(-1, 3)
    names = tuple(path.name for path in paths)
    if not len(episodes):
        return Table({}, files=names, monitors=len(paths))
    steps = np.cumsum(episodes[:, 2])
    columns = {f"monitor/{name}": Column(steps, episodes[:, i]) for i, name in ((1, "r"), (2, "l"))}
    return Table(columns, files=names, monitors=len(paths))


def read_json_lines(path: Path) -> Table:
    """One JSON object a line, such as RLlib's `result.json`; objects in objects are joined by "/".

    The last line may be cut off, as it is while a run goes on.

    Raises:
        UserError: another line that is no JSON object.
    """
    lines = [line for line in _text(path).splitlines() if line.strip()]
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines) > 1:
                break
            raise UserError(f"{path} is damaged: line {number} is no JSON ({error})") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is no JSON object, got {line[:40]!r}")
        rows.append(dict(flat(row)))
    return _not_empty(table_of_rows(rows, path.name), path)


def read_trainer_state(path: Path) -> Table:
    """The `trainer_state.json` of Hugging Face's trainers, whose `log_history` holds the rows."""
    state = read_json(path)
    history = state.get("log_history")
    if not isinstance(history, list):
        raise UserError(f"{path} has no log_history, which a trainer_state.json holds")
    rows = [dict(flat(row)) for row in history if isinstance(row, dict)]
    return _not_empty(table_of_rows(rows, path.name), path)


def read_events(path: Path) -> Table:
    """A file of TensorBoard events, or a folder with some that follow one another.

    A folder may hold none yet: a run that died early left nothing but its episodes in monitors.

    Raises:
        UserError: the package is missing, or a file holds no event that could be read.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util import tensor_util
    except ImportError as error:
        raise UserError(NEEDS_TENSORBOARD) from error
    keep_all = {"scalars": 0, "tensors": 0, "images": 1, "histograms": 1, "audio": 1}
    events = EventAccumulator(str(path), size_guidance=keep_all)
    try:
        events.Reload()
    except Exception as error:  # whatever the package raises on a file that is none of its own
        raise UserError(f"{path} is damaged, or no event file: {error}") from error
    found = {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }
    texts = {}
    for tag in events.Tags()["tensors"]:
        arrays = [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]
        if arrays[-1][1].dtype.kind in "OSU":
            last = arrays[-1][1].ravel()[0]
            texts[tag] = last.decode("utf-8", "replace") if isinstance(last, bytes) else str(last)
        elif arrays[-1][1].size == 1:
            found[tag] = [(step, float(x.ravel()[0])) for step, x in arrays]
    columns = {}
    for tag, pairs in found.items():
        both = np.array(sorted(pairs, key=lambda pair: pair[0]), np.float64)
        columns[tag] = Column(both[:, 0], both[:, 1])
    names = [path] if path.is_file() else sorted(path.glob(f"*{EVENTS}*"))
    table = Table(columns, texts, files=tuple(p.name for p in names))
    return _not_empty(table, path) if path.is_file() else table


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: it cannot be read, or is something else.
    """
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise UserError(f"{path} is damaged, or no JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no JSON object")
    return found


def settings_in_text(text: str) -> dict[str, Any]:
    """The settings of a table in Markdown, as CleanRL writes it into TensorBoard.

    >>> settings_in_text("|param|value|\\n|-|-|\\n|gamma|0.99|\\n|env_id|CartPole-v1|")
    {'gamma': 0.99, 'env_id': 'CartPole-v1'}
    """
    rows = [re.match(r"\s*\|([^|]+)\|(.*)\|\s*$", line) for line in text.splitlines()]
    pairs = {row[1].strip(): row[2].strip() for row in rows if row}
    return {
        name: value_of(value)
        for name, value in pairs.items()
        if name != "param" and not set(name) <= set("-: ")
    }


def value_of(text: str) -> Any:
    """A number, a truth value or None where the text is one; else the text."""
    words = {"True": True, "False": False, "true": True, "false": False, "None": None, "null": None}
    if text in words:
        return words[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def flat(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of name and value, where objects in objects are joined by "/".

    >>> dict(flat({"a": {"b": 1, "c": {"d": 2}}, "e": 3}))
    {'a/b': 1, 'a/c/d': 2, 'e': 3}
    """
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}/")
        else:
            yield f"{before}{name}", value


def _number(text: Any) -> float | None:
    """The number of a cell; None for a cell that is empty or no number."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged, or no text: {error}") from error


def _not_empty(table: Table, path: Path) -> Table:
    if not table.columns:
        raise UserError(f"{path} holds no numbers; it is empty, damaged, or not a log of training")
    return table

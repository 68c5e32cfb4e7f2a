"""The kinds of files that hold logs: one reader each, from a path to a `Table`.

Nothing is unpickled: what is read here is text, JSON and CSV (event files: `logs.events`).
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from policygrad.core.errors import UserError
from policygrad.logs.table import Column, Table, going_on, table_of_rows


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
    return not_empty(table_of_rows(rows, path.name), path)


def read_monitor(path: Path) -> tuple[float | None, Float[np.ndarray, "N 3"]]:
    """SB3's `monitor.csv`: when it was begun, and each episode's seconds, return and length.

    The seconds at the end of an episode count from the beginning of the file. A run that appends to
    a file counts them from 0 again; here they go on.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(file)
        rows = csv.DictReader(line for line in lines if not line.startswith("#"))
        numbers = [[_number(row.get(name)) for name in ("t", "r", "l")] for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is damaged, or no CSV: {error}") from error
    # a line that was cut off lacks its last numbers
    whole = [row for row in numbers if None not in row]
    episodes = np.array(whole, np.float64).reshape(-1, 3)
    episodes[:, 0] = going_on(episodes[:, 0])
    return _begun(lines), episodes


def _begun(lines: list[str]) -> float | None:
    """The `t_start` of a monitor's first line, in seconds; None if there is none."""
    try:
        header = json.loads(lines[0].removeprefix("#"))
        return float(header["t_start"])
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def read_monitors(paths: list[Path]) -> Table:
    """The episodes of several environments, in the order of their ends.

    Files may have been begun at different times, as in `stable_baselines3`'s `load_results`.
    """
    begun, parts = zip(*map(read_monitor, paths), strict=True)
    if None not in begun:
        since = np.array([[start, 0.0, 0.0] for start in begun])
        parts = [part + start for start, part in zip(since, parts, strict=True)]
    episodes = np.concatenate(parts)
    episodes = episodes[np.argsort(episodes[:, 0], kind="stable")]
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
        except RecursionError as error:
            raise UserError(f"{path}: line {number} is nested too deeply to be read") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is no JSON object, got {line[:40]!r}")
        rows.append(dict(flat(row)))
    return not_empty(table_of_rows(rows, path.name), path)


def read_trainer_state(path: Path) -> Table:
    """The `trainer_state.json` of Hugging Face's trainers, whose `log_history` holds the rows."""
    state = read_json(path)
    history = state.get("log_history")
    if not isinstance(history, list):
        raise UserError(f"{path} has no log_history, which a trainer_state.json holds")
    rows = [dict(flat(row)) for row in history if isinstance(row, dict)]
    return not_empty(table_of_rows(rows, path.name), path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: it cannot be read, or is something else.
    """
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
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


def flat(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Pairs of name and value, where objects in objects are joined by "/".

    >>> dict(flat({"a": {"b": 1, "c": {"d": 2}}, "e": 3}))
    {'a/b': 1, 'a/c/d': 2, 'e': 3}
    """
    waiting = list(row.items())[::-1]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(f"{name}/{inner}", x) for inner, x in list(value.items())[::-1]]
        else:
            yield name, value


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


def not_empty(table: Table, path: Path) -> Table:
    """The table; UserError if it has no column of numbers."""
    if not table.columns:
        raise UserError(f"{path} holds no numbers; it is empty, damaged, or not a log of training")
    return table

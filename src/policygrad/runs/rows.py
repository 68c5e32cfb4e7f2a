"""Rows of metrics: a line of JSON each in a file, checked as they are read.

The last entry of a line, `crc32`, is the checksum of the others. Files of earlier versions have no
such entries.
"""

import json
import math
import os
import warnings
import zlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from policygrad.core.errors import RunError, WriteError
from policygrad.core.plain import to_json
from policygrad.runs import storage

CHECKSUM = "crc32"
COUNTS = ("update", "env_steps", "episodes")
MOST = 2**63  # what a count is below
ABSENT, NONE, WHOLE, FLOAT = range(4)  # what a row holds under a name


def checked(row: Any) -> dict[str, Any]:
    """What a line holds, if it is the metrics of an update; ValueError, which says why it is not.

    `update` and `env_steps` are counts, `episodes` is one if it is there. Every other value is a
    finite number or null.
    """
    if not isinstance(row, dict):
        raise ValueError(f"it holds {type(row).__name__}, not the metrics of an update")
    if CHECKSUM in row and row.pop(CHECKSUM) != checksum(json.dumps(row)):
        raise ValueError("its checksum does not match its content")
    for name in COUNTS:
        value = row.get(name)
        if name == "episodes" and value is None:
            continue
        if type(value) is not int or not 0 <= value < MOST:
            raise ValueError(f"{name!r} is {_short(value)}, not a count")
    for name, value in row.items():
        if value is None or (type(value) in (int, float) and _finite(value)):
            continue
        raise ValueError(f"{name!r} is {_short(value)}, not a number")
    return row


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False


def _short(value: Any) -> str:
    text = type(value).__name__ if isinstance(value, (dict, list)) else repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def read_rows(path: Path, up_to: int | None = None) -> list[dict[str, Any]]:
    """The rows of a file, without a last line that was cut short.

    Args:
        path: the file.
        up_to: leave out the rows after this update, and do not look at what follows them.

    Raises:
        RunError: the file cannot be read, or a line is damaged; the message names the line.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    rows: list[dict[str, Any]] = []
    signed: bool | None = None
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
            has_checksum = isinstance(found, dict) and CHECKSUM in found
            row = checked(found)
            if signed not in (None, has_checksum):
                raise ValueError(f"some lines have a checksum ({CHECKSUM}), and some have none")
            signed = has_checksum
        except (ValueError, RecursionError) as error:
            if number == len(lines) and (rows or up_to is not None):
                break
            if up_to is not None and rows and rows[-1]["update"] >= up_to:
                break
            raise RunError(
                f"{path}, line {number}, is damaged: {error}; without this line the others can be "
                "read"
            ) from error
        if up_to is None or row["update"] <= up_to:
            rows.append(row)
    return rows


def warn_of_missing(
    path: Path, rows: Sequence[dict[str, Any]], update: int, env_steps: int
) -> None:
    """Warn where the rows of a file are not those of all updates.

    Args:
        path: the file.
        rows: of it, in order.
        update, env_steps: what the run is known to have reached.

    Raises:
        RunError: rows are not in order.
    """
    missing, before = [], 0
    for row in rows:
        if row["update"] <= before:
            raise RunError(f"{path} is damaged: update {row['update']} follows update {before}")
        if row["update"] > before + 1:
            missing.append(f"from {before + 1} to {row['update'] - 1}")
        before = row["update"]
    if before < update or (rows[-1]["env_steps"] if rows else 0) < env_steps:
        missing.append(f"from {before + 1} on")
    if missing:
        warnings.warn(
            f"{path} holds no metrics of updates {' and '.join(missing)}, which the run made",
            stacklevel=3,
        )


class MetricsFile:
    """A file of rows that grows by one line an update; every line is handed to the system at once.

    Attributes:
        path: of the file.
    """

    def __init__(
        self, path: Path, kept: Sequence[dict[str, Any]] = (), *, append: bool = False
    ) -> None:
        """Begin a file, or continue one after the update that the run was resumed from.

        Args:
            path: of the file.
            kept: the rows that it begins with, in place of what it holds.
            append: continue behind whatever the file holds.

        Raises:
            OSError: the file cannot be written.
        """
        self.path = path
        if kept:
            storage.write_atomically(path, b"".join(map(line_of, kept)))
        self._file = path.open("ab" if append or kept else "wb", buffering=0)

    def write(self, metrics: dict[str, Any]) -> None:
        """Append one line.

        Raises:
            OSError: it cannot be written.
            WriteError: the file was removed while it was open.
        """
        line = line_of(metrics)
        while line:
            line = line[self._file.write(line) :]
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise WriteError(
                f"{self.path} was removed while the run wrote to it; the run ends here"
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def line_of(row: dict[str, Any]) -> bytes:
    """A row as a line of JSON."""
    row = to_json(row)
    return (json.dumps({**row, CHECKSUM: checksum(json.dumps(row))}) + "\n").encode()


def checksum(text: str) -> int:
    """Of the JSON of a row without its checksum."""
    return zlib.crc32(text.encode())


class CompactRows(Sequence[dict[str, Any]]):
    """Rows in memory, of which each takes some 9 bytes a number in place of a dictionary.

    Values are whole numbers, floating-point numbers and None.
    """

    def __init__(self) -> None:
        self._length = 0
        self._columns: dict[str, tuple[array, bytearray]] = {}

    def append(self, row: dict[str, Any]) -> None:
        """Take in one row."""
        for name, value in row.items():
            if name not in self._columns:
                absent = array("d", bytes(8 * self._length)), bytearray(self._length)
                self._columns[name] = absent
            numbers, kinds = self._columns[name]
            numbers.append(0.0 if value is None else value)
            kinds.append(NONE if value is None else WHOLE if type(value) is int else FLOAT)
        self._length += 1
        for numbers, kinds in self._columns.values():
            if len(kinds) < self._length:
                numbers.append(0.0)
                kinds.append(ABSENT)

    def __len__(self) -> int:
        return self._length

    def _row(self, number: int) -> dict[str, Any]:
        row = {}
        for name, (numbers, kinds) in self._columns.items():
            kind = kinds[number]
            if kind == NONE:
                row[name] = None
            elif kind != ABSENT:
                row[name] = int(numbers[number]) if kind == WHOLE else numbers[number]
        return row

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(place, slice):
            return [self._row(i) for i in range(*place.indices(self._length))]
        return self._row(range(self._length)[place])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._row, range(self._length))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"<{self._length} rows of metrics>"

"""The run directory: the files of a run, and how they are written and read.

config.json                       the settings
metrics.jsonl                     one line an update
summary.json                      how the run ended
failure.json                      why training stopped on a number that was not finite
policy.safetensors, policy.json   the policy, with what it applies to raw observations
checkpoints/STEPS/                state.safetensors, state.json: all that resuming needs
learning_curve.png
"""

import contextlib
import json
import os
import shutil
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from policygrad.core.errors import RunError, UserError
from policygrad.core.failures import Failure
from policygrad.core.plain import to_json
from policygrad.runs import storage

CONFIG, METRICS, SUMMARY = "config.json", "metrics.jsonl", "summary.json"
FAILURE = "failure.json"
POLICY, CHECKPOINTS, CURVE = "policy", "checkpoints", "learning_curve.png"
OWN_FILES = (CONFIG, METRICS, SUMMARY, f"{POLICY}.safetensors", CHECKPOINTS)


class RunDirectory:
    """The files of one run.

    Attributes:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> "RunDirectory":
        """Make an empty run directory; UserError if the path holds a run or cannot be written."""
        cls.check_free(path)
        try:
            (path / CHECKPOINTS).mkdir(parents=True)
        except OSError as error:
            raise UserError(f"cannot write to --out {path}: {error.strerror}") from error
        return cls(path)

    @staticmethod
    def check_free(path: Path) -> None:
        """UserError if a path holds a run or is a file."""
        if path.exists() and not path.is_dir():
            raise UserError(f"--out {path} is a file; name a directory")
        if any((path / name).exists() for name in OWN_FILES):
            raise UserError(
                f"--out {path} already holds a run; continue it with 'policygrad resume {path}', "
                "or name another directory"
            )

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Open an existing run; RunError if there is none."""
        if not path.is_dir():
            raise RunError(f"no run at {path}: there is no such directory")
        if not (path / CONFIG).exists():
            raise RunError(f"no run at {path}: it has no {CONFIG}")
        return cls(path)

    def write_json(self, name: str, data: dict[str, Any]) -> None:
        """Write one JSON file atomically: it appears whole or not at all."""
        text = json.dumps(to_json(data), indent=1) + "\n"
        storage.write_atomically(self.path / name, text.encode())

    def write_config(self, config: dict[str, Any]) -> None:
        """Write `config.json`, with a checksum of its content."""
        body = to_json({"format": storage.FORMAT, **config})
        self.write_json(CONFIG, {**body, "checksum": storage.checksum(body)})

    def read_config(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return storage.read_checked_json(self.path / CONFIG)

    def read_summary(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        return storage.read_json(self.path / SUMMARY)

    def write_failure(self, message: str, env_steps: int, kind: str | None = None) -> None:
        """Write down why training stopped by itself. Arguments as in `Failure`."""
        self.write_json(FAILURE, Failure(message, env_steps, kind)._asdict())

    def read_failure(self) -> Failure | None:
        """Why training stopped by itself; None if it did not."""
        path = self.path / FAILURE
        if not path.exists():
            return None
        data = storage.read_json(path)
        for name, type_ in (("message", str), ("env_steps", int), ("kind", (str, NoneType))):
            if not isinstance(data.get(name), type_):
                raise RunError(f"{path} is damaged: {name!r} is {data.get(name)!r}")
        return Failure(data["message"], data["env_steps"], data.get("kind"))

    def clear_failure(self) -> None:
        """Remove `failure.json`, because the run goes on."""
        (self.path / FAILURE).unlink(missing_ok=True)

    def has_metrics(self) -> bool:
        """Whether any update was recorded."""
        path = self.path / METRICS
        return path.exists() and path.stat().st_size > 0

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`, without a last line that is incomplete."""
        path = self.path / METRICS
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror}") from error
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                if not isinstance(row, dict) or not isinstance(row.get("env_steps"), int):
                    raise ValueError("it does not hold the metrics of an update")
            except (ValueError, RecursionError) as error:
                if number == len(lines) and rows:
                    break
                raise RunError(f"{path}, line {number}, is damaged: {error}") from error
            rows.append(row)
        return rows

    def save_policy(self, arrays: dict[str, np.ndarray], data: dict[str, Any]) -> None:
        """Write the policy's two files."""
        storage.save(self.path / POLICY, arrays, to_json(data))

    def save_checkpoint(
        self, env_steps: int, arrays: dict[str, np.ndarray], data: dict[str, Any], keep: int
    ) -> None:
        """Write a checkpoint atomically, and remove the oldest beyond `keep`."""
        root = self.path / CHECKPOINTS
        final = root / f"{env_steps:012d}"
        if final.exists():
            return
        for leftover in root.glob(".*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = root / f".{final.name}.{os.getpid()}.tmp"
        temporary.mkdir()
        storage.save(temporary / "state", arrays, to_json(data))
        os.replace(temporary, final)
        storage.sync_directory(root)
        for old in self.checkpoints()[:-keep]:
            shutil.rmtree(old, ignore_errors=True)

    def checkpoints(self) -> list[Path]:
        """The complete checkpoints, oldest first."""
        root = self.path / CHECKPOINTS
        if not root.is_dir():
            return []
        found = [p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")]
        return sorted(found, key=lambda p: (len(p.name), p.name))  # of any number of digits

    def newest_checkpoint(self) -> Path:
        """The newest complete checkpoint; RunError if there is none."""
        found = self.checkpoints()
        if not found:
            raise RunError(f"{self.path} has no checkpoint")
        return found[-1]


def seed_directories(path: Path) -> list[Path]:
    """The runs `seed-0`, `seed-1`… in a directory of many seeds; empty for any other directory."""
    if (path / CONFIG).exists() or not path.is_dir():
        return []
    found = [p for p in path.glob("seed-*") if p.name[5:].isdigit() and (p / CONFIG).exists()]
    return sorted(found, key=lambda p: int(p.name[5:]))


def fresh_directory(parent: Path, name: str) -> Path:
    """`parent/name`, or the first of `parent/name-2`, `-3`… that does not exist yet."""
    path, number = parent / name, 2
    while path.exists():
        path, number = parent / f"{name}-{number}", number + 1
    return path


class MetricsFile:
    """`metrics.jsonl`: one line an update, flushed at once."""

    def __init__(self, path: Path, keep_until_update: int | None = None) -> None:
        """Begin a file, or continue one after the update that the run was resumed from."""
        if keep_until_update is not None and path.exists():
            kept = []
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    if json.loads(line)["update"] <= keep_until_update:
                        kept.append(line + b"\n")
            storage.write_atomically(path, b"".join(kept))
        self._file = path.open("a" if keep_until_update is not None else "w")

    def write(self, metrics: dict[str, Any]) -> None:
        """Append one line."""
        self._file.write(json.dumps(to_json(metrics)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

"""The run directory: the files of a run, and how they are written and read.

config.json                       the settings
metrics.jsonl                     one line an update
summary.json                      how the run ended
failure.json                      why training stopped on a number that was not finite
policy.safetensors, policy.json   the policy, with what it applies to raw observations
checkpoints/STEPS/                state.safetensors, state.json: all that resuming needs
best/STEPS/                       policy.safetensors, policy.json: the best policy so far
evaluations.jsonl                 one line an evaluation during training, where there are any
learning_curve.png

What says how a run ended (summary, failure, policy, picture) is removed when the run goes on. So
the newest policy is the policy file if there is one, and else that of the newest checkpoint.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from policygrad.core.errors import RunError, UserError, WriteError
from policygrad.core.failures import Failure
from policygrad.core.plain import to_json
from policygrad.core.shell import command
from policygrad.runs import config_file, lock, storage
from policygrad.runs.rows import read_rows, warn_of_missing

CONFIG, METRICS, SUMMARY = "config.json", "metrics.jsonl", "summary.json"
FAILURE = "failure.json"
POLICY, CHECKPOINTS, CURVE = "policy", "checkpoints", "learning_curve.png"
BEST, EVALUATIONS, STATE = "best", "evaluations.jsonl", "state"
ENDED = (SUMMARY, f"{POLICY}.json", f"{POLICY}.safetensors", CURVE, FAILURE)
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
            (path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to --out {path}: {error.strerror}") from error
        return cls(path)

    @classmethod
    @contextlib.contextmanager
    def begun(cls, path: Path) -> Iterator["RunDirectory"]:
        """Make an empty run directory, and be the only one that writes it; errors as of `create`
        and `held`."""
        directory = cls.create(path)
        with directory.held():
            cls.check_free(path)  # another process may have been quicker
            yield directory

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be the only one that writes the run.

        Raises:
            UserError: another process is writing it.
            WriteError: it cannot be written.
        """
        with contextlib.ExitStack() as stack:
            with self.writing(lock.LOCK):
                stack.enter_context(lock.held(self.path))
            yield

    @staticmethod
    def check_free(path: Path) -> None:
        """UserError if a path holds a run or is a file. What is empty is not a run."""
        try:
            if path.exists() and not path.is_dir():
                raise UserError(f"--out {path} is a file; name a directory")
            there = [path / name for name in OWN_FILES if (path / name).exists()]
            taken = any(not p.is_dir() or any(p.iterdir()) for p in there)
        except OSError as error:
            raise UserError(f"cannot use --out {path}: {error.strerror}") from error
        if taken:
            raise UserError(
                f"--out {path} already holds a run; name another directory, or continue it with: "
                f"{RunDirectory(path).resume_command}"
            )

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Open an existing run; RunError if there is none."""
        if not path.is_dir():
            raise RunError(f"no run at {path}: there is no such directory")
        if not (path / CONFIG).exists():
            raise RunError(f"no run at {path}: it has no {CONFIG}")
        return cls(path)

    @classmethod
    def open_at(cls, path: Path) -> "tuple[RunDirectory, Path | None]":
        """A run, and the checkpoint of it that the path names; None if it names the run itself."""
        if _is_checkpoint(path):
            whole = path if path.parent.name == CHECKPOINTS else path.resolve()
            if whole.parent.name == CHECKPOINTS:
                return cls.open(whole.parent.parent), whole
        return cls.open(path), None

    @property
    def resume_command(self) -> str:
        """What continues the run, ready to be pasted."""
        return command("resume", self.path)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """Turn what the system refuses into a WriteError, which names the file and the way on."""
        try:
            yield
        except OSError as error:
            if not self.path.is_dir():
                raise WriteError(
                    f"the run directory {self.path} was removed or moved while the run wrote "
                    f"{name} in it; the run ends here"
                ) from None
            again = self.resume_command if (self.path / CONFIG).exists() else "policygrad train …"
            raise WriteError(
                f"cannot write {self.path / name}: {error.strerror or error}; what was saved is "
                f"whole. Make it possible to write there, and go on with: {again}"
            ) from None

    def write_json(self, name: str, data: dict[str, Any]) -> None:
        """Write one JSON file, with its checksum, atomically: it appears whole or not at all."""
        text = json.dumps(storage.signed(to_json(data)), indent=1) + "\n"
        with self.writing(name):
            storage.write_atomically(self.path / name, text.encode())

    def write_config(self, config: dict[str, Any]) -> None:
        """Write `config.json`."""
        self.write_json(CONFIG, config)

    def read_config(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return config_file.read(self.path / CONFIG)

    def read_summary(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        return storage.read_signed(self.path / SUMMARY)

    def write_failure(self, message: str, env_steps: int, kind: str | None = None) -> None:
        """Write down why training stopped by itself. Arguments as in `Failure`."""
        self.write_json(FAILURE, Failure(message, env_steps, kind)._asdict())

    def read_failure(self) -> Failure | None:
        """Why training stopped by itself; None if it did not."""
        path = self.path / FAILURE
        if not path.exists():
            return None
        data = storage.read_signed(path)
        for name, type_ in (("message", str), ("env_steps", int), ("kind", (str, NoneType))):
            if not isinstance(data.get(name), type_):
                raise RunError(f"{path} is damaged: {name!r} is {data.get(name)!r}")
        return Failure(data["message"], data["env_steps"], data.get("kind"))

    def go_on(self, at: Path | None = None) -> None:
        """Remove what says how the run ended, because it goes on.

        The newest checkpoint holds all of it. Without `policy.json` the policy's arrays are not
        read, so every moment between leaves the checkpoint as the newest policy.

        Args:
            at: the checkpoint from which it goes on, behind which all is set aside; None for the
                newest.
        """
        for name in ENDED:
            with self.writing(name):
                (self.path / name).unlink(missing_ok=True)
        if at is not None:
            self._set_aside_after(at)

    def has_metrics(self) -> bool:
        """Whether any update was recorded."""
        path = self.path / METRICS
        return path.exists() and path.stat().st_size > 0

    def last_written(self) -> float | None:
        """When the newest metrics were written, in seconds since 1970; None without any."""
        return (self.path / METRICS).stat().st_mtime if self.has_metrics() else None

    def read_metrics(self, up_to: int | None = None) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`, without a last line that is incomplete; a warning tells of
        updates that are missing.

        Args:
            up_to: leave out the lines after this update; None for no limit.
        """
        saved = self.checkpoints() if up_to is None else []  # looked at first: a run may go on
        rows = read_rows(self.path / METRICS, up_to) if self.has_metrics() else []
        steps = int(saved[-1].name) if saved else 0
        warn_of_missing(self.path / METRICS, rows, up_to or 0, steps)
        return rows

    def save_policy(self, arrays: dict[str, np.ndarray], data: dict[str, Any]) -> None:
        """Write the policy's two files."""
        with self.writing(f"{POLICY}.safetensors"):
            storage.save(self.path / POLICY, arrays, to_json(data))

    def save_best(
        self, env_steps: int, arrays: dict[str, np.ndarray], data: dict[str, Any]
    ) -> None:
        """Write the best policy so far, in place of the one before, which stays until it is
        there."""
        root = self.path / BEST
        with self.writing(BEST):
            root.mkdir(exist_ok=True)
            before = folders(root, POLICY)
            save_folder(root / _name_after(env_steps, before), POLICY, arrays, to_json(data))
        for old in before:
            shutil.rmtree(old, ignore_errors=True)

    def read_best(self, up_to: int | None = None) -> dict[str, Any] | None:
        """What is known of the best policy, `metric` and `value` among it; None if none is kept.

        Args:
            up_to: leave out a policy of more environment steps; None for no limit.
        """
        found = folders(self.path / BEST, POLICY)
        found = [p for p in found if up_to is None or int(p.name) <= up_to]
        if not found:
            return None
        path = storage.pair(found[-1] / POLICY)[1]
        data = storage.read_checked_json(path)
        if type(data.get("value")) not in (int, float) or not isinstance(data.get("metric"), str):
            raise RunError(f"{path} is damaged: it does not say how good the policy is")
        return data

    def save_checkpoint(
        self, env_steps: int, arrays: dict[str, np.ndarray], data: dict[str, Any], keep: int
    ) -> None:
        """Write a checkpoint atomically, in place of another of the same steps, which stays until
        this one is there; and remove the oldest beyond `keep`.

        They are removed before it is written too: a process that is killed in between, over and
        over, leaves `keep + 1` and not one more each time.
        """
        self._remove_checkpoints(keep)
        before = [p for p in self.checkpoints() if int(p.name) == env_steps]
        final = self.path / CHECKPOINTS / _name_after(env_steps, before)
        with self.writing(f"{CHECKPOINTS}/{final.name}"):
            save_folder(final, STATE, arrays, to_json(data))
        for old in before:
            shutil.rmtree(old, ignore_errors=True)
        self._remove_checkpoints(keep)

    def _remove_checkpoints(self, keep: int) -> None:
        """Remove the oldest beyond `keep`."""
        for old in self.checkpoints()[:-keep]:
            shutil.rmtree(old, ignore_errors=True)

    def checkpoints(self) -> list[Path]:
        """The complete checkpoints, oldest first. A folder with another name is none."""
        return folders(self.path / CHECKPOINTS, STATE)

    def newest_checkpoint(self) -> Path:
        """The newest complete checkpoint; RunError if there is none."""
        found = self.checkpoints()
        if found:
            return found[-1]
        if self.has_begun:
            raise RunError(f"{self.path} has no checkpoint that is whole")
        raise RunError(
            f"{self.path} has no checkpoint: it was stopped before its first; begin it with: "
            f"{self.resume_command}"
        )

    @property
    def has_begun(self) -> bool:
        """Whether a first checkpoint was ever written, before anything else of training is."""
        made = (self.path / CHECKPOINTS).glob("[0-9]*")
        ended = any((self.path / name).exists() for name in ENDED)
        return ended or self.has_metrics() or any(p.is_dir() for p in made)

    def _set_aside_after(self, checkpoint: Path) -> None:
        """Rename the checkpoints after this one, and a best policy of later steps, so that the run
        goes on from it."""
        for later in [*folders(self.path / BEST, POLICY), *self.checkpoints()]:
            if int(later.name) > int(checkpoint.name):
                with self.writing(f"{later.parent.name}/{later.name}"):
                    os.rename(later, fresh_directory(later.parent, f"set-aside-{later.name}"))


def save_folder(
    final: Path, stem: str, arrays: dict[str, np.ndarray], data: dict[str, Any]
) -> None:
    """Write a pair of files into a folder that appears whole or not at all; OSError where it
    cannot. Only the process that holds the run calls it: it removes what others left unfinished."""
    root = final.parent
    for leftover in root.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = root / f".{final.name}.{os.getpid()}.tmp"
    try:
        temporary.mkdir()
        storage.save(temporary / stem, arrays, data)
        if final.exists():  # not whole, or older
            shutil.rmtree(final)
        os.replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)  # on a full disk it would take room
        raise
    storage.sync_directory(root)


def folders(root: Path, stem: str) -> list[Path]:
    """The folders of `root` that are named by a number of steps and hold a pair, oldest first."""
    if not root.is_dir():
        return []
    found = [p for p in root.iterdir() if re.fullmatch("[0-9]+", p.name)]
    whole = (p for p in found if (p / f"{stem}.json").is_file())
    return sorted(whole, key=lambda p: (int(p.name), len(p.name)))


def _name_after(env_steps: int, before: list[Path]) -> str:
    """The name of a folder of so many steps, which comes after those of the same steps."""
    longest = max((len(p.name) for p in before if int(p.name) == env_steps), default=11)
    return f"{env_steps:0{longest + 1}d}"


def _is_checkpoint(path: Path) -> bool:
    return bool(re.fullmatch("[0-9]+", path.name)) and (path / f"{STATE}.json").is_file()


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

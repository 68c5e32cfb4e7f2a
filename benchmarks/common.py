"""What the benchmark programs share: child processes, measuring in turns, lines of JSON."""

import datetime
import fcntl
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from children import CHILDREN

HERE = Path(__file__).parent
WORKERS = HERE / "workers"
RECORDS = "benchmarks/records"  # what is written there does not make a commit another one
# packages whose versions a figure is given with
MEASURED = (
    "policygrad", "jax", "numpy", "gymnasium", "envpool", "gymnax", "mujoco", "onnxruntime",
)  # fmt: skip


def child_json(command: list[str], **environment: str) -> dict[str, Any]:
    """Run a process; the JSON object that ends what it printed, and begins a line.

    Raises:
        CellFailed: it ended with another code than 0.
    """
    printed = CHILDREN.output_of(command, **environment)
    return json.loads(printed[printed.rfind("\n{") + 1 :])


def policygrad_command() -> str:
    """The `policygrad` that is installed beside this Python, else the one on the path."""
    return shutil.which("policygrad", path=str(Path(sys.executable).parent)) or "policygrad"


def policygrad(*arguments: str, **environment: str) -> dict[str, Any]:
    """What `policygrad ARGUMENTS --json` printed."""
    return child_json([policygrad_command(), *arguments, "--json"], **environment)


def seconds_of(call: Callable[[], Any]) -> float:
    """How long a call took."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def in_turns(calls: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each call returned, round after round, so that a busy moment hits them all alike.

    Every second round goes backwards: no call always follows the same neighbour.
    """
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        order = list(calls) if number % 2 == 0 else list(reversed(calls))
        for name in order:
            found[name].append(calls[name]())
            print(f"round {number + 1}: {name}: {found[name][-1]:,.6g}", file=sys.stderr)
    return found


def median_ratio(above: list[float], below: list[float]) -> float:
    """The median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def spread(values: list[float], form: str = ",.0f") -> str:
    """`median (least–most)`."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}}–{high:{form}})"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line; none where there is no file.

    A last line without its end is what a killed program had begun to write. It is left out.
    """
    if not path.exists():
        return []
    whole, _, _ = path.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines() if line.strip()]


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Add one JSON object to a file, from one thread or process at a time.

    What a killed program had begun to write at the end of the file is cut off first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        written = file.read()
        whole = written.rfind(b"\n") + 1
        if whole < len(written):
            print(f"{path}: half a line is cut off: {written[whole:][:80]!r}", file=sys.stderr)
            file.truncate(whole)
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def provenance() -> dict[str, Any]:
    """Date, commit, machine and versions: what a figure is worth nothing without."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "machine": f"{len(os.sched_getaffinity(0))} × {_processor()}",
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: found for name in MEASURED if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    root = ["git", "-C", str(HERE.parent)]
    command = [*root, "describe", "--always", "--exclude=*"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    changed = [*root, "diff", "--quiet", "HEAD", "--", ".", f":(exclude){RECORDS}"]
    dirty = "-dirty" if commit and subprocess.run(changed, capture_output=True).returncode else ""
    return commit + dirty or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

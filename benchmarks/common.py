"""What the benchmark programs share: child processes, measuring in turns, lines of JSON."""

import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WORKERS = HERE / "workers"
WRITING = threading.Lock()
# packages whose versions a figure is given with
MEASURED = (
    "policygrad", "jax", "numpy", "gymnasium", "envpool", "gymnax", "mujoco", "onnxruntime",
)  # fmt: skip


class CellFailed(RuntimeError):
    """A child process ended with an error; the message holds the end of what it printed."""


def child_json(command: list[str], **environment: str) -> dict[str, Any]:
    """Run a process; the JSON object that ends what it printed, and begins a line.

    Raises:
        CellFailed: it ended with another code than 0.
    """
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    if ended.returncode:
        raise CellFailed(f"{' '.join(command)} failed:\n{ended.stderr[-2000:]}")
    return json.loads(ended.stdout[ended.stdout.rfind("\n{") + 1 :])


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
    """The JSON objects of a file, one a line; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Add one JSON object to a file, in one write."""
    with WRITING, path.open("a") as file:
        file.write(json.dumps(line) + "\n")


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
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*"]
    ended = subprocess.run(command, capture_output=True, text=True)
    return ended.stdout.strip() or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

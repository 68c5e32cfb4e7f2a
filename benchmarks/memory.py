"""Resident memory of a training process over its whole run: a picture, and the slope.

    python benchmarks/memory.py [ENV] [--steps 1000000] [--plot FILE] [--json FILE]

Samples `/proc/PID/status` (Linux) of `policygrad train` twice a second. The slope is the
least-squares one over the second half of the run, when everything has been compiled and allocated.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import policygrad_command, provenance


def resident(pid: int) -> tuple[float, float] | None:
    """Resident and peak resident size of a process, MiB; None once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    sizes = dict(line.split(":", 1) for line in lines)
    if "VmRSS" not in sizes:
        return None
    return int(sizes["VmRSS"].split()[0]) / 1024, int(sizes["VmHWM"].split()[0]) / 1024


def own_peak() -> float:
    """MiB at most of this process; `ru_maxrss` also counts that of the process which started it."""
    sizes = resident(os.getpid())
    if sizes is None:
        raise SystemExit("the peak of memory is read from /proc/PID/status, which Linux has")
    return sizes[1]


def flat(script: str, name: str, counts: tuple[int, ...] = (1000, 10_000)) -> dict[str, float]:
    """Print and return the peaks, in MiB, of a script's processes that measure N episodes.

    Args:
        script: prints its own peak if it is called with `--peak NAME N`.
        name: of the task.
        counts: each N.
    """
    peaks = {}
    for n in counts:
        command = [sys.executable, script, "--peak", name, str(n)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peak = peaks[f"peak MiB of {n}"] = float(done.stdout)
        print(f"    {n:,} episodes: peak {peak:.0f} MiB", flush=True)
    return peaks


def last_steps(path: Path) -> int:
    """Environment steps of the last whole line of a metrics file; 0 before the first."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().split(b"\n")
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            return int(json.loads(line)["env_steps"])
        except (ValueError, KeyError):
            continue
    return 0


def sampled(command: list[str], metrics: Path, every: float) -> tuple[np.ndarray, float]:
    """Rows of seconds, environment steps and MiB of a process until it ends; and the peak."""
    started, rows, peak = time.perf_counter(), [], 0.0
    with tempfile.TemporaryFile() as said:  # a pipe that nobody reads would block the process
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        while process.poll() is None:
            sizes = resident(process.pid)
            if sizes is not None:
                rows.append((time.perf_counter() - started, last_steps(metrics), sizes[0]))
                peak = sizes[1]
            time.sleep(every)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{said.read().decode()}")
    return np.array(rows), peak


def slope(rows: np.ndarray) -> float:
    """MiB per million environment steps, least squares over the second half of the steps."""
    half = rows[rows[:, 1] >= rows[-1, 1] / 2]
    return float(np.polyfit(half[:, 1] / 1e6, half[:, 2], 1)[0])


def draw(rows: np.ndarray, title: str, path: Path) -> None:
    """The picture: MiB over environment steps."""
    from matplotlib.figure import Figure

    from policygrad.figures.style import COLOURS, steps_label

    figure = Figure(figsize=(6.4, 3.2), dpi=110, layout="constrained")
    axis = figure.subplots()
    axis.plot(rows[:, 1], rows[:, 2], color=COLOURS[0])
    axis.set(xlabel="environment steps", ylabel="resident size (MiB)", ylim=(0, None))
    axis.set_title(title, fontsize=10, loc="left")
    axis.xaxis.set_major_formatter(lambda x, _: steps_label(x))
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """Train, watch, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("env", nargs="?", default="HalfCheetah-v5")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--algorithm", default="vanilla")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between samples")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [
            policygrad_command(), "train", options.env, "--algorithm", options.algorithm,
            "--total-steps", str(options.steps), "--out", str(run), "--json",
        ]  # fmt: skip
        rows, peak = sampled(command, run / "metrics.jsonl", options.every)
    found = {
        "env": options.env,
        "algorithm": options.algorithm,
        "peak_mib": peak,
        "at_half_mib": float(rows[rows[:, 1] >= rows[-1, 1] / 2][0, 2]),
        "at_end_mib": float(rows[-1, 2]),
        "slope_mib_per_million_steps": slope(rows),
    }
    print(json.dumps(found, indent=1))
    if options.plot:
        title = f"{options.env}, {options.algorithm}: peak {peak:.0f} MiB"
        draw(rows, title, options.plot)
    if options.json:
        record = {"columns": ["seconds", "env_steps", "mib"], "rows": rows.tolist()}
        options.json.write_text(json.dumps(provenance() | found | record))


if __name__ == "__main__":
    main()

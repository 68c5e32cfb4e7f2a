"""From an empty shell to a trained and evaluated CartPole policy: whole processes, cold and warm.

    python benchmarks/wall_time.py [--peer .venv-sb3/bin/python] [--rounds 3] [--json FILE]

Times `policygrad train ENV` and `policygrad evaluate` as a user runs them, with an empty and with a
filled compilation cache, and where asked, Stable-Baselines3's A2C doing as many environment steps
(8 environments, the faster of one and two torch threads). Where the time of training goes:

- import: until the library and all that training imports are there;
- set up: environments, policy, critic and their first states, with the small programs for them;
- compile: the wait for the update's program, and what the first collection, update and wait for a
  refit took beyond a later one;
- collect, update: the rest of both (one number where they are one program);
- wait: for refits that were not done when the next batch was;
- save: checkpoints;
- picture: the learning curve;
- other: the process's start and end, the command's flags, the rows of metrics.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import (
    WORKERS,
    child_json,
    median_ratio,
    policygrad,
    provenance,
    spread,
)

# what the installed command does, with the imports first; seconds that the run's summary does not
# tell are written down
TRAIN = """
import json, os, sys, time
seconds, started = {}, time.perf_counter()

def timed(name, call):
    def run(*args, **more):
        started = time.perf_counter()
        try:
            return call(*args, **more)
        finally:
            seconds[name] = time.perf_counter() - started
    return run

from policygrad.cli import run
from policygrad.devices.starting import prepare_jax
prepare_jax()
from policygrad import environments
from policygrad.training import ending, entry
if "gymnax/" in sys.argv[2]:
    import gymnax
seconds["import"] = time.perf_counter() - started
entry.assemble = timed("set_up", entry.assemble)
ending.try_to_draw = timed("picture", ending.try_to_draw)
code = run(sys.argv[1:])
with open(os.environ["SECONDS"], "w") as file:
    json.dump(seconds, file)
sys.exit(code)
"""
PARTS = ("import", "set_up", "compile", "collect", "update", "collect_and_update", "wait_for_refit")
PARTS += ("save", "picture", "other")


def trained_and_evaluated(env: str, steps: int, seed: int, cache: str) -> dict[str, Any]:
    """Seconds of both processes, and of the parts of training."""
    with tempfile.TemporaryDirectory() as folder:
        run, written = f"{folder}/run", Path(folder, "seconds")
        started = time.perf_counter()
        summary = child_json(
            [
                sys.executable, "-c", TRAIN, "train", env, "--seed", str(seed),
                "--total-steps", str(steps), "--out", run, "--json",
            ],
            XDG_CACHE_HOME=cache, SECONDS=str(written),
        )  # fmt: skip
        trained = time.perf_counter()
        result = policygrad("evaluate", run, XDG_CACHE_HOME=cache)
        evaluated = time.perf_counter()
        seconds = json.loads(written.read_text())
    parts = seconds | phases(summary["timings"], summary["updates"])
    total = trained - started
    return {
        "train": total,
        "evaluate": evaluated - trained,
        "whole": evaluated - started,
        "parts": parts | {"other": total - sum(parts.values())},
        "stochastic": result["stochastic"]["mean"],
    }


def phases(timings: dict[str, float], updates: int) -> dict[str, float]:
    """Seconds of compilation and of what was compiled, out of a run's `timings`.

    The first call of each part compiles; beyond the mean of the later ones it did nothing else.
    """
    found = {"compile": timings.get("first_compile", 0.0), "save": timings["save"]}
    for name in ("collect", "update", "wait_for_refit", "collect_and_update"):
        if f"first_{name}" in timings:
            each = timings[name] / max(1, updates - 1)
            compiling = max(0.0, timings[f"first_{name}"] - each)
            found["compile"] += compiling
            found[name] = timings[name] + timings[f"first_{name}"] - compiling
    return found


def a2c(python: str, steps: int, threads: int) -> float:
    """Seconds of a whole process of Stable-Baselines3, without evaluation."""
    command = [
        python, str(WORKERS / "run_sb3.py"), "CartPole-v1", "--algorithm", "sb3-a2c",
        "--steps", str(steps), "--threads", str(threads), "--episodes", "0",
    ]  # fmt: skip
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Run everything, and print tables of seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", nargs="+", default=["CartPole-v1", "gymnax/CartPole-v1"])
    parser.add_argument("--peer", help="Python with stable-baselines3; none: ourselves alone")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    rounds: dict[str, list[dict[str, Any]]] = {}
    peers: list[float] = []
    for number in range(options.rounds):
        for env in options.envs:
            cache = tempfile.mkdtemp()
            for state in ("cold", "warm"):
                line = trained_and_evaluated(env, options.steps, number, cache)
                rounds.setdefault(f"{env}, {state}", []).append(line)
            shutil.rmtree(cache)
        if options.peer:
            peers.append(min(a2c(options.peer, options.steps, threads) for threads in (1, 2)))
        print(f"round {number + 1} of {options.rounds} ended", file=sys.stderr)

    print(f"{options.steps:,} environment steps; seconds, median (least–most) of whole processes\n")
    print("| | train | evaluate | both | mean return by seed |\n|---|---|---|---|---|")
    for name, lines in rounds.items():
        cells = [
            spread([line[part] for line in lines], ".1f") for part in ("train", "evaluate", "whole")
        ]
        returns = ", ".join(f"{line['stochastic']:.1f}" for line in lines)
        print(f"| {name} | {' | '.join(cells)} | {returns} |")
    if peers:
        print(f"| SB3 A2C, 8 environments | {spread(peers, '.1f')} | | | |")
    print("\n| training, median seconds | " + " | ".join(PARTS) + " |")
    print("|---|" + "---|" * len(PARTS))
    for name, lines in rounds.items():
        found = [
            f"{statistics.median(line['parts'][part] for line in lines):.2f}"
            if part in lines[0]["parts"]
            else ""
            for part in PARTS
        ]
        print(f"| {name} | {' | '.join(found)} |")
    if peers:
        print("\n| A2C's seconds / ours, of training | median over rounds |\n|---|---|")
        for name, lines in rounds.items():
            print(f"| {name} | {median_ratio(peers, [line['train'] for line in lines]):.1f} |")
    if options.json:
        found = {"steps": options.steps, "rounds": rounds, "peer": peers}
        options.json.write_text(json.dumps(provenance() | found, indent=1))


if __name__ == "__main__":
    main()

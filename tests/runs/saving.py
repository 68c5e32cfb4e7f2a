"""A process that saves a run over and over, and is killed at random moments.

    python -m tests.runs.saving RUN SEED

For every line on its standard input it forks a child that saves for up to 60 ms, kills it, and
prints the number of steps up to which a checkpoint was surely complete. The state is that of the
run's first checkpoint, under higher and higher numbers of steps. JAX is imported and computes
nothing, so the process has one thread and may fork.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from policygrad.runs import MetricsFile, RunDirectory, storage
from policygrad.runs.directory import STATE, SUMMARY
from policygrad.runs.rows import read_rows


def save_for_ever(directory: RunDirectory, arrays: dict, data: dict, done: int) -> None:
    """Save as a run does that ends, goes on, and ends again; each number that is done is told."""
    policy = {k: x for k, x in arrays.items() if k.startswith("policy/")}
    path = directory.path / "metrics.jsonl"
    with directory.held():
        steps = int(directory.newest_checkpoint().name)
        while True:
            rows = MetricsFile(path, read_rows(path, steps // 32))
            directory.go_on()
            for _ in range(3):
                steps += 32
                rows.write({"update": steps // 32, "env_steps": steps, "episodes": 0, "kl": 0.5})
                directory.save_checkpoint(steps, arrays, data | {"env_steps": steps}, keep=3)
                os.write(done, f"{steps}\n".encode())
            rows.close()
            directory.save_best(steps, policy, data | {"metric": "kl", "value": float(steps)})
            directory.save_policy(policy, data | {"env_steps": steps})
            directory.write_json(SUMMARY, {"env_steps": steps})


def main() -> None:
    """Kill a child for every line."""
    path, rng = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    directory = RunDirectory.open(path)
    arrays, data = storage.load(directory.newest_checkpoint() / STATE)
    data = {k: x for k, x in data.items() if k not in ("format", "sha256", "checksum")}
    print("ready", flush=True)
    for _ in sys.stdin:
        reading, done = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            save_for_ever(directory, arrays, data, done)
        os.close(done)
        time.sleep(rng.uniform(0.0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reading) as told:
            numbers = told.read().split()
        print(numbers[-1] if numbers else 0, flush=True)


if __name__ == "__main__":
    main()

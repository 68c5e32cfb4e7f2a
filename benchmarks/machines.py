"""Training with workers against training in one process, and what Ray takes of an update.

    python benchmarks/machines.py overhead [--task gymnasium/HalfCheetah-v5] [--rounds 3]
    python benchmarks/machines.py scaling [--milliseconds 5] [--workers 1 2 4 8 16]
    python benchmarks/machines.py parts

`overhead` measures the same run in turns: in one process, in one process in blocks of lanes, with
`--processes`, and with two workers. `scaling` trains in an environment whose step sleeps, which
takes no processor, so that more workers than processors can be shown; the workers share the
processors. `parts` measures what these consist of: the start of Ray and of a worker, a call, a
megabyte that comes back, and the memory of a worker. Rates are after compilation.
"""

import argparse
import json
import os
import resource
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from common import in_turns, median_ratio, provenance, spread

import policygrad
from policygrad.machines.cluster import Cluster
from policygrad.machines.crew import Crew
from policygrad.machines.worker import Worker

SKIPPED = 2  # updates at the start, which compile


class Sleeps(gymnasium.Env):
    """Episodes of 200 steps, each of which waits."""

    observation_space = gymnasium.spaces.Box(-1, 1, (8,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, seconds: float) -> None:
        self._seconds, self._steps = seconds, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        time.sleep(self._seconds)
        self._steps += 1
        return self._observation(), float(action[0]), False, self._steps == 200, {}

    def _observation(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 8).astype(np.float32)


def trained(env: Any, updates: int, batch: int, **settings: Any) -> dict[str, float]:
    """Steps per second, and medians of an update's seconds, of Ray's and of the learner's part."""
    rows: list[dict[str, float]] = []

    def keep(metrics: dict[str, float]) -> None:
        rows.append({**metrics, "at": time.perf_counter()})

    keep.needs_state = False  # pyright: ignore[reportFunctionMemberAccess]
    run = policygrad.train(
        env,
        total_steps=(SKIPPED + updates + 1) * batch,
        batch_steps=batch,
        on_update=keep,
        **settings,
    )
    # the last update is recorded at once, all others while the next batch is collected
    timed, timings = rows[SKIPPED:-1], run.summary["timings"]
    seconds = timed[-1]["at"] - rows[SKIPPED - 1]["at"]
    alone = timings["update"] + timings["wait_for_refit"]
    return {
        "steps_per_second": len(timed) * batch / seconds,
        "update_ms": 1e3 * seconds / len(timed),
        "ray_ms": 1e3 * statistics.median(row.get("transport_seconds", 0.0) for row in timed),
        "learner_ms": 1e3 * alone / max(1, len(rows) - 1),
    }


def overhead(options: argparse.Namespace) -> dict[str, Any]:
    """The same run in one process, with processes, and with workers."""
    lanes = {"lanes_per_block": options.lanes_per_block}
    ways: dict[str, dict[str, Any]] = {
        "one process": {},
        "one process, in blocks": lanes,
        "--processes": {"processes": True},
        f"--workers {options.workers[0]}": lanes
        | {"collector": policygrad.remote(options.workers[0])},
    }
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in ways}

    def measure(name: str) -> float:
        common = {"num_envs": options.num_envs, "seed": len(seen[name])}
        found = trained(options.task, options.updates, options.batch_steps, **common, **ways[name])
        seen[name].append(found)
        return found["steps_per_second"]

    rates = in_turns({name: lambda name=name: measure(name) for name in ways}, options.rounds)
    ray = [row["ray_ms"] for row in seen[list(ways)[-1]]]
    ratios = {name: median_ratio(rates[name], rates["one process"]) for name in ways}
    print(f"\n{options.task}, {options.num_envs} environments, batches of {options.batch_steps}\n")
    print("| | steps/s | of one process |\n|---|---|---|")
    for name in ways:
        print(f"| {name} | {spread(rates[name])} | {ratios[name]:.2f} |")
    update = [row["update_ms"] for row in seen[list(ways)[-1]]]
    print(f"\nAn update with workers: {spread(update, '.1f')} ms; in Ray: {spread(ray, '.1f')} ms")
    return {"rates": rates, "ratios": ratios, "measured": seen}


def scaling(options: argparse.Namespace) -> dict[str, Any]:
    """Steps per second by the number of workers, against that many times one worker's."""
    kwargs = {"seconds": options.milliseconds / 1e3}
    cpus = len(os.sched_getaffinity(0))
    found = {}
    for workers in options.workers:
        remote = policygrad.remote(workers, cpus_per_worker=min(1.0, cpus / workers))
        found[workers] = trained(
            Sleeps, options.updates, options.batch_steps, num_envs=options.num_envs,
            lanes_per_block=1, collector=remote, env_kwargs=kwargs,
        )  # fmt: skip
    first = found[options.workers[0]]["steps_per_second"] / options.workers[0]
    print(f"\nA step sleeps {options.milliseconds:g} ms; batches of {options.batch_steps} steps\n")
    print("| workers | steps/s | of linear | update, ms | in Ray, ms | learner alone, ms |")
    print("|---|---|---|---|---|---|")
    for workers, row in found.items():
        share = row["steps_per_second"] / (first * workers)
        print(
            f"| {workers} | {row['steps_per_second']:,.0f} | {share:.2f} | {row['update_ms']:,.0f} "
            f"| {row['ray_ms']:.1f} | {row['learner_ms']:.1f} |"
        )
    return {"milliseconds": options.milliseconds, "workers": found}


def answer(worker: Worker, megabytes: int) -> dict[int, Any]:
    """Numbers of so many megabytes, and the megabytes that the worker's process holds."""
    held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    return {0: (np.zeros(megabytes * 2**20, np.uint8), held)}


def parts(options: argparse.Namespace) -> dict[str, Any]:
    """What the time that Ray takes consists of."""
    started = time.perf_counter()
    cluster = Cluster()
    joined = time.perf_counter()
    crew = Crew(cluster, policygrad.remote(1))
    crew.hands[0].duties.append(0)
    held = asked(crew, 0)[1]
    found = {
        "Ray's start, s": joined - started,
        "a worker's start, s": time.perf_counter() - joined,
    }

    def milliseconds(megabytes: int) -> float:
        seconds = []
        for _ in range(30):
            begun = time.perf_counter()
            asked(crew, megabytes)[0].copy()
            seconds.append(time.perf_counter() - begun)
        return 1e3 * statistics.median(seconds)

    call, many = milliseconds(0), milliseconds(16)
    crew.close()
    cluster.close()
    found |= {"a call, ms": call, "a megabyte back, ms": (many - call) / 16}
    found["a worker's memory before any environment, MB"] = held
    print("\n| | |\n|---|---|")
    for name, value in found.items():
        print(f"| {name} | {value:,.2f} |")
    return found


def asked(crew: Crew, megabytes: int) -> Any:
    """What the worker answers."""
    return crew.ask(lambda _: (answer, (megabytes,)), lambda _: (answer, (0,)))[0]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["overhead", "scaling", "parts"])
    parser.add_argument("--task", default="gymnasium/HalfCheetah-v5")
    parser.add_argument("--milliseconds", type=float, default=5.0)
    parser.add_argument("--workers", type=int, nargs="+")
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--lanes-per-block", type=int, default=8)
    parser.add_argument("--batch-steps", type=int, default=2048)
    parser.add_argument("--updates", type=int, default=12, help="that are timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.workers = options.workers or ([2] if options.what == "overhead" else [1, 2, 4, 8, 16])
    results = {"overhead": overhead, "scaling": scaling, "parts": parts}[options.what](options)
    if options.json:
        options.json.write_text(json.dumps(provenance() | {"results": results}, indent=1))


if __name__ == "__main__":
    main()

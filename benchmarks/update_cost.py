"""What an update costs: processor time of its collection, of the policy's step and of the refit.

    python benchmarks/update_cost.py [--env HalfCheetah-v5] [--algorithms natural vanilla]

Each part is repeated alone, with default settings. In training, the refit runs while the next batch
is collected. The processor time of the process, all threads together, is disturbed less by other
work on the machine than the clock is.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from common import provenance

from policygrad.training.assembly import Task, assemble
from policygrad.training.config import TrainConfig
from policygrad.training.given import Given
from policygrad.training.keys import keys_of_update
from policygrad.training.programs import refit_once, step_once


def cost(part: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Milliseconds of a part, after it was compiled: of the processors, and by the clock."""
    jax.block_until_ready(part())
    seconds = []
    for _ in range(repeats):
        started = time.process_time(), time.perf_counter()
        jax.block_until_ready(part())
        seconds.append((time.process_time() - started[0], time.perf_counter() - started[1]))
    processors, clock = ([1e3 * s for s in each] for each in zip(*seconds, strict=True))
    return {"processors": statistics.median(processors), "least_by_clock": min(clock)}


def parts_of(env: str, algorithm: str, repeats: int) -> dict[str, dict[str, float]]:
    """The cost of each part of a run's first update."""
    assembly = assemble(Task.of(env, {}), TrainConfig(algorithm=algorithm), Given())
    learner, state = assembly.learner, assembly.fresh()
    collect_key, update_key = keys_of_update(assembly.keys.updates, 0)

    def collect() -> Any:
        return assembly.collector.collect(state.learner.policy, collect_key)

    batch = collect()
    _, request, _ = step_once(learner, assembly.spaces, state, batch, update_key)
    found = {
        "collect": cost(collect, repeats),
        "step": cost(
            lambda: step_once(learner, assembly.spaces, state, batch, update_key), repeats
        ),
        "refit": cost(lambda: refit_once(learner, state.learner.estimator, request), repeats),
    }
    assembly.close()
    return found


def main() -> None:
    """Measure the parts, and print a table of milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--algorithms", nargs="+", default=["natural", "vanilla"])
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {name: parts_of(options.env, name, options.repeats) for name in options.algorithms}
    print(
        f"{options.env}: ms of processor time, median of {options.repeats} (least by the clock)\n"
    )
    print("| | collect | step | refit |\n|---|---|---|---|")
    for name, parts in found.items():
        cells = [f"{p['processors']:.1f} ({p['least_by_clock']:.1f})" for p in parts.values()]
        print(f"| {name} | {' | '.join(cells)} |")
    if options.json:
        options.json.write_text(json.dumps(provenance() | {"parts": found}, indent=1))


if __name__ == "__main__":
    main()

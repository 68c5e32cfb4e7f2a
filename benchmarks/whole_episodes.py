"""Compilations and seconds of training on whole episodes, whose lengths differ from batch to batch.

    python benchmarks/whole_episodes.py [CASE ...] [--json FILE]

Each case is one `policygrad.train` in a process of its own, without a cache of compiled programs.
JAX reports each compilation. Counted apart are those of the update: the policy's step, the refit of
critic and baseline, and the monitored gradient.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from common import child_json, provenance

UPDATE = ("step", "refit", "measure_gradient")
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "leave-one-out": ("CartPole-v1", {
        "estimator": "reward-to-go", "baseline": "leave-one-out", "batch_episodes": 32,
        "total_steps": 12_000,
    }),
    "remax": ("CartPole-v1", {
        "estimator": "remax", "batch_episodes": 32, "group_size": 4, "total_steps": 12_000,
    }),
    "adaptive": ("CartPole-v1", {
        "estimator": "reward-to-go", "batch_episodes": "adaptive", "total_steps": 12_000,
    }),
    "natural": ("Hopper-v5", {
        "algorithm": "natural", "batch_episodes": 16, "total_steps": 6_000,
    }),
    "compiled": ("gymnax/CartPole-v1", {
        "estimator": "reward-to-go", "baseline": "leave-one-out", "batch_episodes": 32,
        "total_steps": 12_000,
    }),
    "compiled adaptive": ("gymnax/CartPole-v1", {
        "estimator": "reward-to-go", "batch_episodes": "adaptive", "total_steps": 12_000,
    }),
}  # fmt: skip


def measure(case: str) -> dict[str, Any]:
    """Train once in this process, and count."""
    import jax

    import policygrad

    compiled: list[tuple[str, float]] = []

    def listen(event: str, duration_secs: float, **named: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append((named.get("fun_name", ""), duration_secs))

    jax.monitoring.register_event_duration_secs_listener(listen)
    env, settings = CASES[case]
    started, worked = time.perf_counter(), time.process_time()
    run = policygrad.train(env, seed=0, **settings)
    seconds, worked = time.perf_counter() - started, time.process_time() - worked
    of_update = [took for name, took in compiled if name.removeprefix("jit(").rstrip(")") in UPDATE]
    return {
        "case": case,
        "seconds": round(seconds, 2),
        "processor seconds": round(worked, 2),
        "updates": run.summary["updates"],
        "steps": run.summary["env_steps"],
        "update programs": len(of_update),
        "compiling updates": round(sum(of_update), 2),
        "all programs": len(compiled),
        "compiling": round(sum(took for _, took in compiled), 2),
        "return": run.summary["return_mean"],
    }


def main() -> None:
    """Measure each case, and print a line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print("\n" + json.dumps(measure(options.child)))
        return
    rows = []
    for case in options.cases or CASES:
        found = child_json([sys.executable, __file__, "--child", case])
        rows.append(found)
        print("  ".join(f"{name} {value}" for name, value in found.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(provenance() | {"rows": rows}, indent=1))


if __name__ == "__main__":
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    main()

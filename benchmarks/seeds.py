"""Each seed of a run of many seeds against the same seed alone: how far apart are the weights?

    python benchmarks/seeds.py [--seeds 5] [--json FILE]

Environments that are not JAX-native train side by side, and must agree bit for bit. JAX-native ones
train vmapped, where a batched matrix product may round differently: the largest difference of a
weight, relative to the largest weight of its array, after one update and after several.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import provenance

import policygrad
from policygrad.environments import choose_engine

CASES = (
    ("CartPole-v1", 5),
    ("HalfCheetah-v5", 5),
    ("gymnax/CartPole-v1", 1),
    ("gymnax/CartPole-v1", 20),
    ("gymnax/Pendulum-v1", 1),
    ("gymnax/Pendulum-v1", 20),
)


def difference(ours: Any, theirs: Any) -> float:
    """The largest difference of two policies' arrays, relative to each array's largest entry."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    found = [0.0]
    for a, b in pairs:
        if hasattr(a, "shape") and np.issubdtype(a.dtype, np.number):
            a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            found.append(float(np.max(np.abs(a - b), initial=0.0) / max(np.abs(a).max(), 1e-6)))
    return max(found)


def main() -> None:
    """Train both ways, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print("| environment | updates | together | largest relative difference, by seed |")
    print("|---|---|---|---|")
    for env, updates in CASES:
        settings = {"total_steps": 2048 * updates}
        jax_native = env.startswith("gymnax/")
        chosen = choose_engine(env)  # side by side or alone: the same engine
        runs = policygrad.train_seeds(chosen, range(options.seeds), jobs=options.jobs, **settings)
        if runs.failures:
            raise SystemExit(str(runs.failures))
        found = {
            seed: difference(run.policy, policygrad.train(chosen, seed=seed, **settings).policy)
            for seed, run in runs.runs.items()
        }
        together = "vmapped" if jax_native else "side by side"
        shown = ", ".join("0" if d == 0 else f"{d:.1e}" for d in found.values())
        print(f"| {chosen} | {updates} | {together} | {shown} |", flush=True)
        rows.append({"env": chosen, "updates": updates, "together": together, "difference": found})
    if options.json:
        options.json.write_text(json.dumps(provenance() | {"rows": rows}, indent=1))


if __name__ == "__main__":
    main()

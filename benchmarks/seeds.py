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
from policygrad.core.modules import split
from policygrad.environments.catalogue import choose_engine

CASES = (
    ("CartPole-v1", 5),
    ("HalfCheetah-v5", 5),
    ("gymnax/CartPole-v1", 1),
    ("gymnax/CartPole-v1", 20),
    ("gymnax/Pendulum-v1", 1),
    ("gymnax/Pendulum-v1", 20),
)


def weights_of(policy: Any) -> list[Any]:
    """The arrays that are differentiated; running statistics are none of them."""
    return jax.tree.leaves(split(policy)[0])


def differences(ours: Any, theirs: Any) -> tuple[float, float]:
    """Between two policies, relative: of all weights in length; of an entry, the largest."""
    arrays = [
        (np.asarray(a, np.float64), np.asarray(b, np.float64))
        for a, b in zip(weights_of(ours), weights_of(theirs), strict=True)
    ]
    apart = sum(np.sum((a - b) ** 2) for a, b in arrays)
    length = sum(np.sum(a**2) for a, _ in arrays)
    largest = max(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6) for a, b in arrays)
    return float(np.sqrt(apart / length)), float(largest)


def shown(values: list[float]) -> str:
    """The values of all seeds, zero as plain 0."""
    return ", ".join("0" if value == 0 else f"{value:.1e}" for value in values)


def main() -> None:
    """Train both ways, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--envs", nargs="+", help="of those above; default: all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print("| environment | updates | together | in length, by seed | of an entry, by seed |")
    print("|---|---|---|---|---|")
    for env, updates in CASES:
        if options.envs and env not in options.envs:
            continue
        settings = {"total_steps": 2048 * updates}
        jax_native = env.startswith("gymnax/")
        chosen = choose_engine(env)  # side by side or alone: the same engine
        runs = policygrad.train_seeds(chosen, range(options.seeds), jobs=options.jobs, **settings)
        if runs.failures:
            raise SystemExit(str(runs.failures))
        found = [
            differences(run.policy, policygrad.train(chosen, seed=seed, **settings).policy)
            for seed, run in runs.runs.items()
        ]
        length, entry = map(list, zip(*found, strict=True))
        together = "vmapped" if jax_native else "side by side"
        print(
            f"| {chosen} | {updates} | {together} | {shown(length)} | {shown(entry)} |", flush=True
        )
        rows.append({"env": chosen, "updates": updates, "in_length": length, "of_entry": entry})
    if options.json:
        options.json.write_text(json.dumps(provenance() | {"rows": rows}, indent=1))


if __name__ == "__main__":
    main()

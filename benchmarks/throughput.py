"""Training on a simulator against the simulator alone, and against Stable-Baselines3, in one run.

    python benchmarks/throughput.py [--sb3-python .venv-sb3/bin/python] [--rounds 5] [--json FILE]

Measured in turns, round after round: EnvPool stepped with random actions, training on it (64
environments, batches of 4,096 steps), Gymnasium's SyncVectorEnv stepped with random actions,
training on it, and Stable-Baselines3's PPO with eight environments, once with one torch thread and
once with two, of which the faster counts. A ratio is the median over rounds of the ratio within a
round. Rates are after compilation; ours is the vanilla policy gradient with its defaults.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from clock import training_rate
from common import WORKERS, child_json, in_turns, median_ratio, provenance, spread

from policygrad.environments.catalogue import choose_engine
from policygrad.environments.envpool import Pool


def stepping_rate(env: Any, rows: int, warm_up: int = 20) -> float:
    """Environment steps per second of a vector environment, with random actions drawn before."""
    actions = [env.action_space.sample() for _ in range(32)]
    env.reset(seed=0)
    for row in range(warm_up):
        env.step(actions[row % 32])
    started = time.perf_counter()
    for row in range(rows):
        env.step(actions[row % 32])
    seconds = time.perf_counter() - started
    env.close()
    return rows * env.num_envs / seconds


def measured(task: str, options: argparse.Namespace) -> dict[str, Any]:
    """All rates on one task, and what they are of each other."""
    num_envs, batch = options.num_envs, options.batch_steps
    settings = {"algorithm": options.algorithm, "num_envs": num_envs, "batch_steps": batch}
    rows = options.updates * batch // num_envs

    def train(env: str, updates: int) -> Callable[[], float]:
        return lambda: training_rate(env, total_steps=(2 + updates) * batch, **settings)

    def sb3(threads: int) -> float:
        line = child_json(
            [
                options.sb3_python, str(WORKERS / "run_sb3.py"), task, "--algorithm", "sb3-ppo",
                "--num-envs", "8", "--threads", str(threads), "--episodes", "0",
                "--steps", str(options.sb3_steps),
            ]
        )  # fmt: skip
        return line["steps"] / line["seconds"]

    few = max(2, options.updates // 3)  # it is slower
    calls: dict[str, Callable[[], float]] = {
        "Gymnasium alone": lambda: stepping_rate(
            gymnasium.make_vec(task, num_envs, vectorization_mode="sync"), rows // 3
        ),
        "training on Gymnasium": train(f"gymnasium/{task}", few),
    }
    if choose_engine(task).startswith("envpool/"):
        calls |= {
            "EnvPool alone": lambda: stepping_rate(Pool(task, num_envs, {}), rows),
            "training on EnvPool": train(f"envpool/{task}", options.updates),
        }
    if options.sb3_python:
        for threads in (1, 2):
            calls[f"SB3 PPO, 8 environments, threads: {threads}"] = lambda n=threads: sb3(n)
    for name, call in calls.items():
        if name.startswith("training"):
            call()  # compiles
    found = in_turns(calls, options.rounds)
    ratios = ratios_of(found)
    return {"task": task, "steps_per_second": found, "ratios": ratios}


def ratios_of(found: dict[str, list[float]]) -> dict[str, float]:
    """Training on each engine over the engine alone, and over the faster of the peer's rates."""
    ratios = {}
    peers = [rates for name, rates in found.items() if name.startswith("SB3")]
    for engine in ("EnvPool", "Gymnasium"):
        if f"{engine} alone" not in found:
            continue
        trained = found[f"training on {engine}"]
        alone = median_ratio(trained, found[f"{engine} alone"])
        ratios[f"training on {engine} / {engine} alone"] = alone
        if peers:
            faster = np.max(peers, axis=0).tolist()
            ratios[f"training on {engine} / SB3 PPO"] = median_ratio(trained, faster)
    return ratios


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["HalfCheetah-v5", "Hopper-v5"])
    parser.add_argument("--sb3-python", help="Python with stable-baselines3; none: without it")
    parser.add_argument("--algorithm", default="vanilla")
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--batch-steps", type=int, default=4096)
    parser.add_argument("--updates", type=int, default=12, help="that are timed, a round")
    parser.add_argument("--sb3-steps", type=int, default=16_384)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results = [measured(task, options) for task in options.tasks]
    for result in results:
        print(f"\n{result['task']}, environment steps/s, median (least–most)\n")
        print("| | steps/s |\n|---|---|")
        for name, rates in result["steps_per_second"].items():
            print(f"| {name} | {spread(rates)} |")
        print("\n| ratio | median over rounds |\n|---|---|")
        for name, ratio in result["ratios"].items():
            print(f"| {name} | {ratio:.2f} |")
    if options.json:
        options.json.write_text(json.dumps(provenance() | {"results": results}, indent=1))


if __name__ == "__main__":
    main()

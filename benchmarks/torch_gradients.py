"""Per-episode gradients of a Stable-Baselines3 policy: are they right, what do they cost, how much
memory do they take?

    python benchmarks/torch_gradients.py [--tasks CartPole-v1 Hopper-v5] [--repeats 7] [--memory]

Right: the largest relative distance from a plain loop of `loss.backward()`, one episode at a time.
Cost: gradients of all episodes and their sums for the noise, against one forward and backward pass
over the same steps at once, both in seconds of the processor, in turns. Memory: the peak of a
process that collects and measures 1,000 episodes and of one that does so with 10,000.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from policygrad import estimators
from policygrad.core.trajectories import Trajectories, join_lanes
from policygrad.diagnostics.given import RowSums
from policygrad.diagnostics.noise import rows_of_noise
from policygrad.diagnostics.streaming import weights_of
from policygrad.gradients.weights import EstimatorState
from policygrad.torch import TorchPolicy, episode_gradients, gradient_noise, sb3
from policygrad.torch.measuring import Stream

TASKS = ("CartPole-v1", "Hopper-v5")
EPISODES = 1000
CHECKED = 100


def model_of(env: str) -> Any:
    """An untrained PPO with the library's own network."""
    import torch
    from stable_baselines3 import PPO

    torch.set_num_threads(1)
    return PPO("MlpPolicy", env, seed=0, device="cpu")


def to_go() -> tuple[Any, EstimatorState]:
    """Rewards to go without a baseline, and its empty state."""
    estimator = estimators.reward_to_go(discount=0.99)
    return estimator, estimator.init(jax.random.key(0), None)


def largest_distance(policy: TorchPolicy, record: Trajectories, psi: np.ndarray) -> float:
    """The largest ‖ĝ − ĝ of the loop‖/‖ĝ of the loop‖ over episodes and parameters."""
    import torch

    ours, module = episode_gradients(policy, record, psi), policy.module
    named, worst = dict(module.named_parameters()), 0.0
    for i in range(record.rewards.shape[1]):
        steps = int(np.sum(record.valid[:, i]))
        seen, actions, weight = (
            torch.as_tensor(np.array(x[:steps, i]))
            for x in (record.observations, record.actions, psi)
        )
        module.zero_grad()
        log_probs = module.evaluate_actions(seen.float(), actions)[1]
        (weight * log_probs).sum().backward()
        for name, x in ours.items():
            expected = named[name].grad
            apart = (x[i] - expected).norm() / expected.norm().clamp_min(1e-30)
            worst = max(worst, float(apart))
    return worst


def cost(
    policy: TorchPolicy, record: Trajectories, psi: np.ndarray, repeats: int
) -> dict[str, float]:
    """Median seconds of the processor, in turns, and their ratio."""
    import torch

    valid = np.asarray(record.valid)
    rows = (np.asarray(x)[valid] for x in (record.observations, record.actions, psi))
    seen, actions, weight = (torch.as_tensor(x) for x in rows)
    seen = seen.float()
    estimator, state = to_go()
    stream = Stream(policy, {"": (estimator, state)})

    def one_backward() -> None:
        policy.module.zero_grad()
        log_probs = policy.module.get_distribution(seen).log_prob(actions)
        (weight * log_probs).sum().backward()

    def per_episode() -> None:
        sums = RowSums()
        for x in stream.of_record(record, 0, psi[None]):
            sums.add(rows_of_noise(x.flat[:, 0], x.squares[:, 0], np), x.numbers)

    found = in_turns({"backward": one_backward, "episodes": per_episode}, repeats)
    return found | {"ratio": found["episodes"] / found["backward"]}


def in_turns(calls: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of the processor of each, after a first call of each."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            taken[name].append(time.process_time() - start)
    return {name: float(np.median(x[1:])) for name, x in taken.items()}


def peak_memory(env: str, episodes: int) -> float:
    """MiB at most, of a process that collects and measures so many episodes."""
    from memory import own_peak  # beside this file, which tests import from elsewhere

    model = model_of(env)
    estimator, state = to_go()
    records = sb3.collect(model, env, episodes)
    gradient_noise(sb3.policy_of(model), estimator, state, records)
    return own_peak()


def measured(env: str, repeats: int) -> dict[str, float]:
    """Distance and cost on one environment."""
    model = model_of(env)
    policy = sb3.policy_of(model)
    record = join_lanes(list(sb3.collect(model, env, EPISODES)))
    psi = np.array(weights_of(*to_go(), record).psi)
    few = jax.tree.map(lambda x: x[:, :CHECKED], record)
    return {
        "steps": int(np.sum(record.valid)),
        "distance": largest_distance(policy, few, psi[:, :CHECKED]),
        **cost(policy, record, psi, repeats),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak_memory(arguments.peak[0], int(arguments.peak[1])))
        return
    from memory import flat

    results = {}
    for env in arguments.tasks:
        x: dict[str, float] = measured(env, arguments.repeats)
        print(
            f"{env}: {EPISODES} episodes, {x['steps']:,} steps; largest distance "
            f"{x['distance']:.1e}; one backward pass {1e3 * x['backward']:.0f} ms, per episode "
            f"{1e3 * x['episodes']:.0f} ms, ratio {x['ratio']:.2f}",
            flush=True,
        )
        if arguments.memory:
            x |= flat(__file__, env)
        results[env] = x
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

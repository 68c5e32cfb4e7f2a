"""What measuring costs: variance and signal to noise against one plain gradient of the same data.

Both are given the same whole episodes, interleaved, and the medians of their times are compared.
With --memory, the peak memory of a process that measures 1,000 episodes and of one that measures
10,000, collected and measured batch by batch.

    python benchmarks/diagnostics_cost.py [--tasks cartpole-start ...] [--repeats 15] [--memory]
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from memory import flat, own_peak

from policygrad import diagnostics, environments, estimators, network_policy, scores
from policygrad.core.trajectories import Trajectories
from policygrad.rollout import make_collector

# name -> environment, episodes, factor on the last layer, which makes the policy surer of itself
TASKS = {
    "cartpole-start": ("gymnax/CartPole-v1", 1000, "untrained"),
    "cartpole-trained": ("gymnax/CartPole-v1", 1000, "balancing"),
    "hopper-start": ("Hopper-v5", 1000, "untrained"),
}
BATCH = 250  # episodes that are in memory at a time, with --memory


def policy_of(name: str) -> tuple[Any, Any]:
    """The environment, and a tanh 64×64 policy for it."""
    env, _, kind = TASKS[name]
    environment = environments.make(env, 16)
    policy = network_policy(
        jax.random.key(0), environment.observation_space, environment.action_space
    )
    if kind == "balancing":
        policy = balancing(policy)
    return environment, policy


def balancing(policy: Any) -> Any:
    """A policy that holds the pole up: the last layer fitted to a linear controller."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(4000, 4)) * np.array([0.8, 0.6, 0.07, 0.6])
    push = 40 * states @ np.array([0.05, 0.2, 1.5, 0.4])

    def hidden(s: Any) -> Any:
        x = policy.normaliser(s)
        for w, b in zip(policy.network.weights[:-1], policy.network.biases[:-1], strict=True):
            x = jnp.tanh(w @ x + b)
        return x

    features = np.asarray(jax.vmap(hidden)(jnp.asarray(states, jnp.float32)))
    ridge = features.T @ features + 1e-3 * np.eye(features.shape[1])
    w = np.linalg.solve(ridge, features.T @ push) / 2
    import equinox as eqx

    last = jnp.asarray(np.stack([-w, w]), jnp.float32)
    return eqx.tree_at(lambda p: p.network.weights[-1], policy, last)


def batches(name: str, episodes: int, batch: int) -> Iterator[Trajectories]:
    """Whole episodes, batch by batch."""
    environment, policy = policy_of(name)
    key = jax.random.key(1)
    collector = make_collector(environment, policy, key, num_envs=16, episodes=batch)
    for k in jax.random.split(key, episodes // batch):
        yield collector.collect(policy, k)
    collector.close()


def cost(name: str, repeats: int) -> dict[str, float]:
    """Medians of seconds, and their ratio."""
    _, policy = policy_of(name)
    episodes = TASKS[name][1]
    (record,) = batches(name, episodes, episodes)
    estimator = estimators.reward_to_go(discount=0.99)
    state = estimator.init(jax.random.key(0), None)
    plain = jax.jit(lambda p, r, s: scores.policy_gradient(p, r, estimator.weights(s, r).psi))

    def gradient() -> Any:
        return jax.block_until_ready(plain(policy, record, state))

    def measure() -> Any:
        return diagnostics.gradient_noise(policy, estimator, state, record)

    def update() -> Any:
        # what compiles with `record` as NumPy arrays is what is timed
        return measure().total.variance

    seconds = interleaved({"gradient": gradient, "measured": update}, repeats)
    valid = np.asarray(record.valid)
    return seconds | {
        "ratio": seconds["measured"] / seconds["gradient"],
        "rows": int(valid.sum()),
        "longest": int(valid.shape[0]),
    }


def interleaved(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each, one after the other in turn, after a first call of each."""
    taken: dict[str, list[float]] = {k: [] for k in calls}
    for k in calls.values():
        k()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {k: float(np.median(v)) for k, v in taken.items()}


def peak_memory(name: str, episodes: int) -> float:
    """MB, of this process after it has measured so many episodes."""
    _, policy = policy_of(name)
    estimator = estimators.reward_to_go(discount=0.99)
    state = estimator.init(jax.random.key(0), None)
    diagnostics.gradient_noise(policy, estimator, state, batches(name, episodes, BATCH))
    return own_peak()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak_memory(arguments.peak[0], int(arguments.peak[1])))
        return
    results = {}
    for name in arguments.tasks:
        x: dict[str, Any] = cost(name, arguments.repeats)
        print(
            f"{name}: {TASKS[name][1]} episodes, {x['rows']:,} steps, the longest {x['longest']}: "
            f"gradient {1e3 * x['gradient']:.1f} ms, measured {1e3 * x['measured']:.1f} ms, "
            f"ratio {x['ratio']:.2f}",
            flush=True,
        )
        if arguments.memory:
            x |= flat(__file__, name)
        results[name] = x
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

"""Compiled CartPole against rejax and against its own matrix products; many seeds against one.

    python benchmarks/compiled_speed.py [--rejax-python .venv-rejax/bin/python] [--rounds 5]

Measured in turns: training `gymnax/CartPole-v1` with 64×64 policy and critic and one gradient step
a batch for each; rejax's PPO with 64 environments, 64×64 and 4 epochs; and the ceiling, a compiled
loop of nothing but the float32 matrix products that such a training cannot do without. Those are,
a batch: the policy forward on each row of environments in turn (acting), the critic forward on the
batch (values), and both networks forward and backward on the batch (the two gradient steps). The
ceiling takes the batch whole or in chunks, whichever is faster. JAX is let see every processor, as
the command does it.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from clock import training_rate
from common import WORKERS, child_json, in_turns, median_ratio, provenance, seconds_of, spread

import policygrad

ENV = "gymnax/CartPole-v1"
TINY = 1e-9  # binds each product to the one before, so that none can be left out


def forward(weights: list[jax.Array], x: jax.Array) -> list[jax.Array]:
    """What a network without nonlinearities makes of rows: the input of each layer, the output."""
    layers = [x]
    for w in weights:
        layers.append(layers[-1] @ w)
    return layers


def backward(weights: list[jax.Array], layers: list[jax.Array]) -> list[jax.Array]:
    """The products of backpropagation: each layer's weights' gradient."""
    slope, gradients = layers[-1], []
    for number in reversed(range(len(weights))):
        gradients.append(layers[number].T @ slope)
        if number:
            slope = slope @ weights[number].T
    return gradients[::-1]


def moved(weights: list[jax.Array], gradients: list[jax.Array]) -> list[jax.Array]:
    """Weights that depend on their gradients."""
    return [w - TINY * g for w, g in zip(weights, gradients, strict=True)]


@partial(jax.jit, static_argnames=("num_envs", "steps", "chunk", "batches"))
def products(
    networks: tuple[list[jax.Array], list[jax.Array]],
    x: jax.Array,
    *,
    num_envs: int,
    steps: int,
    chunk: int,
    batches: int,
) -> tuple[list[jax.Array], list[jax.Array]]:
    """The matrix products of `batches` batches of `steps` steps of `num_envs` environments."""
    rows = x.reshape(steps * num_envs // chunk, chunk, x.shape[-1])

    def act(policy: list[jax.Array], x: jax.Array) -> jax.Array:
        def step(x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return x + TINY * forward(policy, x)[-1][:, :1], None

        return jax.lax.scan(step, x, None, length=steps)[0]

    def values(critic: list[jax.Array], x: jax.Array) -> jax.Array:
        return jnp.sum(forward(critic, x)[-1])

    def gradient(weights: list[jax.Array], rows: jax.Array) -> list[jax.Array]:
        def add(total: list[jax.Array], x: jax.Array) -> tuple[list[jax.Array], None]:
            found = backward(weights, forward(weights, x))
            return [t + f for t, f in zip(total, found, strict=True)], None

        return jax.lax.scan(add, [jnp.zeros_like(w) for w in weights], rows)[0]

    def batch(
        _: jax.Array, networks: tuple[list[jax.Array], list[jax.Array]]
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        policy, critic = networks
        acted = jnp.sum(act(policy, x[:num_envs]))
        valued = jnp.sum(jax.lax.map(lambda x: values(critic, x), rows))
        bound = TINY * TINY * (acted + valued)
        policy = moved(policy, gradient(policy, rows))
        critic = moved(critic, gradient(critic, rows))
        return [w + bound for w in policy], [w + bound for w in critic]

    return jax.lax.fori_loop(0, batches, batch, networks)


def flops_per_step() -> int:
    """Floating-point operations of those products, for each environment step."""
    weights = {"policy": (4 * 64, 64 * 64, 64 * 2), "critic": (4 * 64, 64 * 64, 64)}
    passes = 0
    for first, *rest in weights.values():
        once = first + sum(rest)  # forward; acting or values, then with the gradient of each weight
        passes += once + (once + once + sum(rest))
    return 2 * passes


def ceiling_rate(num_envs: int, batch_steps: int, seconds: float = 0.5) -> float:
    """Environment steps per second, were there nothing but matrix products."""
    keys = jax.random.split(jax.random.key(0), 8)
    shapes = [(4, 64), (64, 64), (64, 2)], [(4, 64), (64, 64), (64, 1)]
    policy, critic = (
        [jax.random.normal(k, s) / 8 for k, s in zip(keys[3 * i :], shape, strict=False)]
        for i, shape in enumerate(shapes)
    )
    x = jax.random.normal(keys[-1], (batch_steps, 4))
    best = 0.0
    for chunk in {batch_steps, min(256, batch_steps), min(1024, batch_steps)}:
        run = partial(
            products, (policy, critic), x,
            num_envs=num_envs, steps=batch_steps // num_envs, chunk=chunk,
        )  # fmt: skip
        jax.block_until_ready(run(batches=20))
        taken = seconds_of(lambda run=run: jax.block_until_ready(run(batches=20)))
        batches = max(20, round(20 * seconds / taken / 20) * 20)
        jax.block_until_ready(run(batches=batches))
        taken = seconds_of(lambda run=run, n=batches: jax.block_until_ready(run(batches=n)))
        best = max(best, batches * batch_steps / taken)
    return best


def main() -> None:
    """Measure, and print a table."""
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rejax-python", help="Python with rejax; none: without it")
    parser.add_argument("--num-envs", type=int, default=256)
    parser.add_argument("--batch-steps", type=int, default=16_384)
    parser.add_argument("--steps", type=int, default=2_000_000, help="of one training run")
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    settings = {
        "num_envs": options.num_envs,
        "batch_steps": options.batch_steps,
        "critic_epochs": 1,
        "critic_minibatches": 1,
    }

    def rejax() -> float:
        line = child_json(
            [
                options.rejax_python, str(WORKERS / "run_rejax.py"), "CartPole-v1",
                "--epochs", "4", "--pieces", "1", "--episodes", "0",
                "--steps", str(options.steps // 2),
            ]
        )  # fmt: skip
        return line["steps"] / line["seconds"]

    calls: dict[str, Callable[[], float]] = {
        "policygrad": lambda: training_rate(ENV, total_steps=options.steps, **settings),
        "matrix products alone": lambda: ceiling_rate(options.num_envs, options.batch_steps),
    }
    if options.rejax_python:
        calls["rejax PPO, 4 epochs"] = rejax
    for name in ("policygrad", "matrix products alone"):
        calls[name]()  # compiles
    rates = in_turns(calls, options.rounds)

    share = options.steps // 4

    def whole(count: int) -> float:
        started = time.perf_counter()
        if count == 1:
            policygrad.train(ENV, total_steps=share, **settings)
        else:
            policygrad.train_seeds(ENV, range(count), total_steps=share, **settings)
        return time.perf_counter() - started

    seeds: dict[str, Callable[[], float]] = {
        "one seed": lambda: whole(1),
        f"{options.seeds} seeds": lambda: whole(options.seeds),
    }
    for call in seeds.values():
        call()
    times = in_turns(seeds, options.rounds)

    ours = rates["policygrad"]
    ratios = {"policygrad / matrix products": median_ratio(ours, rates["matrix products alone"])}
    if options.rejax_python:
        ratios["policygrad / rejax"] = median_ratio(ours, rates["rejax PPO, 4 epochs"])
    ratios[f"time of {options.seeds} seeds / time of one"] = median_ratio(
        times[f"{options.seeds} seeds"], times["one seed"]
    )
    print("| CartPole, compiled | steps/s, median (least–most) |\n|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {spread(values)} |")
    gigaflops = statistics.median(rates["matrix products alone"]) * flops_per_step() / 1e9
    print(f"| the products, at {flops_per_step():,} flops a step | {gigaflops:.0f} GFLOP/s |")
    for name, values in times.items():
        total = (1 if name == "one seed" else options.seeds) * share / statistics.median(values)
        print(f"| {name}, whole call: {spread(values, '.2f')} s | {total:,.0f} |")
    print("\n| ratio | median over rounds |\n|---|---|")
    for name, ratio in ratios.items():
        print(f"| {name} | {ratio:.2f} |")
    if options.json:
        found = {"settings": settings, "steps_per_second": rates, "seconds": times}
        options.json.write_text(json.dumps(provenance() | found | {"ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()

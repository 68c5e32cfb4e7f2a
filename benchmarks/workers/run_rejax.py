"""One run of rejax's PPO on a gymnax environment; prints one line of JSON.

    python benchmarks/workers/run_rejax.py CartPole-v1 --seed 0 --steps 100000

The settings are rejax's own defaults (64 environments × 64 steps, 16 minibatches, 8 epochs) unless
told otherwise. Training runs in pieces of one compiled program, each a whole number of batches, so
the steps may overshoot; its seconds are those after compilation. Every point of the curve is an
evaluation of 32 episodes between the pieces, and not counted in the seconds.
"""

import argparse
import json
import math
import time

import jax
import numpy as np
from rejax import get_algo
from rejax.evaluate import evaluate


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("--algorithm", default="rejax-ppo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--pieces", type=int, default=20)
    parser.add_argument("--episodes", type=int, default=100, help="0: no evaluation")
    options = parser.parse_args()
    batch = options.num_envs * 64
    batches = math.ceil(options.steps / batch)
    pieces = min(options.pieces, batches)
    piece = math.ceil(batches / pieces) * batch
    algorithm = get_algo("ppo").create(
        env=options.task,
        num_envs=options.num_envs,
        num_steps=64,
        num_epochs=options.epochs,
        total_timesteps=piece,
        eval_freq=piece,
        skip_initial_evaluation=True,
    )
    algorithm = algorithm.replace(eval_callback=lambda *_: 0.0)  # evaluated outside of the clock

    def returns(state, key, episodes):
        act, parameters = algorithm.make_act(state), algorithm.env_params
        return np.asarray(evaluate(act, key, algorithm.env, parameters, episodes)[1], np.float64)

    key = jax.random.key(options.seed)
    start = jax.jit(algorithm.init_state)(key)
    train = jax.jit(lambda state: algorithm.train(train_state=state)[0])
    started = time.perf_counter()
    compiled = train.lower(start).compile()
    compile_seconds = time.perf_counter() - started
    state, seconds, curve = start, 0.0, []
    for number in range(pieces):
        started = time.perf_counter()
        state = jax.block_until_ready(compiled(state))
        seconds += time.perf_counter() - started
        if options.episodes:
            mean = returns(state, jax.random.fold_in(key, 2 * number), 32).mean()
            curve.append([(number + 1) * piece, float(mean)])
    line = {
        "steps": pieces * piece,
        "env": f"gymnax/{options.task}",
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "num_envs": options.num_envs,
        "epochs": options.epochs,
        "deterministic": None,
        "curve": curve,
    }
    if options.episodes:
        found = returns(state, jax.random.fold_in(key, 10_000), options.episodes)
        line["stochastic"] = {
            "mean": float(found.mean()),
            "episodes": len(found),
            "returns": found.tolist(),
        }
    print(json.dumps(line))


if __name__ == "__main__":
    main()

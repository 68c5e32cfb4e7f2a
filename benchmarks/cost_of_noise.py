"""What does the noise of the actions cost, before anything is learned?

Episodes of an untrained policy, whose mean is nearly the middle of every action's range, with
several standard deviations σ of its noise: how long they last, and what a step pays, in the parts
that the environment names in its infos. σ is in units of half the range of an action.

    python benchmarks/cost_of_noise.py [--tasks Ant-v5 ...] [--log-std -0.5 ...] [--seed 0]
"""

import argparse
from typing import Any

import jax
import numpy as np

from policygrad import environments, network_policy
from policygrad.rollout import make_collector
from policygrad.spaces import action_space_of

TASKS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5", "Swimmer-v5")
EPISODES = 100  # as many as the means of infos are of


def measured(environment: Any, log_std: float, key: Any) -> dict[str, float]:
    """Mean length and return of episodes with so much noise; each part of the reward, per step."""
    made, seeds, drawn = jax.random.split(key, 3)
    spaces = environment.observation_space, environment.action_space
    policy = network_policy(made, *spaces, log_std=log_std)
    collector = make_collector(environment, policy, seeds, num_envs=20, episodes=EPISODES)
    record = collector.collect(policy, drawn)
    steps = float(np.sum(record.valid)) / EPISODES
    parts = {
        name.removeprefix("info_sum/reward_"): value / steps
        for name, value in collector.infos().items()
        if name.startswith("info_sum/reward_")
    }
    return {"length": steps, "return": float(np.sum(record.rewards)) / EPISODES} | parts


def main() -> None:
    """Print one row for each task and standard deviation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--log-std", nargs="+", type=float, default=[-0.5, -1.0, -1.5, -2.0])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print("| task | actions | log σ | sum of σ | length | return | per step |")
    print("|---|---|---|---|---|---|---|")
    for task in arguments.tasks:
        for log_std in arguments.log_std:
            environment = environments.make(task, 20)
            count = action_space_of(environment.action_space).deviations
            found = measured(environment, log_std, jax.random.key(arguments.seed))
            length, total = found.pop("length"), found.pop("return")
            parts = ", ".join(f"{name} {value:+.2f}" for name, value in found.items())
            noise = count * np.exp(log_std)
            print(
                f"| {task} | {count} | {log_std:g} | {noise:.2f} | {length:.0f} | {total:,.1f} "
                f"| {total / length:+.2f}: {parts} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Train a policy, export it, and drive an environment with it by NumPy alone.

python examples/export_policy.py
"""

import sys
from pathlib import Path

import gymnasium as gym

import policygrad


def main(folder: Path, steps: int = 30_000) -> float:
    run = policygrad.train("CartPole-v1", total_steps=steps, out=folder / "run")
    exported = policygrad.export(run, folder / "balance")  # policy.py, policy.npz, policy.json

    sys.path.insert(0, str(exported))  # from here on nothing needs JAX or policygrad
    from policy import load  # pyright: ignore[reportMissingImports]

    policy, env = load(), gym.make("CartPole-v1")
    observation, total, over = env.reset(seed=0)[0], 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
        total, over = total + float(reward), terminated or truncated
    return total


if __name__ == "__main__":
    print(main(Path("runs/export-example")))

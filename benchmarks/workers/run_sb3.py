"""One run of Stable-Baselines3 or sb3-contrib; prints one line of JSON.

    python benchmarks/workers/run_sb3.py Hopper-v5 --algorithm sb3-ppo --seed 0 --steps 1000000

It takes the documented defaults; a name that ends in `-zoo` those that rl-baselines3-zoo has for
the task (`zoo.py`). By default PPO and TRPO take one environment (2,048 steps a batch) and A2C
eight. Names in `-zoo` and `-normalised` wrap the environments in VecNormalize (observations and
rewards), which the defaults do not. Evaluated are the sampled and the greedy policy, 100 episodes
each, true rewards.
"""

import argparse
import json
import time
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import zoo
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

PACKAGES = ("stable-baselines3", "sb3-contrib", "torch", "numpy", "gymnasium", "mujoco")


def kind_of(algorithm: str) -> tuple[Any, int]:
    """The class, and how many environments it takes by default."""
    if "a2c" in algorithm:
        return A2C, 8
    if "trpo" in algorithm:
        from sb3_contrib import TRPO  # others do not wait for it: whole processes are timed too

        return TRPO, 1
    return PPO, 1


def zoo_settings(algorithm: str, task: str) -> dict[str, Any]:
    """The zoo's settings, with the activation as a class of torch."""
    settings = dict(zoo.SETTINGS[algorithm][task])
    if policy := settings.get("policy_kwargs"):
        activation = getattr(torch.nn, policy["activation_fn"])
        settings["policy_kwargs"] = policy | {"activation_fn": activation}
    return settings


class Curve(BaseCallback):
    """Mean return of the last 100 episodes at the end of every rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[list[float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        recent = [episode["r"] for episode in self.model.ep_info_buffer]
        if recent:
            self.points.append([self.num_timesteps, float(np.mean(recent))])


def evaluated(model, options, normaliser, deterministic):
    """Mean return with its episodes, in fresh environments."""
    env = make_vec_env(options.task, n_envs=min(16, options.episodes), seed=10_000 + options.seed)
    if normaliser is not None:
        env = VecNormalize(env, training=False, norm_reward=False)
        env.obs_rms = normaliser.obs_rms
    returns, lengths = evaluate_policy(
        model, env, options.episodes, deterministic=deterministic, return_episode_rewards=True
    )
    return {
        "mean": float(np.mean(returns)),
        "episodes": len(returns),
        "length_mean": float(np.mean(lengths)),
        "returns": [float(r) for r in returns],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("--algorithm", default="sb3-ppo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--num-envs", type=int)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--episodes", type=int, default=100, help="0: no evaluation")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    kind, num_envs = kind_of(options.algorithm)
    settings, normaliser = {}, None
    if options.algorithm.endswith("-zoo"):
        settings = zoo_settings(options.algorithm, options.task)
        num_envs = settings.pop("n_envs", num_envs)
    num_envs = options.num_envs or num_envs
    env = make_vec_env(options.task, n_envs=num_envs, seed=options.seed)
    if options.algorithm.endswith(("-zoo", "-normalised")):
        env = normaliser = VecNormalize(env, gamma=settings.get("gamma", 0.99))
    model = kind("MlpPolicy", env, seed=options.seed, device="cpu", **settings)
    curve = Curve()
    started = time.perf_counter()
    model.learn(options.steps, callback=curve)
    seconds = time.perf_counter() - started
    line = {
        "steps": model.num_timesteps,
        "env": options.task,
        "seconds": seconds,
        "num_envs": num_envs,
        "threads": options.threads,
        "versions": {name: version(name) for name in PACKAGES},
        "curve": curve.points[:: max(1, len(curve.points) // 200)] + curve.points[-1:],
    }
    if options.episodes:
        line["stochastic"] = evaluated(model, options, normaliser, deterministic=False)
        line["deterministic"] = evaluated(model, options, normaliser, deterministic=True)
    print(json.dumps(line))


if __name__ == "__main__":
    main()

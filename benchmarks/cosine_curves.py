"""Is the predicted cosine of two gradients that of gradients of N episodes, as measured?

CartPole and Hopper with an untrained 64×64 policy, and a task of the gallery. What is measured is
the cosine between disjoint batches. It is predicted from the moments of episodes by the length of
their gradients, and from norm and variance alone with noise taken as normal.

    python benchmarks/cosine_curves.py [--tasks cartpole ...] [--seed 0] [--out cosines.png]
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from policygrad import diagnostics, environments, estimators, network_policy
from policygrad.figures.measurements import cosine_against_episodes
from policygrad.rollout import make_collector
from policygrad.tabular import as_environment, gallery

TASKS = {"cartpole": ("gymnax/CartPole-v1", 4096), "hopper": ("Hopper-v5", 2048)}
GALLERY = {"chain": 4096}
BATCH = 512


def sampled(name: str, seed: int) -> tuple[Any, Iterator[Any]]:
    """A policy, and batches of whole episodes with it."""
    key = jax.random.key(seed)
    if name in GALLERY:
        task, episodes = gallery.TASKS[name](), GALLERY[name]
        environment, policy = as_environment(task.mdp), task.policy
    else:
        env, episodes = TASKS[name]
        environment = environments.make(env, 16)
        policy = network_policy(key, environment.observation_space, environment.action_space)
    collector = make_collector(environment, policy, key, num_envs=16, episodes=BATCH)
    return policy, (collector.collect(policy, k) for k in jax.random.split(key, episodes // BATCH))


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*TASKS, *GALLERY]
    parser.add_argument("--tasks", nargs="+", default=names, choices=names)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("cosines.png"))
    arguments = parser.parse_args()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(arguments.tasks), 4), dpi=110, layout="constrained")
    axes = np.ravel(figure.subplots(1, len(arguments.tasks)))
    for name, axis in zip(arguments.tasks, axes, strict=True):
        policy, batches = sampled(name, arguments.seed)
        estimator = estimators.reward_to_go(discount=0.99)
        state = estimator.init(jax.random.key(0), None)
        noise = diagnostics.gradient_noise(policy, estimator, state, batches)
        cosine_against_episodes(noise, axes=axis)
        total, c = noise.total, noise.cosines
        b = total.noise_scale
        axis.set_title(
            f"{name}: {noise.episodes:,} episodes, B = {b.value:.0f}", fontsize=10, loc="left"
        )
        axis.legend(fontsize=7.5, frameon=False, loc="lower right")
        print(
            f"{name}: {noise.episodes:,} episodes, noise scale {b.value:.1f} "
            f"[{b.low:.1f}, {b.high:.1f}], share along {total.along.value:.2f}"
        )
        print("      N   measured                 by length   within   normal   within")
        rows = zip(
            c.episodes, c.between.value, c.between.low, c.between.high,
            c.between_by_length, c.between_predicted.value, strict=True,
        )  # fmt: skip
        for n, value, low, high, by_length, normal in rows:
            within = ["yes" if low <= x <= high else "no" for x in (by_length, normal)]
            print(
                f"  {n:5.0f}   {value:.3f} [{low:.3f}, {high:.3f}]     {by_length:.3f}       "
                f"{within[0]:<6}   {normal:.3f}    {within[1]}",
                flush=True,
            )
    figure.savefig(arguments.out)


if __name__ == "__main__":
    main()

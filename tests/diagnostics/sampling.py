"""Repetitions of whole-episode samples of a gallery task, and what their intervals should cover."""

from dataclasses import replace

import jax
import numpy as np

from policygrad.rollout.episodes import collect_episodes
from policygrad.tabular import as_environment

MAX_STEPS = {"short-corridor": 400}


def sampler(task, episodes):
    """key -> N whole episodes of a gallery task, as NumPy arrays."""
    env = as_environment(task.mdp)
    steps = env.time_limit or MAX_STEPS.get(task.mdp.name, 16)

    @jax.jit
    def collect(key):
        return collect_episodes(env, task.policy, key, episodes=episodes, max_steps=steps)

    def sample(key):
        batch = jax.tree.map(np.asarray, collect(key))
        assert not batch.unfinished.any()
        record = batch.trajectories
        longest = int(record.valid.any(axis=1).sum())
        cut = jax.tree.map(lambda x: x[:longest], record)
        return replace(cut, cut_observations=record.cut_observations, cut_times=record.cut_times)

    return sample

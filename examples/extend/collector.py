"""A collector of one's own: lanes in other processes, and the same batch as in this one.

A policy's arrays and a key go out, a record comes back with lanes along axis 1. What a lane does
follows from the key and its number, so that how many processes step the lanes never shows.
"""

import multiprocessing
from dataclasses import fields

import jax
import numpy as np
from policygrad.types import Trajectories

import policygrad
from policygrad.core.modules import PolicyShape
from policygrad.policies import network_policy
from policygrad.rollout import Collector, open_source


def work(pipe, env, first_lane, lanes, steps, hidden, key):
    source = open_source(env, lanes, first_lane=first_lane)
    spaces = source.observation_space, source.action_space
    shape = PolicyShape.of(network_policy(jax.random.key(0), *spaces, hidden=hidden))
    policy = network_policy(jax.random.key(0), *spaces, hidden=hidden)
    here = source.segments(policy, jax.random.wrap_key_data(key), steps)
    while (message := pipe.recv()) is not None:
        arrays, key = message
        record = here.collect(shape.policy(arrays), jax.random.wrap_key_data(key))
        pipe.send(jax.tree.map(np.asarray, [getattr(record, f.name) for f in fields(record)]))


class Elsewhere(Collector):
    """Segments of an environment's lanes, which `workers` processes share."""

    whole_episodes = False

    def __init__(self, env, source, key, config, workers=2):
        self.observation_space, self.action_space = source.observation_space, source.action_space
        context, each = multiprocessing.get_context("spawn"), config.num_envs // workers
        self._pipes = []
        for first_lane in range(0, config.num_envs, each):
            ours, theirs = context.Pipe()
            plan = env, first_lane, each, config.rows, config.hidden, jax.random.key_data(key)
            context.Process(target=work, args=(theirs, *plan), daemon=True).start()
            self._pipes.append(ours)

    def collect(self, policy, key, episodes=None):
        arrays = [np.asarray(x) for x in PolicyShape.of(policy).arrays(policy)]
        for pipe in self._pipes:
            pipe.send((arrays, np.asarray(jax.random.key_data(key))))
        parts = [pipe.recv() for pipe in self._pipes]
        *rows, whole = zip(*parts, strict=True)
        joined = [jax.tree.map(lambda *x: np.concatenate(x, axis=1), *row) for row in rows]
        return Trajectories(*joined, whole_episodes=whole[0])

    def close(self):
        for pipe in self._pipes:
            pipe.send(None)


def elsewhere(source, policy, key, config):
    """What `train(collector=...)` takes."""
    return Elsewhere("gymnax/CartPole-v1", source, key, config)


def main(total_steps: int = 60_000) -> float:
    """Train CartPole on lanes of two processes; the mean return of the last hundred episodes."""
    run = policygrad.train("gymnax/CartPole-v1", collector=elsewhere, total_steps=total_steps)
    return run.summary["return_mean"]


if __name__ == "__main__":
    print(main())

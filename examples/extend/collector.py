"""A collector of one's own: lanes in other processes, and the same bits as in this one."""

import multiprocessing

import jax
import numpy as np
from policygrad.types import join_lanes

import policygrad
from policygrad.core.modules import PolicyShape
from policygrad.policies import network_policy
from policygrad.rollout import Collector, open_source

ENV = "gymnax/CartPole-v1"


def work(pipe, first_lane, lanes, steps, hidden, key):
    source, key = open_source(ENV, lanes, first_lane=first_lane), jax.random.wrap_key_data(key)
    policy = network_policy(key, source.observation_space, source.action_space, hidden=hidden)
    shape, here = PolicyShape.of(policy), source.segments(policy, key, steps)
    while (message := pipe.recv()) is not None:
        arrays, key = message
        record = here.collect(shape.policy(arrays), jax.random.wrap_key_data(key))
        pipe.send(jax.tree.map(np.asarray, record))


class Elsewhere(Collector):
    def __init__(self, source, policy, key, config, workers=2):
        context, each = multiprocessing.get_context("spawn"), config.num_envs // workers
        data, self._pipes = np.asarray(jax.random.key_data(key)), []
        for first_lane in range(0, config.num_envs, each):
            ours, theirs = context.Pipe()
            plan = theirs, first_lane, each, config.rows, config.hidden, data
            context.Process(target=work, args=plan, daemon=True).start()
            self._pipes.append(ours)

    def collect(self, policy, key, episodes=None):
        arrays = [np.asarray(x) for x in PolicyShape.of(policy).arrays(policy)]
        for pipe in self._pipes:
            pipe.send((arrays, np.asarray(jax.random.key_data(key))))
        return join_lanes([pipe.recv() for pipe in self._pipes])

    def close(self):
        for pipe in self._pipes:
            pipe.send(None)


def main(total_steps: int = 60_000) -> float:
    """Train CartPole on lanes of two processes; the mean return of the last hundred episodes."""
    return policygrad.train(ENV, collector=Elsewhere, total_steps=total_steps).summary[
        "return_mean"
    ]


if __name__ == "__main__":
    print(main())

"""An environment and a network of your own: Dict observations, a MultiDiscrete action.

A signal light shows which of three colours is wanted, and a dial which of four positions; the
agent sets both. Its network is any module that maps an observation to a distribution.

    python examples/custom_environment.py [STEPS]
"""

import sys

import equinox as eqx
import gymnasium as gym
import jax
import numpy as np

import policygrad
from policygrad import estimators
from policygrad.maths.distributions import MultiCategorical


class Panel(gym.Env):
    """Set colour and position as shown, ten times an episode; a point for each that is right."""

    observation_space = gym.spaces.Dict(
        {"light": gym.spaces.Discrete(3), "dial": gym.spaces.Box(-1.0, 1.0, (2,), np.float32)}
    )
    action_space = gym.spaces.MultiDiscrete([3, 4])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.rounds = 0
        return self._show(), {}

    def _show(self):
        self.colour, self.position = self.np_random.integers(3), self.np_random.integers(4)
        angle = np.pi / 4 + np.pi / 2 * self.position
        dial = np.array([np.cos(angle), np.sin(angle)], np.float32)
        return {"light": int(self.colour), "dial": dial}

    def step(self, action):
        reward = float(action[0] == self.colour) + float(action[1] == self.position)
        self.rounds += 1
        return self._show(), reward, self.rounds >= 10, False, {}


class Network(eqx.Module):
    """The custom policy: one observation in, one distribution out."""

    light: eqx.nn.Embedding
    body: eqx.nn.MLP

    def __init__(self, key):
        embedding_key, body_key = jax.random.split(key)
        self.light = eqx.nn.Embedding(3, 8, key=embedding_key)
        self.body = eqx.nn.MLP(8 + 2, 3 + 4, 32, 1, activation=jax.nn.relu, key=body_key)

    def __call__(self, observation):
        features = [self.light(observation["light"]), observation["dial"]]
        return MultiCategorical.from_logits(self.body(jax.numpy.concatenate(features)), (3, 4))


def main(total_steps: int = 100_000) -> float:
    """Train, and return the mean return of the trained policy; 20 is perfect."""
    run = policygrad.train(
        Panel,
        policy=Network(jax.random.key(0)),
        estimator=estimators.gae(discount=0.9, gae_lambda=0.9, normalise_advantages=True),
        total_steps=total_steps,
    )
    result = policygrad.evaluate(run, episodes=50)
    print(f"after {run.summary['env_steps']:,} steps: {result.stochastic.mean:.2f} of 20")
    return result.stochastic.mean


if __name__ == "__main__":
    main(*(int(steps) for steps in sys.argv[1:]))

"""CartPole whose observations tell where cart and pole are, and not how fast they move.

The state is then not in one observation: a policy must remember the one before to know it.
"""

from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, PRNGKeyArray, PyTree

from policygrad.environments import CompiledEnvironment, make
from policygrad.environments.protocol import Step

SEEN = [0, 2]  # the cart's position and the pole's angle


def seen_of(space: Any) -> spaces.Box:
    """What is left of CartPole's observation space."""
    return spaces.Box(space.low[SEEN], space.high[SEEN], dtype=np.float32)


class HiddenVelocities(gymnasium.ObservationWrapper):
    """CartPole-v1 of Gymnasium, without both velocities."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))
        self.observation_space = seen_of(self.env.observation_space)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return observation[SEEN]


class CompiledHiddenVelocities:
    """CartPole-v1 of gymnax, without both velocities."""

    def __init__(self) -> None:
        self.whole: CompiledEnvironment = make("gymnax/CartPole-v1", 1)
        self.observation_space = seen_of(self.whole.observation_space)
        self.action_space, self.time_limit = self.whole.action_space, self.whole.time_limit

    def reset(self, key: PRNGKeyArray) -> tuple[PyTree, Array]:
        """-> (state, observation)."""
        state, observation = self.whole.reset(key)
        return state, observation[jnp.array(SEEN)]

    def step(self, key: PRNGKeyArray, state: PyTree, action: Array) -> Step:
        """-> (state, observation, reward, terminated, truncated)."""
        state, observation, *rest = self.whole.step(key, state, action)
        return state, observation[jnp.array(SEEN)], *rest

"""One copy of a JAX-native environment, stepped from the host."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from policygrad.devices.compiled_code import compiled
from policygrad.environments.lanes import LaneStep
from policygrad.environments.protocol import CompiledEnvironment


class CompiledLane:
    """Lanes with one copy of a compiled environment.

    Args:
        environment: pure, unbatched.

    Attributes:
        state: of the running episode.
    """

    num_envs = 1

    def __init__(self, environment: CompiledEnvironment) -> None:
        self.observation_space = environment.observation_space
        self.action_space = environment.action_space
        self.time_limit = environment.time_limit
        self._reset, self._step = compiled(environment.reset), compiled(environment.step)
        self.state: Any = None
        self._time = 0

    def start(self, seed: int) -> None:
        """Begin a fresh episode; all randomness after it follows from the seed."""
        self._key = jax.random.key(seed)
        self._begin()

    def _begin(self) -> None:
        self.state, self._observation = self._reset(self._next_key())
        self._time = 0

    def _next_key(self) -> Any:
        self._key, key = jax.random.split(self._key)
        return key

    @property
    def observations(self) -> Any:
        """What the policy sees next, pytree of `[1, ...]`."""
        return _row(self._observation)

    @property
    def times(self) -> np.ndarray:
        """`[1]`, the steps that the running episode already had."""
        return np.array([self._time], np.int32)

    def step(self, actions: Any) -> LaneStep:
        """One step. An episode that has ended is followed by the next one."""
        action = jax.tree.map(lambda x: jnp.asarray(x)[0], actions)
        row = self._step(self._next_key(), self.state, action)
        self.state, self._observation, reward, terminated, truncated = row[:5]
        self._time += 1
        successors = self.observations
        at_limit = self.time_limit is not None and self._time >= self.time_limit
        terminated, truncated = bool(terminated), bool(truncated) or at_limit
        if terminated or truncated:
            self._begin()
        return LaneStep(
            successors, np.array([float(reward)]), np.array([terminated]), np.array([truncated])
        )

    def close(self) -> None:
        """Nothing is held."""


def _row(tree: Any) -> Any:
    """One row of numbers on the host."""
    return jax.tree.map(lambda x: np.asarray(x)[None], tree)

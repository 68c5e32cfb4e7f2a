"""A policy together with the spaces that it acts between."""

from functools import cached_property
from typing import Any

import equinox as eqx
import numpy as np
from gymnasium import spaces
from jaxtyping import PRNGKeyArray, PyTree

from policygrad.maths.distributions import Distribution
from policygrad.spaces import ActionSpace, action_space_of


class Agent:
    """A policy together with the spaces it acts between: what `load` returns.

    Attributes:
        policy: raw observation -> distribution; a pytree.
        observation_space, action_space: Gymnasium spaces.
    """

    def __init__(
        self, policy: Any, observation_space: spaces.Space, action_space: spaces.Space
    ) -> None:
        self.policy = policy
        self.observation_space = observation_space
        self.action_space = action_space
        self._distribution = eqx.filter_jit(lambda policy, observation: policy(observation))
        self._act = eqx.filter_jit(
            lambda policy, observation, key: (
                policy(observation).mode() if key is None else policy(observation).sample(key)
            )
        )

    def __call__(self, observation: PyTree) -> Distribution:
        """The distribution over (unscaled, unshifted) actions at one raw observation."""
        return self._distribution(self.policy, observation)

    def act(self, observation: PyTree, key: PRNGKeyArray | None = None) -> Any:
        """The action for the environment's `step` at one raw observation.

        Args:
            observation: as the environment gave it.
            key: consumed to sample; without one, the distribution's mode.

        Returns:
            A NumPy array (or integer) inside the action space.
        """
        action = self._act(self.policy, observation, key)
        return self._actions.to_environment(np.asarray(action))

    @cached_property
    def _actions(self) -> ActionSpace:
        return action_space_of(self.action_space)

"""A policy together with its observation and action space."""

from functools import cached_property
from typing import Any

import jax
import numpy as np
from gymnasium import spaces
from jaxtyping import PRNGKeyArray, PyTree

from policygrad.devices.compiled_code import compiled_for_modules
from policygrad.maths.distributions import Distribution
from policygrad.policies import meeting
from policygrad.spaces import ActionSpace, action_space_of


@compiled_for_modules
def _distribution(policy: Any, carry: PyTree, observation: PyTree) -> Distribution:
    return meeting.step(policy, carry, observation)[0]


@compiled_for_modules
def _act(policy: Any, carry: PyTree, observation: PyTree, key: PRNGKeyArray | None) -> Any:
    distribution, carry = meeting.step(policy, carry, observation)
    return distribution.mode() if key is None else distribution.sample(key), carry


class Agent:
    """A policy together with its observation and action space: what `load` returns.

    A policy with memory remembers what `act` saw since the last `reset`.

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
        self.reset()

    def reset(self) -> None:
        """Begin an episode: a policy with memory forgets. Without memory it changes nothing."""
        self._carry = jax.tree.map(lambda x: x[0], meeting.initial_carry(self.policy, 1))

    def __call__(self, observation: PyTree) -> Distribution:
        """The distribution at one raw observation, over actions in the policy's units."""
        return _distribution(self.policy, self._carry, observation)

    def act(self, observation: PyTree, key: PRNGKeyArray | None = None) -> Any:
        """The action for the environment's `step` at one raw observation.

        Args:
            observation: as the environment returned it.
            key: consumed to sample; without one, the distribution's mode.

        Returns:
            A NumPy array (or integer) inside the action space.
        """
        action, self._carry = _act(self.policy, self._carry, observation, key)
        return self._actions.to_environment(jax.tree.map(np.asarray, action))

    @cached_property
    def _actions(self) -> ActionSpace:
        return action_space_of(self.action_space)

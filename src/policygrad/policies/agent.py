"""A policy together with its observation and action space."""

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax.core import Tracer
from jaxtyping import PRNGKeyArray, PyTree

from policygrad.core.elsewhere import METHODS, no_attribute
from policygrad.core.errors import UserError
from policygrad.devices.compiled_code import compiled_for_modules
from policygrad.maths.distributions import Distribution, over_actions
from policygrad.policies import meeting
from policygrad.policies.observations import NonFiniteObservation, Seen, seen
from policygrad.spaces import (
    ActionSpace,
    action_mask,
    action_space_of,
    observation_space_of,
    permits_nothing,
    space_of,
)
from policygrad.spaces.reading import Node, reader_of

OnNaN = Literal["refuse", "hold"]


@compiled_for_modules
def _distribution(policy: Any, carry: PyTree, observation: PyTree) -> Distribution:
    return over_actions(meeting.step(policy, carry, observation)[0])


@compiled_for_modules
def _act(policy: Any, carry: PyTree, observation: PyTree, key: PRNGKeyArray | None) -> Any:
    distribution, carry = meeting.step(policy, carry, observation)
    return distribution.mode() if key is None else distribution.sample(key), carry


@compiled_for_modules
def _act_on_many(policy: Any, observations: PyTree, keys: PRNGKeyArray | None) -> Any:
    if keys is None:
        return meeting.act_greedily(policy, (), observations)[0]
    return meeting.act(policy, (), keys, observations)[0]


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

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise no_attribute("an Agent", name, METHODS)

    def reset(self) -> None:
        """Begin an episode: a policy with memory forgets, and no action is held any more."""
        self._carry = jax.tree.map(lambda x: x[0], meeting.initial_carry(self.policy, 1))
        self._held: Any = None

    def __call__(self, observation: PyTree) -> Distribution:
        """The distribution at one raw observation, over actions in the policy's units.

        Raises:
            UserError: the observation is not one of the observation space, or its mask permits no
                action.
        """
        if any(isinstance(x, Tracer) for x in jax.tree.leaves(observation)):
            return _distribution(self.policy, self._carry, observation)  # no values to check yet
        seen = self._read(observation)
        if seen.batch is not None:
            raise UserError(
                f"got {seen.batch} observations, expected one; agent.act takes several, and "
                "jax.vmap(agent.policy) gives their distributions"
            )
        return _distribution(self.policy, self._carry, seen.observation)

    def act(
        self,
        observation: PyTree,
        key: PRNGKeyArray | int | None = None,
        *,
        on_nan: OnNaN = "refuse",
    ) -> Any:
        """The action for the environment's `step` at one raw observation, or at several.

        Args:
            observation: as the environment returned it; or B of them, with one more axis in front
                of every array.
            key: consumed to sample, or a whole number to seed one from; without one, the
                distribution's mode.
            on_nan: what to do if a number is NaN or infinite: "refuse" raises, "hold" returns the
                action before this one once more, and a policy with memory does not see it. Actions
                for several observations are not held.

        Returns:
            A NumPy array (or integer) inside the action space; a dict or a tuple of them if the
            action space is a Dict or a Tuple; B of them for B observations.

        Raises:
            UserError: the observation is not one of the observation space, or its mask permits no
                action; several observations for a policy with memory.
        """
        if on_nan not in ("refuse", "hold"):
            raise UserError(f"on_nan must be 'refuse' or 'hold', got on_nan={on_nan!r}")
        try:
            seen = self._read(observation)
        except NonFiniteObservation as error:
            if on_nan == "refuse" or error.several:
                raise
            return self._held_action()
        key = None if key is None else _key(key)
        if seen.batch is None:
            action, self._carry = _act(self.policy, self._carry, seen.observation, key)
        else:
            action = self._act_on_many(seen, key)
        acted = self._actions.to_environment(jax.tree.map(np.asarray, action))
        # of its own, since the caller may write into what is returned; none of several is held
        self._held = jax.tree.map(_copied, acted) if seen.batch is None else None
        return acted

    def _act_on_many(self, seen: Seen, key: PRNGKeyArray | None) -> Any:
        if jax.tree.leaves(self._carry):
            raise UserError(
                f"got {seen.batch} observations, and the policy has a memory of one episode: pass "
                "one at a time, with an agent for each episode"
            )
        assert seen.batch is not None
        keys = None if key is None else jax.random.split(key, seen.batch)
        return _act_on_many(self.policy, seen.observation, keys)

    def _held_action(self) -> Any:
        if self._held is None:
            raise UserError(
                "a number of the observation is NaN or infinite, and there is no action to hold: "
                "none was taken since the last reset"
            )
        return jax.tree.map(_copied, self._held)

    def _read(self, observation: PyTree) -> Seen:
        found = seen(self._reader, observation)
        if self._masked:
            self._refuse_empty_mask(found)
        return found

    def _refuse_empty_mask(self, seen: Seen) -> None:
        lead = 0 if seen.batch is None else 1
        nothing = permits_nothing(seen.observation, self._actions, lead, np)
        if nothing is not None and np.any(nothing):
            which = "" if seen.batch is None else f" {int(np.argmax(nothing))}"
            raise UserError(f"the action mask permits no action in the observation{which}")

    @cached_property
    def _masked(self) -> bool:
        example = observation_space_of(self.observation_space).example()
        return action_mask(example, 0, np) is not None

    @cached_property
    def _reader(self) -> Node:
        return reader_of(observation_space_of(self.observation_space))

    @cached_property
    def _actions(self) -> ActionSpace:
        return action_space_of(self.action_space)


def _copied(action: Any) -> Any:
    """An array of its own; a number as it is."""
    return action.copy() if isinstance(action, np.ndarray) else action


def _key(given: Any) -> PRNGKeyArray:
    """A JAX key from a key of either kind, or from a seed."""
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        return jax.random.key(int(given) % 2**32)
    if isinstance(given, jax.Array) and given.shape == ():
        if jnp.issubdtype(given.dtype, jax.dtypes.prng_key):
            return given
        if jnp.issubdtype(given.dtype, jnp.integer):
            return jax.random.key(given)
    data = given if isinstance(given, (jax.Array, np.ndarray)) else np.zeros(0)
    if data.dtype == np.uint32 and data.shape == (2,):
        return jax.random.wrap_key_data(jnp.asarray(data))
    raise UserError(
        f"key={given!r} is no key: pass jax.random.key(seed), or the seed itself; None takes the "
        "most probable action"
    )


def check_spaces(agent: Agent, environment: Any) -> None:
    """Raise UserError unless the environment has the spaces that the policy was made for."""
    for name in ("observation_space", "action_space"):
        ours, theirs = getattr(agent, name), getattr(environment, name)
        if not space_of(ours).fits(space_of(theirs)):
            raise UserError(
                f"the policy's {name.replace('_', ' ')} is {ours}, the environment's is {theirs}"
            )

"""Acting on the host: one compiled call a step draws the actions of all lanes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from policygrad.core.modules import PolicyShape
from policygrad.devices.compiled_code import compiled
from policygrad.policies.meeting import Policy, act, act_greedily, begin_anew, initial_carry
from policygrad.rollout.acting import lane_keys

KEYS_AT_ONCE = 64

# (row, observations, times) -> actions and log-probabilities, of B lanes each
Draw = Callable[[int, Any, np.ndarray], tuple[Any, Any]]


@partial(compiled, static_argnums=0)
def _sample(
    shape: PolicyShape, arrays: tuple, carry: PyTree, begins: Any, keys: Any, observations: PyTree
) -> Any:
    policy = shape.policy(arrays)
    carry = begin_anew(policy, carry, begins)
    return act(policy, carry, jax.random.wrap_key_data(keys), observations)


@partial(compiled, static_argnums=2)
def _keys(key: PRNGKeyArray, first_row: Any, lanes: int, first_lane: Any) -> Any:
    rows = first_row + np.arange(KEYS_AT_ONCE, dtype=np.int32)
    return jax.random.key_data(jax.vmap(lambda row: lane_keys(key, row, lanes, first_lane))(rows))


def _key_data(key: PRNGKeyArray, lanes: int) -> Any:
    return jax.random.key_data(jax.random.split(key, lanes))


@partial(compiled, static_argnums=0)
def _greedy(
    shape: PolicyShape, arrays: tuple, carry: PyTree, begins: Any, observations: PyTree
) -> Any:
    policy = shape.policy(arrays)
    return act_greedily(policy, begin_anew(policy, carry, begins), observations)


class Actor:
    """Draws actions for B lanes with one compiled call, for policies of one shape.

    Args:
        policy: for its shape, and for its initial carry if it has a memory.
        lanes: B.
        first_lane: the number of the first of them.

    Attributes:
        carry: pytree of `[B, ...]`, after the newest step.
    """

    def __init__(self, policy: Policy, lanes: int, first_lane: int = 0) -> None:
        self._shape, self._lanes = PolicyShape.of(policy), lanes
        self._first_lane = np.int32(first_lane)  # no static argument: blocks share one program
        self.carry = initial_carry(policy, lanes)

    def sampler(self, policy: Policy, key: PRNGKeyArray) -> Draw:
        """A function that draws actions, with a key for each row and lane. Consumes the key.

        The keys of many rows are made at once; one by one they would take half of the time of a
        step.
        """
        arrays, known = self._shape.arrays(policy), {}

        def sample(row: int, observations: Any, times: np.ndarray) -> tuple[Any, Any]:
            block, place = divmod(row, KEYS_AT_ONCE)
            if block not in known:
                known.clear()
                first = np.int32(row - place)
                known[block] = np.asarray(_keys(key, first, self._lanes, self._first_lane))
            actions, log_probs, self.carry = _sample(
                self._shape,
                arrays,
                self.carry,
                self._begins(times),
                known[block][place],
                observations,
            )
            return actions, log_probs

        return sample

    def shapes(self, policy: Policy, observations: PyTree) -> tuple[Any, Any, Any]:
        """The shapes of actions, log-probabilities and carry of B lanes.

        Args:
            policy: of the structure that this was made with.
            observations: shapes, pytree of `[B, ...]`.
        """
        keys = jax.eval_shape(partial(_key_data, lanes=self._lanes), jax.random.key(0))
        begins = self._begins(np.zeros(self._lanes, np.int32))
        given = self._shape.arrays(policy), self.carry, begins
        return jax.eval_shape(partial(_sample, self._shape), *given, keys, observations)

    def chooser(self, policy: Policy) -> Draw:
        """A function that takes modes, with zeros in place of log-probabilities."""
        arrays = self._shape.arrays(policy)

        def choose(row: int, observations: Any, times: np.ndarray) -> tuple[Any, Any]:
            actions, self.carry = _greedy(
                self._shape, arrays, self.carry, self._begins(times), observations
            )
            return actions, np.zeros(self._lanes, np.float32)

        return choose

    def _begins(self, times: np.ndarray) -> Any:
        """Lanes that begin an episode; only a policy with memory needs them."""
        return times == 0 if jax.tree.leaves(self.carry) else ()

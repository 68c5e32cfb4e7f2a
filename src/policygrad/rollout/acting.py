"""Acting: one way to draw actions, shared by both rollouts so that their records are the same."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policygrad.devices.sharing import own, parts


def lane_keys(key: PRNGKeyArray, step: Int[Array, ""] | int, lanes: int) -> PRNGKeyArray:
    """`[B]`, a key for every lane at one row of a batch, from the batch's key."""
    row_key = jax.random.fold_in(key, step)
    return own(jax.random.split(row_key, lanes * parts()))


def act(
    policy: Callable, keys: PRNGKeyArray, observations: PyTree
) -> tuple[PyTree, Float[Array, " B"]]:
    """Draw one action for each of B observations.

    Args:
        policy: observation -> distribution.
        keys: `[B]`, of `lane_keys`; consumed.
        observations: pytree of `[B, ...]`.

    Returns:
        Actions, pytree of `[B, ...]`, and their log-probabilities `[B]`, nats.
    """

    def one(key: PRNGKeyArray, observation: PyTree) -> tuple[PyTree, Float[Array, ""]]:
        distribution = policy(observation)
        action = distribution.sample(key)
        return action, distribution.log_prob(action)

    return jax.vmap(one)(keys, observations)


def act_greedily(policy: Callable, observations: PyTree) -> PyTree:
    """The modes of the distributions at B observations."""
    return jax.vmap(lambda observation: policy(observation).mode())(observations)


def max_cuts(steps: int, time_limit: int | None) -> int:
    """How many successors a lane can have to record in a segment.

    One for every truncation and one for the last row: with a time limit of L at most ⌈T/L⌉ + 1,
    without one up to T.
    """
    return steps if time_limit is None else min(-(-steps // time_limit) + 1, steps)

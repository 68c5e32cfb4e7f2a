"""The one module that calls a policy with observations.

A policy without memory is any pytree `observation -> distribution`. A policy with memory is a
pytree `(observation, carry) -> (distribution, carry)`; its `initial_carry()` is the carry at the
start of an episode. All other modules pass a policy to the functions below, and need not know which
kind it is: the carry of a policy without memory is the empty tuple.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from policygrad.core.modules import narrowed
from policygrad.core.padding import a_step, with_steps_alone
from policygrad.core.trajectories import Trajectories
from policygrad.devices.chunks import (
    chunk_rows,
    flat_rows,
    map_in_chunks,
    numbers_of_a_row,
    sum_and_map_in_chunks,
)
from policygrad.devices.order import RowOrder, step_order

Policy = Callable[..., Any]


@runtime_checkable
class WithMemory(Protocol):
    """A policy that carries something from step to step of an episode."""

    def initial_carry(self) -> PyTree:
        """The carry at the start of an episode: a pytree of arrays, unbatched."""
        ...

    def __call__(self, observation: PyTree, carry: PyTree) -> tuple[Any, PyTree]:
        """-> (distribution, carry after this step)."""
        ...


@runtime_checkable
class Unrolls(Protocol):
    """A policy with memory that knows a faster way through many steps than one after another."""

    def unrolled(self, observations: PyTree, begins: Bool[Array, " T"], carry: PyTree) -> Any:
        """The distributions at T steps of a lane, whose carry starts anew where episodes begin."""
        ...


def initial_carry(policy: Policy, lanes: int) -> PyTree:
    """The carry of B lanes at the start of an episode.

    Args:
        policy: with or without memory.
        lanes: B.

    Returns:
        pytree of `[B, ...]`; the empty tuple for a policy without memory.
    """
    if not isinstance(policy, WithMemory):
        return ()
    return jax.tree.map(
        lambda x: jnp.broadcast_to(x, (lanes, *jnp.shape(x))), policy.initial_carry()
    )


def begin_anew(policy: Policy, carry: PyTree, begins: Bool[Array, " B"]) -> PyTree:
    """The carry of B lanes, some of which begin an episode."""

    def choose(fresh: Array, running: Array) -> Array:
        return jnp.where(begins.reshape(-1, *[1] * (running.ndim - 1)), fresh, running)

    return jax.tree.map(choose, initial_carry(policy, len(begins)), carry)


def act(
    policy: Policy, carry: PyTree, keys: PRNGKeyArray, observations: PyTree
) -> tuple[PyTree, Float[Array, " B"], PyTree]:
    """Draw one action for each of B observations.

    Args:
        policy: with or without memory.
        carry: pytree of `[B, ...]`, from `initial_carry` or from the step before.
        keys: `[B]`; consumed.
        observations: pytree of `[B, ...]`.

    Returns:
        Actions, pytree of `[B, ...]`; their log-probabilities `[B]`, nats; the carry.
    """

    def one(carry: PyTree, key: PRNGKeyArray, observation: PyTree) -> Any:
        distribution, carry = step(policy, carry, observation)
        action = distribution.sample(key)
        return action, distribution.log_prob(action), carry

    return narrowed(jax.vmap(one)(carry, keys, observations))


def act_greedily(policy: Policy, carry: PyTree, observations: PyTree) -> tuple[PyTree, PyTree]:
    """The modes of the distributions at B observations, pytree of `[B, ...]`, and the carry."""

    def one(carry: PyTree, observation: PyTree) -> Any:
        distribution, carry = step(policy, carry, observation)
        return distribution.mode(), carry

    return narrowed(jax.vmap(one)(carry, observations))


def step(policy: Policy, carry: PyTree, observation: PyTree) -> tuple[Any, PyTree]:
    """The distribution at one observation, and the carry after it; both unbatched."""
    if isinstance(policy, WithMemory):
        return policy(observation, carry)
    return policy(observation), carry


class Seen(NamedTuple):
    """What a policy reads of a record, cut into units that can be taken in any order.

    A unit is one step for a policy without memory (n = T·B), and one lane for a policy with memory
    (n = B), whose steps follow each other.

    Attributes:
        observations: pytree of `[n, ...]`, or of `[n, T, ...]` with memory.
        begins: `[n, T]`, the first steps of episodes; the empty tuple without memory.
        carry: pytree of `[n, 1, ...]`, of each lane before the first row; the empty tuple without
            memory.
        valid: `[n]`, or `[n, T]` with memory: which rows are steps.
    """

    observations: PyTree
    begins: Any
    carry: PyTree
    valid: Bool[Array, "..."]


def units(policy: Policy, trajectories: Trajectories, *more: PyTree) -> tuple[Any, ...]:
    """A record cut into units, for sums over them in chunks.

    Args:
        policy: decides what a unit is.
        trajectories: T steps of B lanes.
        more: pytrees of `[T, B, ...]`, cut in the same way.

    Returns:
        `Seen`, and `more`: pytrees of `[n, ...]`, or of `[n, T, ...]` with memory.
    """
    if not isinstance(policy, WithMemory):
        return flat_rows((_seen_alone(trajectories), *more))
    begins = jnp.asarray(trajectories.times == 0)
    seen = Seen(trajectories.observations, begins, trajectories.carry, trajectories.valid)
    return jax.tree.map(lambda x: jnp.moveaxis(jnp.asarray(x), 1, 0), (seen, *more))


def _seen_alone(trajectories: Trajectories) -> Seen:
    """What a policy without memory reads, `[T, B, ...]`."""
    return Seen(trajectories.observations, (), (), trajectories.valid)


def without_padding(rows: tuple[Any, ...]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """A function of some of these rows, which puts a copy of a step where there is none.

    What is differentiated reads it in place of rows that are no steps (`core.padding`), and leaves
    them out by `Seen.valid`, which stays as it is.

    Args:
        rows: all, as `units` returns them.
    """
    seen, *more = rows
    step = a_step(seen.valid, (seen.observations, more))

    def of(rows: tuple[Any, ...]) -> tuple[Any, ...]:
        seen, *more = rows
        observations, more = with_steps_alone(seen.valid, (seen.observations, more), step)
        return seen._replace(observations=observations), *more

    return of


def unit_size(policy: Policy, trajectories: Trajectories) -> int:
    """How many units fill a chunk."""
    if isinstance(policy, WithMemory):
        return lanes_of_a_chunk(trajectories)
    return chunk_rows(numbers_of_a_row(trajectories.observations, 2))


def unit_order(policy: Policy, trajectories: Trajectories) -> RowOrder | None:
    """The units that count; None for all, as for a policy with memory."""
    return None if isinstance(policy, WithMemory) else step_order(trajectories)


def lanes_of_a_chunk(trajectories: Trajectories) -> int:
    """How many lanes fill a chunk."""
    rows = chunk_rows(numbers_of_a_row(trajectories.observations, 2))
    return max(1, rows // trajectories.rewards.shape[0])


def distributions_of(policy: Policy, seen: Seen) -> Any:
    """The policy's distributions in some units: a pytree like one, of `[n]` or `[n, T]` each."""
    if not isinstance(policy, WithMemory):
        return jax.vmap(policy)(seen.observations)

    if isinstance(policy, Unrolls):
        unrolled: Any = policy.unrolled
        return jax.vmap(lambda seen: unrolled(seen.observations, seen.begins, _first(seen.carry)))(
            seen
        )

    def lane(seen: Seen) -> Any:
        fresh = policy.initial_carry()

        def step(carry: PyTree, row: tuple[PyTree, Array]) -> tuple[PyTree, Any]:
            observation, begins = row
            carry = jax.tree.map(lambda a, b: jnp.where(begins, a, b), fresh, carry)
            distribution, carry = policy(observation, carry)
            return carry, distribution

        return jax.lax.scan(step, _first(seen.carry), (seen.observations, seen.begins))[1]

    return jax.vmap(lane)(seen)


def _first(carry: PyTree) -> PyTree:
    """The carry of a lane, `[1, ...]`, without the axis of its one row."""
    return jax.tree.map(lambda x: x[0], carry)


def over_steps(policy: Policy, f: Callable[..., Any]) -> Callable[..., Any]:
    """f of one step, mapped over all steps of some units."""
    return jax.vmap(jax.vmap(f)) if isinstance(policy, WithMemory) else jax.vmap(f)


def map_units(
    policy: Policy, f: Callable[[Any], PyTree], trajectories: Trajectories, *more: PyTree
) -> PyTree:
    """f of every unit, a few hundred steps at a time.

    Args:
        policy: decides what a unit is.
        f: (`Seen` of one unit, more) -> pytree of numbers, or of `[T]` with memory. It sees a copy
            of a step where there is none.
        trajectories: T steps of B lanes.
        more: pytrees of `[T, B, ...]`.

    Returns:
        pytree of `[T, B]`.
    """
    if not isinstance(policy, WithMemory):
        rows = (_seen_alone(trajectories), *more)
        filled = without_padding(rows)
        return map_in_chunks(lambda row: f(filled(row)), rows, step_order(trajectories))
    rows = units(policy, trajectories, *more)
    filled, size = without_padding(rows), unit_size(policy, trajectories)
    mapped = jax.lax.map(lambda row: f(filled(row)), rows, batch_size=size)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), mapped)


def distributions(policy: Policy, trajectories: Trajectories) -> Any:
    """The policy's distributions at every step of a record.

    Args:
        policy: with or without memory.
        trajectories: T steps of B lanes, or B whole episodes.

    Returns:
        A pytree like one distribution, of `[T, B, ...]`: the distribution at each recorded
        observation, with the carry that follows from the recorded steps; any on rows that are no
        steps.
    """
    found = unit_distributions(policy, trajectories)
    if isinstance(policy, WithMemory):
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), found)
    steps, lanes = trajectories.rewards.shape
    return jax.tree.map(lambda x: x.reshape(steps, lanes, *x.shape[1:]), found)


def unit_distributions(policy: Policy, trajectories: Trajectories) -> Any:
    """The same in units: a pytree like one distribution, of `[n]`, or `[n, T]` with memory."""
    rows = units(policy, trajectories)
    filled = without_padding(rows)
    return sum_and_map_in_chunks(
        lambda rows: ((), distributions_of(policy, filled(rows)[0])),
        rows,
        unit_size(policy, trajectories),
        unit_order(policy, trajectories),
    )[1]

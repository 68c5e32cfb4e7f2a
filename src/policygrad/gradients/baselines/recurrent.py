"""The value network with memory: a critic that reads the whole episode up to a step."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policygrad.core.modules import combine, split
from policygrad.core.padding import a_step, with_steps_alone
from policygrad.core.trajectories import Trajectories, cut_rows, successor_values
from policygrad.devices.chunks import sum_and_map_in_chunks, sum_in_chunks
from policygrad.gradients.baselines.base import Critic, Encode, FitBatch
from policygrad.gradients.baselines.network import adam, start_adam, usual_for
from policygrad.gradients.minibatches import shuffled_minibatches
from policygrad.policies.architectures import Architecture, build_recurrent
from policygrad.policies.meeting import lanes_of_a_chunk
from policygrad.policies.memory import Memory, RecurrentNetwork
from policygrad.policies.normaliser import CLIP, ObservationNormaliser, update_statistics


class RecurrentValueState(NamedTuple):
    """A fitted value function with memory.

    Attributes:
        normaliser: with its own statistics.
        network: of the normalised observations.
        optimiser: Adam's state.
        carry: pytree of `[B, ...]`, before the first row of the next segment.
    """

    normaliser: ObservationNormaliser
    network: RecurrentNetwork
    optimiser: optax.OptState
    carry: PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RecurrentValueNetwork(Critic):
    """b(s_0 … s_t) = a recurrent network of the normalised observations, fitted by Adam.

    Minibatches are of whole lanes. The gradient goes through time from a segment's end to its
    start. What the memory holds there is taken as given: truncated backpropagation, whose fit
    does not learn to keep what only a later segment needs.
    """

    step_size: float | Float[Array, ""] = 1e-3
    network: Architecture | None = field(default=None, metadata={"static": True})
    memory: Memory = field(default=Memory(), metadata={"static": True})
    epochs: int = field(default=5, metadata={"static": True})
    minibatches: int = field(default=8, metadata={"static": True})
    encode: Callable[[PyTree], Array] | None = field(default=None, metadata={"static": True})
    clip: float = field(default=CLIP, metadata={"static": True})  # of normalised observations

    may_bootstrap = True
    takes_columns = True

    def bind(self, encode: Encode) -> Self:
        return self if self.encode is not None else replace(self, encode=encode)

    def init(self, key: PRNGKeyArray, observation: PyTree) -> RecurrentValueState:
        normaliser = ObservationNormaliser.of(observation, self.encode, clip=self.clip)
        architecture = self.network or usual_for(self.encode)
        network = build_recurrent(architecture, self.memory, key, normaliser, observation, 1)
        carry = jax.tree.map(lambda x: x[None], network.initial_carry())
        return RecurrentValueState(normaliser, network, start_adam(split(network)[0]), carry)

    def for_lanes(self, state: RecurrentValueState, lanes: int) -> RecurrentValueState:
        return state._replace(carry=_initial(state.network, lanes))

    def values_and_successors(
        self, state: RecurrentValueState, trajectories: Trajectories
    ) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
        values, carries = self._unrolled(state, trajectories)
        rows = cut_rows(trajectories)

        def at_cuts(x: Array) -> Array:
            index = rows.reshape(*rows.shape, *[1] * (x.ndim - 2))
            return jnp.take_along_axis(x, index, axis=0)

        def value(observation: PyTree, carry: PyTree) -> Float[Array, ""]:
            return state.network(state.normaliser(observation), carry)[0][0]

        cut_values = jax.vmap(jax.vmap(value))(
            trajectories.cut_observations, jax.tree.map(at_cuts, carries)
        )
        return values, successor_values(values, cut_values, trajectories)

    def predict(
        self,
        state: RecurrentValueState,
        trajectories: Trajectories,
        returns: Float[Array, "T B"],
    ) -> Float[Array, "T B"]:
        return self._unrolled(state, trajectories)[0]

    def fit(
        self, state: RecurrentValueState, key: PRNGKeyArray, batch: FitBatch
    ) -> RecurrentValueState:
        """Regress the returns by passes over minibatches of lanes."""
        record = batch.trajectories
        normaliser = update_statistics(state.normaliser, record.observations, record.valid)
        start = self._start(state, record)
        data = _by_lane(start, record, record.valid, batch.returns, batch.steps)
        _, observations, _, valid, targets, _ = data
        step = a_step(valid, (observations, targets))
        optimiser = adam(self.step_size)
        learned, carried = split(state.network)
        size = lanes_of_a_chunk(record)

        def loss(learned: PyTree, lanes: PyTree) -> Float[Array, ""]:
            carry, observations, begins, valid, targets, weights = lanes
            observations, targets = with_steps_alone(valid, (observations, targets), step)
            network: Any = combine(learned, carried)
            outputs, _ = jax.vmap(partial(network.unrolled, normaliser))(
                observations, begins, carry
            )
            return 0.5 * jnp.sum(weights * (outputs[..., 0] - targets) ** 2)

        def minibatch(carry: PyTree, lanes: Int[Array, " m"]) -> tuple[PyTree, None]:
            learned, optimiser_state = carry
            some = jax.tree.map(lambda x: x[lanes], data)
            total = sum_in_chunks(partial(jax.grad(loss), learned), some, size)
            weight = jnp.maximum(jnp.sum(some[-1]), 1e-12)
            gradient = jax.tree.map(lambda g: g / weight.astype(g.dtype), total)
            updates, optimiser_state = optimiser.update(gradient, optimiser_state)
            return (eqx.apply_updates(learned, updates), optimiser_state), None

        lanes = shuffled_minibatches(key, record.rewards.shape[1], self.epochs, self.minibatches)
        (learned, optimiser_state), _ = jax.lax.scan(minibatch, (learned, state.optimiser), lanes)
        network: Any = combine(learned, carried)
        return state._replace(normaliser=normaliser, network=network, optimiser=optimiser_state)

    def advance(
        self, state: RecurrentValueState, trajectories: Trajectories
    ) -> RecurrentValueState:
        if trajectories.whole_episodes:
            return state
        _, carries = self._unrolled(state, trajectories)
        return state._replace(carry=jax.tree.map(lambda x: x[-1], carries))

    def _unrolled(
        self, state: RecurrentValueState, trajectories: Trajectories
    ) -> tuple[Float[Array, "T B"], PyTree]:
        """The values, `[T, B]`, and the carry after every row, `[T, B, ...]`."""
        lanes = _by_lane(self._start(state, trajectories), trajectories)

        def unroll(lanes: PyTree) -> tuple[tuple[()], PyTree]:
            carry, observations, begins = lanes
            outputs, carries = jax.vmap(partial(state.network.unrolled, state.normaliser))(
                observations, begins, carry
            )
            return (), (outputs[..., 0], carries)

        _, found = sum_and_map_in_chunks(unroll, lanes, lanes_of_a_chunk(trajectories))
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), found)

    def _start(self, state: RecurrentValueState, trajectories: Trajectories) -> PyTree:
        """The carry before the first row, `[B, ...]`."""
        if trajectories.whole_episodes:
            return _initial(state.network, trajectories.rewards.shape[1])
        return state.carry


def _initial(network: RecurrentNetwork, lanes: int) -> PyTree:
    """The carry of B lanes at the start of an episode."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (lanes, *x.shape)), network.initial_carry())


def _by_lane(carry: PyTree, trajectories: Trajectories, *more: Array) -> tuple[PyTree, ...]:
    """The carry `[B, ...]`, and observations, beginnings of episodes and more, `[B, T, ...]`."""
    rows = trajectories.observations, trajectories.times == 0, *more
    return carry, *jax.tree.map(lambda x: jnp.moveaxis(jnp.asarray(x), 1, 0), rows)

"""The value network: a critic with its own observation statistics and its own optimiser."""

import math
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
from policygrad.core.trajectories import Trajectories
from policygrad.devices.chunks import (
    chunk_rows,
    flat_rows,
    map_in_chunks,
    numbers_of_a_row,
    sum_in_chunks,
    total,
)
from policygrad.devices.compiled_code import compiled
from policygrad.devices.order import step_order
from policygrad.gradients.baselines.base import Encode, Regression
from policygrad.gradients.minibatches import minibatches
from policygrad.policies.architectures import Architecture, FullyConnected, Network, build, usual
from policygrad.policies.normaliser import ObservationNormaliser, update_statistics

LARGE_FEATURES = 4096  # numbers

start_adam = compiled(optax.adam(1.0).init)  # one function, so that it compiles once a shape


class ValueState(NamedTuple):
    """A fitted value function, and the state of its optimiser."""

    normaliser: ObservationNormaliser
    network: Network
    optimiser: optax.OptState


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ValueNetwork(Regression):
    """b(s) = a network of the normalised observation, fitted by minibatch Adam.

    Without a `network` it takes the usual one for the observations that `encode` reads.
    """

    step_size: float | Float[Array, ""] = 1e-3
    network: Architecture | None = field(default=None, metadata={"static": True})
    epochs: int = field(default=5, metadata={"static": True})
    minibatches: int = field(default=8, metadata={"static": True})
    encode: Callable[[PyTree], Array] | None = field(default=None, metadata={"static": True})

    may_bootstrap = True

    def bind(self, encode: Encode) -> Self:
        return self if self.encode is not None else replace(self, encode=encode)

    def init(self, key: PRNGKeyArray, observation: PyTree) -> ValueState:
        normaliser = ObservationNormaliser.of(observation, self.encode)
        architecture = self.network or usual_for(self.encode)
        network = build(architecture, key, normaliser, observation, 1)
        return ValueState(normaliser, network, start_adam(split(network)[0]))

    def value(
        self, state: ValueState, observation: PyTree, time: Int[Array, ""]
    ) -> Float[Array, ""]:
        return state.network(state.normaliser(observation))[0]

    def regress(
        self,
        state: ValueState,
        key: PRNGKeyArray,
        trajectories: Trajectories,
        targets: Float[Array, "T B"],
        weights: Float[Array, "T B"],
    ) -> ValueState:
        # The statistics are updated first. Unlike a policy's they need not agree with what acted,
        # and weights that were fitted under old statistics would be wrong under the new ones.
        normaliser = update_statistics(
            state.normaliser, trajectories.observations, trajectories.valid
        )
        observations, seen, order = trajectories.observations, normaliser, step_order(trajectories)
        if not is_large(normaliser, observations):  # then all rows are normalised once
            observations, seen = map_in_chunks(normaliser, observations, order), lambda x: x
        data = flat_rows((observations, targets, weights))
        optimiser = adam(self.step_size)
        learned, carried = split(state.network)

        def loss(learned: PyTree, rows: tuple[PyTree, Array, Array]) -> Float[Array, ""]:
            x, y, w = rows
            network: Any = combine(learned, carried)
            values = jax.vmap(lambda x: network(seen(x)))(x)[:, 0]
            return 0.5 * jnp.sum(w * (values - y) ** 2)

        def minibatch(carry, which: Any):
            learned, optimiser_state = carry
            batch, some = batches.take(which, data)
            summed = sum_in_chunks(partial(jax.grad(loss), learned), batch, batches.size, some)
            weight = jnp.maximum(total(batch[2], some), 1e-12)
            gradient = jax.tree.map(lambda g: g / weight.astype(g.dtype), summed)
            updates, optimiser_state = optimiser.update(gradient, optimiser_state)
            return (eqx.apply_updates(learned, updates), optimiser_state), None

        size = chunk_rows(numbers_of_a_row(data))
        batches = minibatches(key, targets.size, self.epochs, self.minibatches, size, order)
        start = learned, state.optimiser
        (learned, optimiser_state), _ = jax.lax.scan(minibatch, start, batches.which)
        network: Any = combine(learned, carried)
        return ValueState(normaliser, network, optimiser_state)


def adam(step_size: Any) -> optax.GradientTransformation:
    """The optimiser of value networks."""
    return optax.adam(step_size)


def usual_for(encode: Callable | None) -> Architecture:
    """The architecture for what an encoder reads, where none was chosen."""
    space = getattr(encode, "space", None)
    return FullyConnected() if space is None else usual(space)


def is_large(normaliser: ObservationNormaliser, observations: PyTree) -> bool:
    """Whether the features of a batch would take so much memory that they are made chunk by chunk.

    Those of pictures would be four times the bytes that the record holds.

    Args:
        normaliser: makes the features.
        observations: pytree of `[T, B, ...]`.
    """
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), observations)
    features = jax.eval_shape(normaliser, one)
    return sum(math.prod(x.shape) for x in jax.tree.leaves(features)) > LARGE_FEATURES

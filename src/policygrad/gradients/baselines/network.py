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
from policygrad.core.padding import a_step, with_steps_alone
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
from policygrad.policies.normaliser import CLIP, ObservationNormaliser, update_statistics

LARGE_FEATURES = 4096  # numbers

start_adam = compiled(optax.adam(1.0).init)  # one function, so that it compiles once a shape


class ValueState(NamedTuple):
    """A fitted value function, and the state of its optimiser."""

    normaliser: ObservationNormaliser
    network: Network
    optimiser: optax.OptState


@dataclass(frozen=True)
class FittedNetwork(Regression):
    """A network of the normalised observation, fitted by minibatch Adam.

    Without a `network` it takes the usual one for the observations that `encode` reads.
    """

    step_size: float | Float[Array, ""] = 1e-3
    network: Architecture | None = field(default=None, metadata={"static": True})
    epochs: int = field(default=5, metadata={"static": True})
    minibatches: int = field(default=8, metadata={"static": True})
    encode: Callable[[PyTree], Array] | None = field(default=None, metadata={"static": True})
    clip: float = field(default=CLIP, metadata={"static": True})  # of normalised observations

    def bind(self, encode: Encode) -> Self:
        return self if self.encode is not None else replace(self, encode=encode)

    def start(
        self, key: PRNGKeyArray, observation: PyTree, outputs: int, *, last_scale: float = 1.0
    ) -> ValueState:
        """A fresh network with so many outputs. Consumes the key."""
        normaliser = ObservationNormaliser.of(observation, self.encode, clip=self.clip)
        architecture = self.network or usual_for(self.encode)
        network = build(architecture, key, normaliser, observation, outputs, last_scale=last_scale)
        return ValueState(normaliser, network, start_adam(split(network)[0]))

    def descend(
        self,
        state: ValueState,
        key: PRNGKeyArray,
        trajectories: Trajectories,
        targets: Float[Array, "T B"],
        weights: Float[Array, "T B"],
        error: Callable[[Array, Array], Array],
    ) -> ValueState:
        """The network after minibatch Adam on Σ w error(outputs, target) / Σ w.

        Args:
            state, key, trajectories, targets, weights: as in `regress`.
            error: (outputs `[outputs]`, target `[]`) -> `[]`.
        """
        # The statistics are updated first. Unlike a policy's they need not agree with what acted,
        # and weights that were fitted under old statistics would be wrong under the new ones.
        normaliser = update_statistics(
            state.normaliser, trajectories.observations, trajectories.valid
        )
        observations, seen, order = trajectories.observations, normaliser, step_order(trajectories)
        if not is_large(normaliser, observations):  # then all rows are normalised once
            observations, seen = map_in_chunks(normaliser, observations, order), lambda x: x
        data = flat_rows((observations, targets, weights))
        size = chunk_rows(numbers_of_a_row(data))
        valid = flat_rows(trajectories.valid)
        step = a_step(valid, data[:2])
        optimiser = adam(self.step_size)
        learned, carried = split(state.network)

        def loss(learned: PyTree, rows: PyTree) -> Float[Array, ""]:
            valid, (x, y, w) = rows
            x, y = with_steps_alone(valid, (x, y), step)
            network: Any = combine(learned, carried)
            errors = jax.vmap(lambda x, y: error(network(seen(x)), y))(x, y)
            return jnp.sum(w * errors)

        def minibatch(carry, which: Any):
            learned, optimiser_state = carry
            batch, some = batches.take(which, (valid, data))
            summed = sum_in_chunks(partial(jax.grad(loss), learned), batch, batches.size, some)
            weight = jnp.maximum(total(batch[1][2], some), 1e-12)
            gradient = jax.tree.map(lambda g: g / weight.astype(g.dtype), summed)
            updates, optimiser_state = optimiser.update(gradient, optimiser_state)
            return (eqx.apply_updates(learned, updates), optimiser_state), None

        batches = minibatches(key, targets.size, self.epochs, self.minibatches, size, order)
        start = learned, state.optimiser
        (learned, optimiser_state), _ = jax.lax.scan(minibatch, start, batches.which)
        network: Any = combine(learned, carried)
        return ValueState(normaliser, network, optimiser_state)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ValueNetwork(FittedNetwork):
    """b(s) = a network of the normalised observation, fitted to ½(b(s_t) − target_t)²."""

    may_bootstrap = True

    def init(self, key: PRNGKeyArray, observation: PyTree) -> ValueState:
        return self.start(key, observation, 1)

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
        return self.descend(state, key, trajectories, targets, weights, _half_square)


def _half_square(outputs: Float[Array, " 1"], target: Float[Array, ""]) -> Float[Array, ""]:
    return 0.5 * (outputs[0] - target) ** 2


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

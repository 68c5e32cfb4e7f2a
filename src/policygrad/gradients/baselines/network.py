"""The value network: a critic with its own observation statistics and its own optimiser."""

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
from policygrad.devices.chunks import flat_rows, map_in_chunks, sum_in_chunks
from policygrad.devices.compiled_code import compiled
from policygrad.gradients.baselines.base import Encode, Regression
from policygrad.policies.architectures import Architecture, FullyConnected, Network, build
from policygrad.policies.normaliser import ObservationNormaliser, update_statistics

_start_adam = compiled(optax.adam(1.0).init)  # one function, so that it compiles once a shape


class ValueState(NamedTuple):
    """A fitted value function, and the state of its optimiser."""

    normaliser: ObservationNormaliser
    network: Network
    optimiser: optax.OptState


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ValueNetwork(Regression):
    """b(s) = a network of the normalised observation, fitted by minibatch Adam."""

    step_size: float | Float[Array, ""] = 1e-3
    network: Architecture = field(default=FullyConnected(), metadata={"static": True})
    epochs: int = field(default=5, metadata={"static": True})
    minibatches: int = field(default=8, metadata={"static": True})
    encode: Callable[[PyTree], Array] | None = field(default=None, metadata={"static": True})

    may_bootstrap = True

    def bind(self, encode: Encode) -> Self:
        return self if self.encode is not None else replace(self, encode=encode)

    def init(self, key: PRNGKeyArray, observation: PyTree) -> ValueState:
        normaliser = ObservationNormaliser.of(observation, self.encode)
        network = build(self.network, key, normaliser, observation, 1)
        return ValueState(normaliser, network, _start_adam(split(network)[0]))

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.step_size)

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
        data = flat_rows((map_in_chunks(normaliser, trajectories.observations), targets, weights))
        optimiser = self._optimiser()
        learned, carried = split(state.network)

        def loss(learned: PyTree, rows: tuple[PyTree, Array, Array]) -> Float[Array, ""]:
            x, y, w = rows
            network: Any = combine(learned, carried)
            return 0.5 * jnp.sum(w * (jax.vmap(network)(x)[:, 0] - y) ** 2)

        def minibatch(carry, rows: Int[Array, " m"]):
            learned, optimiser_state = carry
            batch = data if len(rows) == targets.size else jax.tree.map(lambda x: x[rows], data)
            total = sum_in_chunks(partial(jax.grad(loss), learned), batch)
            weight = jnp.maximum(jnp.sum(batch[2]), 1e-12)
            gradient = jax.tree.map(lambda g: g / weight.astype(g.dtype), total)
            updates, optimiser_state = optimiser.update(gradient, optimiser_state)
            return (eqx.apply_updates(learned, updates), optimiser_state), None

        rows = shuffled_minibatches(key, targets.size, self.epochs, self.minibatches)
        (learned, optimiser_state), _ = jax.lax.scan(minibatch, (learned, state.optimiser), rows)
        network: Any = combine(learned, carried)
        return ValueState(normaliser, network, optimiser_state)


def shuffled_minibatches(
    key: PRNGKeyArray, rows: int, epochs: int, minibatches: int
) -> Int[Array, "steps m"]:
    """Row indices of `epochs` passes over `rows` rows; each pass is shuffled. Consumes the key.

    Each pass is cut into at most `minibatches` parts of equal size; the few rows left over are
    left out of that pass.
    """
    parts = min(minibatches, rows)
    size = rows // parts
    if parts == 1:  # every step sees all rows, whatever their order
        return jnp.broadcast_to(jnp.arange(rows), (epochs, rows))
    # one sort of random bits; jax.random.permutation sorts twice and compiles twice as long
    orders = jnp.argsort(jax.random.bits(key, (epochs, rows), jnp.uint32), axis=1)
    return orders[:, : parts * size].reshape(epochs * parts, size)

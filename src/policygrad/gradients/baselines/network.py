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

from policygrad.core.trajectories import Trajectories
from policygrad.devices.chunks import flat_rows, sum_in_chunks
from policygrad.gradients.baselines.base import Encode, Regression
from policygrad.policies.networks import MLP, mlp
from policygrad.policies.normaliser import ObservationNormaliser, update_statistics
from policygrad.spaces import flat

_start_adam = jax.jit(optax.adam(1.0).init)  # one function, so that it compiles once a shape


class ValueState(NamedTuple):
    """A fitted value function and what fits it."""

    normaliser: ObservationNormaliser
    network: MLP
    optimiser: optax.OptState


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ValueNetwork(Regression):
    """b(s) = a tanh network of the normalised observation, fitted by minibatch Adam."""

    step_size: float | Float[Array, ""] = 1e-3
    hidden: tuple[int, ...] = field(default=(64, 64), metadata={"static": True})
    epochs: int = field(default=5, metadata={"static": True})
    minibatches: int = field(default=8, metadata={"static": True})
    encode: Callable[[PyTree], Array] | None = field(default=None, metadata={"static": True})

    may_bootstrap = True

    def bind(self, encode: Encode) -> Self:
        return self if self.encode is not None else replace(self, encode=encode)

    def init(self, key: PRNGKeyArray, observation: PyTree) -> ValueState:
        normaliser = ObservationNormaliser.of(observation, self.encode)
        inputs = jax.eval_shape(lambda x: flat(normaliser(x)), observation).size
        network = mlp(key, inputs, 1, self.hidden)
        params: Any = network  # a pytree of arrays, which optax's types do not foresee
        return ValueState(normaliser, network, _start_adam(params))

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
        # The statistics first: unlike a policy's they need not agree with what acted, and weights
        # fitted under others would be off as soon as these replaced them.
        normaliser = update_statistics(
            state.normaliser, trajectories.observations, trajectories.valid
        )
        inputs = jax.vmap(normaliser)(flat_rows(trajectories.observations))
        data = inputs, targets.reshape(-1), weights.reshape(-1)
        optimiser = self._optimiser()

        def loss(network: MLP, rows: tuple[PyTree, Array, Array]) -> Float[Array, ""]:
            x, y, w = rows
            return 0.5 * jnp.sum(w * (jax.vmap(network)(x)[:, 0] - y) ** 2)

        def minibatch(carry, rows: Int[Array, " m"]):
            network, optimiser_state = carry
            batch = data if len(rows) == targets.size else jax.tree.map(lambda x: x[rows], data)
            total = sum_in_chunks(partial(jax.grad(loss), network), batch)
            weight = jnp.maximum(jnp.sum(batch[2]), 1e-12)
            gradient = jax.tree.map(lambda g: g / weight.astype(g.dtype), total)
            updates, optimiser_state = optimiser.update(gradient, optimiser_state)
            return (eqx.apply_updates(network, updates), optimiser_state), None

        rows = shuffled_minibatches(key, targets.size, self.epochs, self.minibatches)
        (network, optimiser_state), _ = jax.lax.scan(
            minibatch, (state.network, state.optimiser), rows
        )
        return ValueState(normaliser, network, optimiser_state)


def shuffled_minibatches(
    key: PRNGKeyArray, rows: int, epochs: int, minibatches: int
) -> Int[Array, "steps m"]:
    """Row indices of `epochs` passes over `rows` rows, shuffled anew for each. Consumes the key.

    Each pass is cut into at most `minibatches` parts of equal size; the few rows left over are
    left out of that pass.
    """
    parts = min(minibatches, rows)
    size = rows // parts
    if parts == 1:  # every step sees all rows, whatever their order
        return jnp.broadcast_to(jnp.arange(rows), (epochs, rows))
    # one sort of random bits; jax.random.permutation sorts twice and compiles twice as long
    orders = jnp.argsort(jax.random.bits(key, (epochs, rows)), axis=1)
    return orders[:, : parts * size].reshape(epochs * parts, size)

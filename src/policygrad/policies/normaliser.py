"""Running statistics of observations, and the normaliser in front of a network."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from policygrad.core.modules import Carried


def flatten_observation(observation: PyTree) -> Float[Array, " f"]:
    """One float vector from a pytree of numbers: the encoding of plain Box observations."""
    leaves = [jnp.ravel(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(observation)]
    return jnp.concatenate(leaves)


class RunningStatistics(NamedTuple):
    """Mean and variance of everything seen so far.

    Attributes:
        rows_seen: `[]`, the number of rows seen.
        mean: `[f]`.
        variance: `[f]`, of the population (divided by rows_seen). One before anything was seen.
    """

    rows_seen: Float[Array, ""]
    mean: Float[Array, "*f"]
    variance: Float[Array, "*f"]

    @classmethod
    def init(cls, shape: tuple[int, ...]) -> "RunningStatistics":
        """Statistics of nothing: mean 0, variance 1."""
        # made by NumPy: each shape that JAX fills would be a compilation of its own at start-up
        zero, zeros, ones = (np.float32(0), np.zeros(shape, np.float32), np.ones(shape, np.float32))
        return cls(jnp.asarray(zero), jnp.asarray(zeros), jnp.asarray(ones))

    def update(self, rows: Float[Array, "n *f"], valid: Bool[Array, " n"]) -> "RunningStatistics":
        """Take in the valid rows, by the parallel update of Chan, Golub & LeVeque (1979)."""
        weight = valid.astype(rows.dtype).reshape(-1, *[1] * (rows.ndim - 1))
        seen = jnp.sum(weight)
        rows = jnp.where(weight > 0, rows, 0.0)
        mean = jnp.sum(rows, axis=0) / jnp.maximum(seen, 1)
        variance = jnp.sum(weight * (rows - mean) ** 2, axis=0) / jnp.maximum(seen, 1)
        count = self.rows_seen + seen
        new, old = seen / jnp.maximum(count, 1), self.rows_seen / jnp.maximum(count, 1)
        delta = mean - self.mean
        updated = RunningStatistics(
            count,
            self.mean + delta * new,
            old * self.variance + new * variance + old * new * delta**2,
        )
        return jax.tree.map(lambda a, b: jnp.where(seen > 0, a, b), updated, self)


class ObservationNormaliser(eqx.Module):
    """Raw observation -> normalised float vector. Put one in front of any network.

    x ↦ clip((x − mean) / √(variance + 1e−8), ±clip). The statistics are carried, not
    differentiated, and `update_statistics` updates them after each batch was used.

    Attributes:
        statistics: carried running statistics of the encoded observations.
        encode: observation -> `[f]`; static.
        normalised: `[f]` flags; entries that are not (one-hot ones, say) pass unchanged; static.
        clip: bound of what comes out; static.
    """

    statistics: Carried[RunningStatistics]
    encode: Callable[[PyTree], Float[Array, " f"]] = eqx.field(static=True)
    normalised: tuple[bool, ...] | None = eqx.field(static=True, default=None)
    clip: float = eqx.field(static=True, default=10.0)

    @classmethod
    def of(cls, observation: PyTree, encode: Callable | None = None) -> "ObservationNormaliser":
        """For observations like this one. An encoder may name what it does not want normalised."""
        encode = encode or flatten_observation
        shape = jax.eval_shape(encode, observation).shape
        normalised = getattr(encode, "normalised", None)
        return cls(Carried(RunningStatistics.init(shape)), encode, normalised)

    @property
    def normalises(self) -> bool:
        """Whether any entry is normalised at all."""
        return self.normalised is None or any(self.normalised)

    def __call__(self, observation: PyTree) -> Float[Array, " f"]:
        _, mean, variance = jax.lax.stop_gradient(self.statistics.value)
        x = self.encode(observation)
        z = jnp.clip((x - mean) / jnp.sqrt(variance + 1e-8), -self.clip, self.clip)
        return z if self.normalised is None else jnp.where(np.array(self.normalised), z, x)

    def update(self, observations: PyTree, valid: Bool[Array, "T B"]) -> "ObservationNormaliser":
        """The normaliser after seeing the valid ones of observations `[T, B, ...]`."""
        rows = jax.vmap(jax.vmap(self.encode))(observations)
        statistics = self.statistics.value.update(
            rows.reshape(-1, rows.shape[-1]), valid.reshape(-1)
        )
        return eqx.tree_at(lambda m: m.statistics, self, Carried(statistics))


def update_statistics(module: PyTree, observations: PyTree, valid: Bool[Array, "T B"]) -> PyTree:
    """A module with every `ObservationNormaliser` inside it updated; anything else is untouched."""

    def is_normaliser(node: object) -> bool:
        return isinstance(node, ObservationNormaliser)

    return jax.tree.map(
        lambda node: node.update(observations, valid) if is_normaliser(node) else node,
        module,
        is_leaf=is_normaliser,
    )

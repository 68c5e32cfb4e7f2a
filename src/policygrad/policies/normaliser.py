"""Running statistics of observations, and the normaliser in front of a network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from policygrad.core.checks import positive
from policygrad.core.modules import Carried
from policygrad.devices.chunks import flat_rows


def flatten_observation(observation: PyTree) -> Float[Array, " f"]:
    """One float vector from a pytree of numbers: the encoding of plain Box observations."""
    leaves = [jnp.ravel(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(observation)]
    return jnp.concatenate(leaves)


class RunningStatistics(NamedTuple):
    """Mean and variance of everything seen so far.

    Attributes:
        rows_seen: `[]`, the number of rows seen.
        mean: pytree of `[*f]`, in most cases one vector. None in place of arrays without
            statistics.
        variance: like the mean, of the population (divided by rows_seen). One before the first row.
    """

    rows_seen: Float[Array, ""]
    mean: PyTree
    variance: PyTree

    @classmethod
    def init(cls, shape: tuple[int, ...]) -> "RunningStatistics":
        """Statistics before the first row, mean 0 and variance 1, for rows of one shape."""
        return cls.of(jax.ShapeDtypeStruct(shape, np.float32))

    @classmethod
    def of(cls, example: PyTree) -> "RunningStatistics":
        """Statistics before the first row, for rows whose arrays have the shapes of these."""

        # made by NumPy: JAX would compile a program for each shape at start-up
        def filled(value: float) -> PyTree:
            return jax.tree.map(lambda x: jnp.asarray(np.full(x.shape, value, np.float32)), example)

        return cls(jnp.asarray(np.float32(0)), filled(0), filled(1))

    def update(self, rows: PyTree, valid: Bool[Array, " n"]) -> "RunningStatistics":
        """Take in the valid rows, by the parallel update of Chan, Golub & LeVeque (1979).

        Args:
            rows: pytree of `[n, *f]`, of the mean's structure.
            valid: `[n]`.
        """
        weight = valid.astype(self.rows_seen.dtype)
        seen = jnp.sum(weight)
        count = self.rows_seen + seen
        new, old = seen / jnp.maximum(count, 1), self.rows_seen / jnp.maximum(count, 1)

        def moments(x: Array, mean: Array, variance: Array) -> tuple[Array, Array]:
            w = weight.reshape(-1, *[1] * (x.ndim - 1))
            x = jnp.where(w > 0, x, 0.0)
            batch_mean = jnp.sum(x, axis=0) / jnp.maximum(seen, 1)
            batch_variance = jnp.sum(w * (x - batch_mean) ** 2, axis=0) / jnp.maximum(seen, 1)
            delta = batch_mean - mean
            return mean + delta * new, old * variance + new * batch_variance + old * new * delta**2

        leaves, structure = jax.tree.flatten(rows)
        means, variances = jax.tree.leaves(self.mean), jax.tree.leaves(self.variance)
        updated = [moments(*of_leaf) for of_leaf in zip(leaves, means, variances, strict=True)]
        statistics = RunningStatistics(
            count,
            structure.unflatten([mean for mean, _ in updated]),
            structure.unflatten([variance for _, variance in updated]),
        )
        return jax.tree.map(lambda a, b: jnp.where(seen > 0, a, b), statistics, self)


LEAST_SPREAD = 2.0**-21  # four times what two numbers of 32 bits are apart, relative to their size
LARGE = 1e6
CLIP = 10.0  # the usual bound of normalised observations

Flag = bool | tuple[bool, ...]  # of an array as a whole, or of each entry of a vector


class ObservationNormaliser(eqx.Module):
    """Raw observation -> normalised arrays, or one vector. Put one in front of any network.

    x ↦ clip((x − mean) / spread, ±clip), with the spread of `spreads`. The statistics are carried,
    not differentiated, and `update_statistics` updates them after each batch was used.

    Attributes:
        statistics: carried running statistics of the encoder's output; None in place of arrays that
            are not normalised.
        encode: observation -> a pytree of arrays, or one vector `[f]`; static.
        normalised: a flag for each array; or a flag for each entry of it, if some entries (such as
            one-hot ones) pass unchanged; static.
        clip: bound of the output; static.
        small_spreads: False reads spreads below 1e−4 as 1e−4, as policies did that earlier versions
            saved; static.
    """

    statistics: Carried[RunningStatistics]
    encode: Callable[[PyTree], PyTree] = eqx.field(static=True)
    normalised: tuple[Flag, ...] = eqx.field(static=True)
    clip: float = eqx.field(static=True, default=CLIP)
    small_spreads: bool = eqx.field(static=True, default=True)

    @classmethod
    def of(
        cls,
        observation: PyTree,
        encode: Callable | None = None,
        *,
        normalise: bool = True,
        clip: float = CLIP,
    ) -> "ObservationNormaliser":
        """A normaliser for observations like this one.

        Args:
            observation: an example; its numbers do not matter.
            encode: observation -> a pytree of arrays; None flattens into one vector. Its attribute
                `normalised`, if it has one, names what is not normalised: a flag for each array,
                or for each entry of the one vector.
            normalise: False passes the encoder's output on unchanged.
            clip: bound of what is normalised, in standard deviations.

        Raises:
            ValueError: the encoder's flags do not fit its output, or a bound that is not positive.
        """
        positive("clip", clip)
        encode = encode or flatten_observation
        leaves, structure = jax.tree.flatten(jax.eval_shape(encode, observation))
        shapes = [leaf.shape for leaf in leaves]
        flags = _flags(getattr(encode, "normalised", None), shapes) if normalise else ()
        flags = flags or (False,) * len(shapes)
        kept = [x if _any(flag) else None for x, flag in zip(leaves, flags, strict=True)]
        return cls(
            Carried(RunningStatistics.of(structure.unflatten(kept))), encode, flags, float(clip)
        )

    @property
    def normalises(self) -> bool:
        """Whether anything is normalised at all."""
        return any(map(_any, self.normalised))

    def __call__(self, observation: PyTree) -> PyTree:
        _, mean, variance = jax.lax.stop_gradient(self.statistics.value)
        leaves, structure = jax.tree.flatten(self.encode(observation))
        means, variances = structure.flatten_up_to(mean), structure.flatten_up_to(variance)

        def one(x: Array, mean: Array, variance: Array, flag: Flag) -> Array:
            if not _any(flag):
                return x
            z = jnp.clip((x - mean) / self.spreads(mean, variance), -self.clip, self.clip)
            return z if flag is True else jnp.where(np.array(flag), z, x)

        of_leaves = zip(leaves, means, variances, self.normalised, strict=True)
        return structure.unflatten([one(*of_leaf) for of_leaf in of_leaves])

    def spreads(self, mean: Array, variance: Array) -> Array:
        """What deviations from the mean are divided by: √(variance + 1e−8) from 0.01 on.

        Below, less is added where the mean is small, so that small signals are measured too. What
        is added keeps the rounding errors of a constant's mean small.
        """
        added: Any = 1e-8
        if self.small_spreads:
            added = jnp.clip((mean * 2.0**-13) ** 2, 1e-30, added)
            added = jnp.where(variance >= 1e-4, 1e-8, added)
        return jnp.sqrt(variance + added)

    def update(self, observations: PyTree, valid: Bool[Array, "T B"]) -> "ObservationNormaliser":
        """The normaliser after seeing the valid ones of observations `[T, B, ...]`."""
        encoded = jax.vmap(jax.vmap(self.encode))(observations)
        leaves, structure = jax.tree.flatten(encoded)
        rows = [
            flat_rows(x) if _any(flag) else None
            for x, flag in zip(leaves, self.normalised, strict=True)
        ]
        statistics = self.statistics.value.update(structure.unflatten(rows), valid.reshape(-1))
        return eqx.tree_at(lambda m: m.statistics, self, Carried(statistics))


def _any(flag: Flag) -> bool:
    return flag if isinstance(flag, bool) else any(flag)


def _flags(given: Any, shapes: list[tuple[int, ...]]) -> tuple[Flag, ...]:
    """A flag for each array, or for each entry of the one vector, from what an encoder names."""
    if given is None:
        return (True,) * len(shapes)
    flags = tuple(bool(flag) for flag in given)
    if len(flags) == len(shapes):
        return flags
    if shapes == [(len(flags),)]:
        return (flags,)
    raise ValueError(
        f"the encoder's `normalised` holds {len(flags)} flags, but it gives arrays of the shapes "
        f"{shapes}: name a flag for each array, or for each entry of one vector"
    )


def unresolved_components(module: PyTree) -> list[str]:
    """What the normalisers inside a module cannot tell apart: components, with mean and spread.

    They vary by no more than a few numbers of 32 bits at their size, if they vary at all. Only
    components of a size above a million are named, because there are many smaller constants. Not
    for use inside compiled code.

    Returns:
        Descriptions such as `['clock'][0]: around 1.7e+09, where numbers of 32 bits are 128 apart`.
    """
    found: list[str] = []
    nodes = jax.tree.leaves(module, is_leaf=_is_normaliser)
    for normaliser in filter(_is_normaliser, nodes):
        seen, means, variances = normaliser.statistics.value
        if not seen > 0:
            continue
        leaves, _ = jax.tree_util.tree_flatten_with_path(means)
        for (path, mean), variance in zip(leaves, jax.tree.leaves(variances), strict=True):
            mean, spread = np.asarray(mean, np.float64), np.sqrt(np.asarray(variance, np.float64))
            lost = (np.abs(mean) > LARGE) & (spread <= np.abs(mean) * LEAST_SPREAD)
            for place in np.argwhere(lost):
                at = float(mean[tuple(place)])
                name = jax.tree_util.keystr(path) + "".join(f"[{i}]" for i in place)
                apart = abs(float(np.spacing(np.float32(at))))
                found.append(
                    f"{name}: around {at:.7g}, where numbers of 32 bits are {apart:g} apart"
                )
    return found


def _is_normaliser(node: object) -> bool:
    return isinstance(node, ObservationNormaliser)


def update_statistics(module: PyTree, observations: PyTree, valid: Bool[Array, "T B"]) -> PyTree:
    """A module with every `ObservationNormaliser` inside it updated; anything else is untouched."""

    return jax.tree.map(
        lambda node: node.update(observations, valid) if _is_normaliser(node) else node,
        module,
        is_leaf=_is_normaliser,
    )

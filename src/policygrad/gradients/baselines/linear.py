"""The linear baseline: ridge regression on a few features of observation and time."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policygrad.core.errors import UserError
from policygrad.core.trajectories import Trajectories
from policygrad.gradients.baselines.base import Encode, Regression, weighted_mean
from policygrad.policies.normaliser import flatten_observation
from policygrad.spaces import flat

MOST_FEATURES = 10_000


class LinearState(NamedTuple):
    """Coefficients of the standardised features, and the statistics that standardise them.

    Attributes:
        centre, scale: `[p]`, weighted mean and standard deviation of each feature at the last fit.
        coefficients: `[p]`.
        intercept: `[]`, the weighted mean of the targets.
    """

    centre: Float[Array, " p"]
    scale: Float[Array, " p"]
    coefficients: Float[Array, " p"]
    intercept: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LinearFeatures(Regression):
    """b(s, t) = βᵀ[1, s, s²/2, t, t², t³], by ridge regression on standardised features.

    Features are standardised, with t in units of 100 steps. Without that, t³ would lose the fit in
    float32. The ridge is relative to the variance of each feature.

    Raises:
        UserError: in `init`, more features than a matrix of their products has room for.
    """

    ridge: float | Float[Array, ""] = 1e-6
    encode: Callable[[PyTree], Array] | None = field(default=None, metadata={"static": True})

    may_bootstrap = True

    def features(self, observation: PyTree, time: Int[Array, ""]) -> Float[Array, " p"]:
        """`[p]`: s, s²/2, t, t², t³ (the 1 is the intercept)."""
        s = flat((self.encode or flatten_observation)(observation))
        t = jnp.asarray(time, s.dtype) / 100
        return jnp.concatenate([s, s**2 / 2, jnp.stack([t, t**2, t**3])])

    def bind(self, encode: Encode) -> Self:
        return self if self.encode is not None else replace(self, encode=encode)

    def init(self, key: PRNGKeyArray, observation: PyTree) -> LinearState:
        p = jax.eval_shape(self.features, observation, 0).shape
        if p[0] > MOST_FEATURES:
            raise UserError(
                f"a linear regression takes at most {MOST_FEATURES:,} features, and these "
                f"observations have {p[0]:,}; take another baseline, such as value-network or "
                "time-dependent"
            )
        return LinearState(jnp.zeros(p), jnp.ones(p), jnp.zeros(p), jnp.zeros(()))

    def value(
        self, state: LinearState, observation: PyTree, time: Int[Array, ""]
    ) -> Float[Array, ""]:
        x = (self.features(observation, time) - state.centre) / state.scale
        return x @ state.coefficients + state.intercept

    def regress(
        self,
        state: LinearState,
        key: PRNGKeyArray,
        trajectories: Trajectories,
        targets: Float[Array, "T B"],
        weights: Float[Array, "T B"],
    ) -> LinearState:
        features = jax.vmap(jax.vmap(self.features))(trajectories.observations, trajectories.times)
        x = features.reshape(-1, features.shape[-1])
        y, w = targets.reshape(-1), weights.reshape(-1)
        valid = jnp.asarray(trajectories.valid).reshape(-1)
        x, y = jnp.where(valid[:, None], x, 0.0), jnp.where(valid, y, 0.0)  # 0 · NaN is NaN
        w = w / jnp.maximum(jnp.sum(w), 1e-12)

        centre = w @ x
        spread = jnp.sqrt(w @ (x - centre) ** 2)
        # a constant feature holds no information, and must not be divided by its rounding error
        constant = spread <= 1e-6 * jnp.abs(centre)
        scale = jnp.where(constant, 1.0, spread)
        x = jnp.where(constant, 0.0, (x - centre) / scale)
        intercept = weighted_mean(y, w)

        # the eigenvectors of the Gram matrix, since Cholesky fails on collinear features
        gram = (x * w[:, None]).T @ x
        eigenvalues, vectors = jnp.linalg.eigh(gram)
        projected = vectors.T @ (x.T @ (w * (y - intercept)))
        shrunk = projected / (jnp.maximum(eigenvalues, 0.0) + self.ridge)
        coefficients = (vectors @ shrunk) * ~constant
        return LinearState(centre, scale, coefficients, intercept)

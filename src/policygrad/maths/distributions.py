"""Action distributions: unbatched pytrees that score, sample and compare. Callers `vmap`.

Every one offers `log_prob(action)`, `sample(key)`, `mode()`, `entropy()` and `kl(other)`, in nats;
`sample` consumes its key. Differentiable in their parameters, but for `sample` and `mode`.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

LOG_2PI = float(np.log(2 * np.pi))


class Distribution(Protocol):
    """What a policy returns for one observation."""

    def log_prob(self, action: PyTree) -> Float[Array, ""]:
        """log π(action), nats."""
        ...

    def sample(self, key: PRNGKeyArray) -> PyTree:
        """One action. The key is consumed."""
        ...

    def mode(self) -> PyTree:
        """The most probable action."""
        ...

    def entropy(self) -> Float[Array, ""]:
        """−E log π, nats."""
        ...

    def kl(self, other: Any) -> Float[Array, ""]:
        """KL(self ‖ other) = E_self[log self − log other], nats."""
        ...


def masked_log_softmax(
    logits: Float[Array, "... n"], mask: Bool[Array, "... n"] | None
) -> Float[Array, "... n"]:
    """log-softmax over the permitted entries; the others get the dtype's most negative number.

    A mask that permits nothing is no distribution. So that no NaN arises inside compiled code it
    is read as one that permits everything, and the rollout, which sees it, refuses the record.
    """
    if mask is None:
        return jax.nn.log_softmax(logits)
    mask = mask | ~mask.any(axis=-1, keepdims=True)
    floor = jnp.finfo(logits.dtype).min
    return jnp.where(mask, jax.nn.log_softmax(jnp.where(mask, logits, floor)), floor)


def _expectation(
    log_probs: Float[Array, "... n"], values: Float[Array, "... n"]
) -> Float[Array, "..."]:
    """Σ p · values with 0 · (anything) = 0, so that forbidden actions add nothing, NaN included."""
    probs = jnp.exp(log_probs)
    return jnp.sum(jnp.where(probs > 0, probs * jnp.where(probs > 0, values, 0.0), 0.0), axis=-1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Categorical:
    """One of n actions, 0…n−1.

    log π(a) = logits_a − log Σ_permitted exp(logits).

    Attributes:
        logits: `[n]`, unnormalised log-probabilities.
        mask: `[n]`, True where the action is permitted; None permits all.

    >>> d = Categorical(jnp.zeros(4), mask=jnp.array([True, True, False, False]))
    >>> round(float(d.entropy()), 4), int(d.mode())
    (0.6931, 0)
    """

    logits: Float[Array, " n"]
    mask: Bool[Array, " n"] | None = None

    @property
    def log_probs(self) -> Float[Array, " n"]:
        """`[n]`, normalised over the permitted actions."""
        return masked_log_softmax(self.logits, self.mask)

    def log_prob(self, action: Int[Array, ""]) -> Float[Array, ""]:
        # a one-hot product: a gather's transpose is a scatter, many times slower on a CPU
        chosen = jnp.arange(self.logits.shape[-1]) == action
        taken = jnp.sum(jnp.where(chosen, self.log_probs, 0.0))
        return jnp.where(chosen.any(), taken, -jnp.inf)

    def sample(self, key: PRNGKeyArray) -> Int[Array, ""]:
        return jax.random.categorical(key, self.log_probs)

    def mode(self) -> Int[Array, ""]:
        return jnp.argmax(self.log_probs)

    def entropy(self) -> Float[Array, ""]:
        log_probs = self.log_probs
        return -_expectation(log_probs, log_probs)

    def kl(self, other: "Categorical") -> Float[Array, ""]:
        log_probs = self.log_probs
        return _expectation(log_probs, log_probs - other.log_probs)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MultiCategorical:
    """Several independent categorical choices; the action is their vector.

    Attributes:
        parts: one `Categorical` a choice, with logits `[n_i]` each.
    """

    parts: tuple[Categorical, ...]

    @classmethod
    def from_logits(
        cls,
        logits: Float[Array, " sum_n"],
        sizes: tuple[int, ...],
        mask: Bool[Array, " sum_n"] | None = None,
    ) -> "MultiCategorical":
        """Cut one vector of logits (and mask) into choices of the given sizes."""
        cuts = list(np.cumsum(sizes)[:-1])
        masks = [None] * len(sizes) if mask is None else jnp.split(mask, cuts)
        return cls(
            tuple(Categorical(x, m) for x, m in zip(jnp.split(logits, cuts), masks, strict=True))
        )

    def log_prob(self, action: Int[Array, " k"]) -> Float[Array, ""]:
        return sum_of(part.log_prob(action[i]) for i, part in enumerate(self.parts))

    def sample(self, key: PRNGKeyArray) -> Int[Array, " k"]:
        keys = jax.random.split(key, len(self.parts))
        return jnp.stack([part.sample(k) for part, k in zip(self.parts, keys, strict=True)])

    def mode(self) -> Int[Array, " k"]:
        return jnp.stack([part.mode() for part in self.parts])

    def entropy(self) -> Float[Array, ""]:
        return sum_of(part.entropy() for part in self.parts)

    def kl(self, other: "MultiCategorical") -> Float[Array, ""]:
        return sum_of(p.kl(q) for p, q in zip(self.parts, other.parts, strict=True))


def sum_of(terms) -> Float[Array, ""]:
    """The sum of a few scalars."""
    return jnp.sum(jnp.stack(list(terms)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bernoulli:
    """k independent coin flips; the action is a vector of 0 and 1.

    log π(a) = Σ_i log σ(±logits_i), the sign that of a_i.

    Attributes:
        logits: `[k]`, log-odds of 1.
        mask: `[k]`, True where 1 is permitted; where False the action is 0. None permits all.
    """

    logits: Float[Array, " k"]
    mask: Bool[Array, " k"] | None = None

    def _free(self, terms: Float[Array, " k"]) -> Float[Array, " k"]:
        return terms if self.mask is None else jnp.where(self.mask, terms, 0.0)

    def log_prob(self, action: Int[Array, " k"]) -> Float[Array, ""]:
        log_odds = jnp.where(action > 0, self.logits, -self.logits)
        terms = self._free(jax.nn.log_sigmoid(log_odds))
        if self.mask is not None:
            terms = jnp.where((action > 0) & ~self.mask, jnp.finfo(terms.dtype).min, terms)
        return jnp.sum(terms)

    def sample(self, key: PRNGKeyArray) -> Int[Array, " k"]:
        drawn = jax.random.bernoulli(key, jax.nn.sigmoid(self.logits))
        return self._permitted(drawn)

    def mode(self) -> Int[Array, " k"]:
        return self._permitted(self.logits > 0)

    def _permitted(self, ones: Bool[Array, " k"]) -> Int[Array, " k"]:
        return (ones if self.mask is None else ones & self.mask).astype(jnp.int8)

    def entropy(self) -> Float[Array, ""]:
        p = jax.nn.sigmoid(self.logits)
        return -jnp.sum(
            self._free(
                p * jax.nn.log_sigmoid(self.logits) + (1 - p) * jax.nn.log_sigmoid(-self.logits)
            )
        )

    def kl(self, other: "Bernoulli") -> Float[Array, ""]:
        p = jax.nn.sigmoid(self.logits)
        on = jax.nn.log_sigmoid(self.logits) - jax.nn.log_sigmoid(other.logits)
        off = jax.nn.log_sigmoid(-self.logits) - jax.nn.log_sigmoid(-other.logits)
        return jnp.sum(self._free(p * on + (1 - p) * off))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DiagonalGaussian:
    """A Gaussian with independent components.

    log π(a) = −½ Σ_i [ (a_i − μ_i)²/σ_i² + 2 log σ_i + log 2π ].

    Attributes:
        mean: `[k]` (or any shape).
        log_std: of the same shape.

    >>> d = DiagonalGaussian(jnp.zeros(1), jnp.zeros(1))
    >>> round(float(d.log_prob(jnp.ones(1))), 4)
    -1.4189
    """

    mean: Float[Array, "*k"]
    log_std: Float[Array, "*k"]

    def log_prob(self, action: Float[Array, "*k"]) -> Float[Array, ""]:
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return -jnp.sum(0.5 * z**2 + self.log_std + 0.5 * LOG_2PI)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*k"]:
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> Float[Array, "*k"]:
        return self.mean

    def entropy(self) -> Float[Array, ""]:
        return jnp.sum(self.log_std + 0.5 * (1 + LOG_2PI))

    def kl(self, other: "DiagonalGaussian") -> Float[Array, ""]:
        ratio = 2 * (self.log_std - other.log_std)
        distance = (self.mean - other.mean) * jnp.exp(-other.log_std)
        return 0.5 * jnp.sum(jnp.exp(ratio) + distance**2 - 1 - ratio)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ClippedGaussian(DiagonalGaussian):
    """A Gaussian whose draws are clipped to bounds before anything sees them.

    A draw beyond a bound has the probability of its tail in place of a density, as every draw there
    is the same action:

        log π(a) = log Φ((low − μ)/σ)   where a ≤ low,
                   log Φ((μ − high)/σ)  where a ≥ high,
                   log N(a; μ, σ)       between them.

    Its score is the expectation of the Gaussian's given the clipped action, so that the policy
    gradient has the same mean and less variance (Fujita & Maeda 2018); and no noise moves a mean
    that is far beyond a bound. The KL is that of the Gaussian, which bounds its own from above; the
    entropy is that of the Gaussian, too.

    Attributes:
        mean, log_std: `[k]` (or any shape), of the Gaussian.
        low, high: of the same shape, the bounds; infinite where there is none.

    >>> d = ClippedGaussian(jnp.zeros(1), jnp.zeros(1), low=-jnp.ones(1), high=jnp.ones(1))
    >>> [round(float(d.log_prob(jnp.full(1, a))), 4) for a in (0.5, 1.0, 3.0)]
    [-1.0439, -1.841, -1.841]
    """

    low: Float[Array, "*k"]
    high: Float[Array, "*k"]

    def log_prob(self, action: Float[Array, "*k"]) -> Float[Array, ""]:
        z = (jnp.clip(action, self.low, self.high) - self.mean) * jnp.exp(-self.log_std)
        below, above = action <= self.low, action >= self.high
        tail = norm.logcdf(jnp.where(above, -z, z))
        between = -(0.5 * z**2 + self.log_std + 0.5 * LOG_2PI)
        return jnp.sum(jnp.where(below | above, tail, between))


# Nodes and weights for E f(x), x ~ N(0, 1): exact for polynomials of degree 63.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TanhGaussian:
    """tanh of a diagonal Gaussian: actions inside (−1, 1), with the density that belongs to them.

    log π(a) = log N(u; μ, σ) − Σ_i log(1 − tanh²u_i), u = artanh(a).

    The mode is tanh(μ): the image of the Gaussian's mode, as is usual, not the density's own peak.
    Its entropy has no closed form; it is computed by 32-point Gauss–Hermite quadrature, to about
    2e-4 nats at σ = 2 and 3e-3 at σ = 3.

    Attributes:
        mean, log_std: `[k]`, of the Gaussian before the tanh.
    """

    mean: Float[Array, "*k"]
    log_std: Float[Array, "*k"]

    @property
    def base(self) -> DiagonalGaussian:
        """The Gaussian before the tanh."""
        return DiagonalGaussian(self.mean, self.log_std)

    def log_prob(self, action: Float[Array, "*k"]) -> Float[Array, ""]:
        # a sample that rounded to ±1 has no finite preimage
        limit = 1 - jnp.finfo(action.dtype).epsneg
        u = jnp.arctanh(jnp.clip(action, -limit, limit))
        return self.base.log_prob(u) - jnp.sum(log_one_minus_tanh_squared(u))

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*k"]:
        return jnp.tanh(self.base.sample(key))

    def mode(self) -> Float[Array, "*k"]:
        return jnp.tanh(self.mean)

    def entropy(self) -> Float[Array, ""]:
        nodes = jnp.asarray(_NODES, self.mean.dtype)
        weights = jnp.asarray(_WEIGHTS, self.mean.dtype)
        u = self.mean[..., None] + jnp.exp(self.log_std)[..., None] * nodes
        return self.base.entropy() + jnp.sum(log_one_minus_tanh_squared(u) @ weights)

    def kl(self, other: "TanhGaussian") -> Float[Array, ""]:
        # the same bijection on both sides leaves the divergence as it is
        return self.base.kl(other.base)


def log_one_minus_tanh_squared(u: Float[Array, "*k"]) -> Float[Array, "*k"]:
    """log(1 − tanh²u) = 2 (log 2 − u − softplus(−2u)), stable for large |u|."""
    return 2 * (np.log(2.0) - u - jax.nn.softplus(-2 * u))

"""Distributions over choices: one of n, several of them, and coin flips; each may be masked."""

from collections.abc import Iterable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from policygrad.core.checks import flags, floats


def masked_log_softmax(
    logits: Float[Array, "... n"], mask: Bool[Array, "... n"] | None
) -> Float[Array, "... n"]:
    """log-softmax over the permitted entries; the others get the dtype's most negative number.

    A mask that permits nothing describes no distribution. Compiled code reads it as a mask that
    permits everything, so that no NaN arises there; the rollout refuses its record.
    """
    if mask is None:
        return jax.nn.log_softmax(logits)
    mask = mask | ~mask.any(axis=-1, keepdims=True)
    floor = jnp.finfo(logits.dtype).min
    return jnp.where(mask, jax.nn.log_softmax(jnp.where(mask, logits, floor)), floor)


def _expectation(
    log_probs: Float[Array, "... n"], values: Float[Array, "... n"]
) -> Float[Array, "..."]:
    """Σ p · values, where p = 0 gives 0 whatever the value: forbidden actions add nothing."""
    return jnp.sum(_expected(jnp.exp(log_probs), values), axis=-1)


def _expected(probs: Float[Array, " n"], values: Float[Array, " n"]) -> Float[Array, " n"]:
    """p · values, 0 where p = 0, even if the value is infinite or NaN; its gradient, too."""
    some = probs != 0  # True for NaN, which must not become 0
    return jnp.where(some, probs * jnp.where(some, values, 0.0), 0.0)


def sum_of(terms: Iterable[Array]) -> Float[Array, ""]:
    """The sum of a few scalars."""
    return jnp.sum(jnp.stack(list(terms)))


class Categorical(eqx.Module):
    """One of n actions, 0…n−1.

    log π(a) = logits_a − log Σ_permitted exp(logits).

    Attributes:
        logits: `[n]`, unnormalised log-probabilities.
        mask: `[n]`, True where the action is permitted; None permits all.

    >>> d = Categorical(jnp.zeros(4), mask=jnp.array([True, True, False, False]))
    >>> round(float(d.entropy()), 4), int(d.mode())
    (0.6931, 0)
    """

    logits: Float[Array, " n"] = eqx.field(converter=floats("logits"))
    mask: Bool[Array, " n"] | None = eqx.field(converter=flags("mask"), default=None)

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


class MultiCategorical(eqx.Module):
    """Several independent categorical choices; the action is their vector.

    Attributes:
        parts: one `Categorical` a choice, with logits `[n_i]` each.
    """

    parts: tuple[Categorical, ...]

    @classmethod
    def from_logits(
        cls,
        logits: Float[Array, " sum_n"],
        sizes: Sequence[int],
        mask: Bool[Array, " sum_n"] | None = None,
    ) -> "MultiCategorical":
        """Cut one vector of logits (and mask) into choices of the given sizes."""
        whole = Categorical(logits, mask)
        cuts = list(np.cumsum(sizes)[:-1])
        parts = jnp.split(whole.logits, cuts)
        masks = [None] * len(sizes) if whole.mask is None else jnp.split(whole.mask, cuts)
        return cls(tuple(map(Categorical, parts, masks)))

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


class Bernoulli(eqx.Module):
    """k independent coin flips; the action is a vector of 0 and 1.

    log π(a) = Σ_i log σ(±logits_i), with + where a_i = 1.

    Attributes:
        logits: `[k]`, log-odds of 1.
        mask: `[k]`, True where 1 is permitted; elsewhere the action is 0. None permits all.
    """

    logits: Float[Array, " k"] = eqx.field(converter=floats("logits"))
    mask: Bool[Array, " k"] | None = eqx.field(converter=flags("mask"), default=None)

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
        on, off = jax.nn.log_sigmoid(self.logits), jax.nn.log_sigmoid(-self.logits)
        return -jnp.sum(self._free(_expected(p, on) + _expected(1 - p, off)))

    def kl(self, other: "Bernoulli") -> Float[Array, ""]:
        p = jax.nn.sigmoid(self.logits)
        on = jax.nn.log_sigmoid(self.logits) - jax.nn.log_sigmoid(other.logits)
        off = jax.nn.log_sigmoid(-self.logits) - jax.nn.log_sigmoid(-other.logits)
        return jnp.sum(self._free(_expected(p, on) + _expected(1 - p, off)))

"""Several independent parts of one action, by name or in order."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.maths.distributions.categorical import sum_of


class Joint(eqx.Module):
    """Independent distributions, one for each part of an action.

    log π(a) = Σ_i log π_i(a_i); entropy and KL are sums too. The action is a dict of the parts'
    actions, or a tuple, as the parts are.

    Attributes:
        parts: a dict or a tuple of distributions, which may be `Joint` themselves.

    >>> from policygrad.distributions import Categorical, DiagonalGaussian
    >>> move = DiagonalGaussian([0.0], [0.0])
    >>> d = Joint({"button": Categorical([0.0, 0.0]), "move": move})
    >>> round(float(d.log_prob({"button": 1, "move": move.mode()})), 4)
    -1.6121
    """

    parts: dict[str, Any] | tuple[Any, ...]

    def _keys(self) -> list[Any]:
        """Names in order, as JAX orders them, or places."""
        return sorted(self.parts) if isinstance(self.parts, dict) else list(range(len(self.parts)))

    def _each(self, of_part: Callable[..., Any], *others: Any) -> PyTree:
        """A function of every part, and of what belongs to it."""
        keys = self._keys()
        found = [of_part(self.parts[key], *(x[key] for x in others)) for key in keys]
        return dict(zip(keys, found, strict=True)) if isinstance(self.parts, dict) else tuple(found)

    def _sum(self, of_part: Callable[..., Any], *others: Any) -> Float[Array, ""]:
        terms = self._each(of_part, *others)
        return sum_of(terms.values() if isinstance(terms, dict) else terms)

    def log_prob(self, action: PyTree) -> Float[Array, ""]:
        return self._sum(lambda part, action: part.log_prob(action), action)

    def sample(self, key: PRNGKeyArray) -> PyTree:
        names = self._keys()
        keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
        return self._each(lambda part, key: part.sample(key), keys)

    def mode(self) -> PyTree:
        return self._each(lambda part: part.mode())

    def entropy(self) -> Float[Array, ""]:
        return self._sum(lambda part: part.entropy())

    def kl(self, other: "Joint") -> Float[Array, ""]:
        return self._sum(lambda part, other: part.kl(other), other.parts)

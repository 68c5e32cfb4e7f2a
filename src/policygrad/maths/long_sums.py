"""Sums of many numbers, of which each is added in the precision of its type."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class LongSum(NamedTuple):
    """Sums whose error does not grow with the number of terms.

    In 32 bits a plain sum of ten thousand rewards of 0.1 is wrong in the fourth digit.

    Attributes:
        total: `[N]`.
        lost: `[N]`, what rounding has added to `total` too much.

    Source: Kahan 1965.
    """

    total: Float[Array, " N"]
    lost: Float[Array, " N"]

    @classmethod
    def of(cls, totals: Float[Array, " N"]) -> "LongSum":
        """Sums that have these totals so far."""
        return cls(totals, jnp.zeros_like(totals))

    def plus(self, terms: Float[Array, " N"]) -> "LongSum":
        """With one more term each."""
        term = terms - self.lost
        total = self.total + term
        lost = (total - self.total) - term
        return LongSum(total, jnp.where(jnp.isfinite(lost), lost, 0.0))

"""Counts beyond what one integer of 32 bits holds, for programs that have no wider ones."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

BLOCK = 10**9


class LongCount(NamedTuple):
    """A count, exact up to 2·10¹⁸.

    Attributes:
        blocks: `[]`, of 10⁹.
        rest: `[]`, beside those.
    """

    blocks: Int[Array, ""]
    rest: Int[Array, ""]

    @classmethod
    def of(cls, count: int) -> "LongCount":
        """A count from a whole number."""
        blocks, rest = divmod(count, BLOCK)
        return cls(jnp.asarray(np.int32(blocks)), jnp.asarray(np.int32(rest)))

    def plus(self, more: Int[Array, ""]) -> "LongCount":
        """With at most 10⁹ more."""
        rest = self.rest + jnp.asarray(more, jnp.int32)
        full = rest >= BLOCK
        blocks = self.blocks + full.astype(jnp.int32)
        return LongCount(blocks, jnp.where(full, rest - BLOCK, rest))

    def share_of(self, total: Float[Array, ""]) -> Float[Array, ""]:
        """`[]`, the count over a total, to the precision of float32."""
        return self.blocks.astype(jnp.float32) * (BLOCK / total) + self.rest / total

    def __int__(self) -> int:
        return int(self.blocks) * BLOCK + int(self.rest)

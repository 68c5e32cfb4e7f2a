"""A random permutation of the first n numbers, computed place by place.

A sort would need n, or a bound of it, when it is compiled, and would cost as much as the bound.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, UInt

ROUNDS = 8  # an even number: both halves are then where they were
LEAST_BITS = 6  # with fewer, some permutations come much more often than others


def permutation(
    key: PRNGKeyArray, count: Int[Array, ""]
) -> Callable[[Int[Array, " m"]], Int[Array, " m"]]:
    """π: positions -> numbers, a bijection of 0 … n − 1 that depends on the key.

    A Feistel cipher permutes the numbers of b bits, n ≤ 2^b: in each round the upper bits of (L, R)
    are mixed with a hash of the lower ones, and both change places,

        (L, R) ↦ (R, L ⊕ hash(R, key of the round)).

    It is applied until the result is below n, which keeps it a bijection: at most twice on average,
    if n > 32.

    Args:
        key: consumed.
        count: `[]`, n ≥ 1; traced.

    Returns:
        A function of positions `[m]`. One that is not below n is read as n − 1.

    Bias: not every permutation can come out, since the key has 64 bits; n! is more from 21 on.

    Source: Black & Rogaway 2002, cycle walking and the generalised Feistel cipher.

    >>> pi = permutation(jax.random.key(0), jnp.int32(5))
    >>> sorted(pi(jnp.arange(5)).tolist())
    [0, 1, 2, 3, 4]
    """
    keys = jax.random.bits(key, (ROUNDS,), jnp.uint32)
    last = jnp.maximum(count, 1).astype(jnp.uint32) - 1
    bits = jnp.maximum(32 - jax.lax.clz(last), LEAST_BITS)
    halves = bits // 2, bits - bits // 2

    def once(x: UInt[Array, " m"]) -> UInt[Array, " m"]:
        upper, lower = halves
        for i in range(ROUNDS):
            left, right = x >> lower, x & ((jnp.uint32(1) << lower) - 1)
            mixed = left ^ (_hash(right ^ keys[i]) & ((jnp.uint32(1) << upper) - 1))
            x, upper, lower = (right << upper) | mixed, lower, upper
        return x

    def numbers(positions: Int[Array, " m"]) -> Int[Array, " m"]:
        x = once(jnp.clip(positions.astype(jnp.uint32), 0, last))
        x = jax.lax.while_loop(
            lambda x: jnp.any(x > last), lambda x: jnp.where(x > last, once(x), x), x
        )
        return x.astype(jnp.int32)

    return numbers


def _hash(x: UInt[Array, " m"]) -> UInt[Array, " m"]:
    """Each bit of the result depends on each bit given (MurmurHash3's last steps)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)

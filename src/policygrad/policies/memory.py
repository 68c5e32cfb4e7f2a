"""Memory: what a network carries from step to step of an episode."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from policygrad.core.checks import whole
from policygrad.devices.chunks import map_rows
from policygrad.policies.networks import MLP, mlp

Kind = Literal["gru", "lstm"]
Encoder = Callable[[PyTree], Float[Array, " size"]]


@dataclass(frozen=True)
class Memory:
    """A gated recurrent cell between what is seen and what is decided.

    Attributes:
        kind: gru (Cho et al. 2014), or lstm (Hochreiter & Schmidhuber 1997).
        size: how many numbers the cell gives.

    Raises:
        ValueError: another kind, or a size that is not a whole number of at least 1.
    """

    kind: Kind = "gru"
    size: int = 64

    def __post_init__(self) -> None:
        if self.kind not in ("gru", "lstm"):
            raise ValueError(f"kind must be 'gru' or 'lstm', got {self.kind!r}")
        whole("size", self.size)

    def cell(self, key: PRNGKeyArray) -> "Cell":
        """A fresh cell that takes as many numbers as it gives. Consumes the key."""
        kinds: dict[str, Any] = {"gru": eqx.nn.GRUCell, "lstm": eqx.nn.LSTMCell}
        # of 32 bits, as the carry is; with `jax_enable_x64` Equinox would make it of 64
        return kinds[self.kind](self.size, self.size, dtype=jnp.float32, key=key)


Cell = eqx.nn.GRUCell | eqx.nn.LSTMCell


class RecurrentNetwork(eqx.Module):
    """features, carry -> `[outputs]`, carry.

    The encoder reads one observation, the cell remembers it, and a linear layer reads both.

    Attributes:
        encoder: features -> `[size]`.
        cell: of `size` numbers.
        head: `[2 size]` -> `[outputs]`, linear.
    """

    encoder: Encoder
    cell: Cell
    head: MLP

    @classmethod
    def of(
        cls,
        key: PRNGKeyArray,
        encoder: Encoder,
        memory: Memory,
        outputs: int,
        *,
        last_scale: float = 1.0,
    ) -> "RecurrentNetwork":
        """A network around an encoder that gives `memory.size` numbers. Consumes the key."""
        cell_key, head_key = jax.random.split(key)
        head = mlp(head_key, 2 * memory.size, outputs, (), last_scale=last_scale)
        return cls(encoder, memory.cell(cell_key), head)

    def initial_carry(self) -> PyTree:
        """The carry at the start of an episode: zeros."""
        zeros = jnp.zeros(self.cell.hidden_size, jnp.float32)
        return (zeros, zeros) if isinstance(self.cell, eqx.nn.LSTMCell) else zeros

    def __call__(self, features: PyTree, carry: PyTree) -> tuple[Float[Array, " outputs"], PyTree]:
        embedded = self.embed(features)
        carry = self.cell(embedded, carry)
        return self.read(embedded, carry), carry

    def embed(self, features: PyTree) -> Float[Array, " size"]:
        """What the cell takes of one observation."""
        return jnp.tanh(self.encoder(features))

    def read(self, embedded: Float[Array, " size"], carry: PyTree) -> Float[Array, " outputs"]:
        """The outputs at one observation, with the carry after it."""
        return self.head([embedded, _given_by(carry)])

    def unrolled(
        self,
        encode: Callable[[PyTree], PyTree],
        observations: PyTree,
        begins: Bool[Array, " T"],
        carry: PyTree,
    ) -> tuple[Float[Array, "T outputs"], PyTree]:
        """All steps of a lane: only the cell goes from step to step, the rest is computed at once.

        Args:
            encode: one observation -> its features.
            observations: pytree of `[T, ...]`.
            begins: `[T]`, the first steps of episodes.
            carry: before the first of them.

        Returns:
            The outputs at every step, and the carry after every step, `[T, ...]`.
        """
        embedded = map_rows(lambda x: self.embed(encode(x)), observations)
        fresh = self.initial_carry()

        def step(carry: PyTree, row: tuple[Array, Array]) -> tuple[PyTree, PyTree]:
            x, begins = row
            carry = jax.tree.map(lambda a, b: jnp.where(begins, a, b), fresh, carry)
            carry = self.cell(x, carry)
            return carry, carry

        _, carries = jax.lax.scan(step, carry, (embedded, begins))
        return jax.vmap(self.read)(embedded, carries), carries


def _given_by(carry: PyTree) -> Array:
    """What a cell gives: of an LSTM's two states the first."""
    return carry[0] if isinstance(carry, tuple) else carry

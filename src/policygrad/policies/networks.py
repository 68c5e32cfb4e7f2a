"""Networks: pytrees of arrays only (functions are static), which `jit` takes as arguments."""

import math
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.core.errors import UserError
from policygrad.spaces.encoding import flat

JAX_MODULES = {"jax.numpy": jnp, "jax.nn": jax.nn, "jax.lax": jax.lax}
BYTES_OF_A_WEIGHT = 16  # the weight, its gradient, and two moments of the optimiser


class MLP(eqx.Module):
    """A multilayer perceptron, `[inputs] -> [outputs]`, linear at the end.

    The input may be a pytree of arrays, which are read as one vector.
    """

    weights: tuple[Float[Array, "out in"], ...]
    biases: tuple[Float[Array, " out"], ...]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __call__(self, features: PyTree) -> Float[Array, " outputs"]:
        x = flat(features)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = self.activation(weight @ x + bias)
        return self.weights[-1] @ x + self.biases[-1]

    def __reduce__(self) -> tuple[Any, ...]:
        # JAX's own functions cannot be pickled, so they go by their names
        return _unpickled, (self.weights, self.biases, _function_or_name(self.activation))


class NormalisedMLP(eqx.Module):
    """An MLP with layer normalisation: each hidden layer is activation(g ⊙ â + b), â = a = W x less
    its mean and over its standard deviation, both over the layer's units.

    Attributes:
        mlp: W, b and the activation.
        gains: g.

    Source: Ba, Kiros & Hinton 2016.
    """

    mlp: MLP
    gains: tuple[Float[Array, " out"], ...]

    @classmethod
    def of(cls, mlp: MLP) -> "NormalisedMLP":
        """An MLP's layers, normalised, with gains of 1."""
        return cls(mlp, tuple(jnp.asarray(np.ones(b.shape, np.float32)) for b in mlp.biases[:-1]))

    def __call__(self, features: PyTree) -> Float[Array, " outputs"]:
        x, mlp = flat(features), self.mlp
        for weight, bias, gain in zip(mlp.weights[:-1], mlp.biases[:-1], self.gains, strict=True):
            x = mlp.activation(gain * jax.nn.standardize(weight @ x) + bias)
        return mlp.weights[-1] @ x + mlp.biases[-1]


def _unpickled(weights: Any, biases: Any, activation: Any) -> MLP:
    """The network that `MLP.__reduce__` took apart."""
    if isinstance(activation, tuple):
        module, name = activation
        activation = getattr(JAX_MODULES[module], name)
    return MLP(weights, biases, activation)


def _function_or_name(function: Any) -> Any:
    """A function, or the module and the name of one of JAX."""
    name = getattr(function, "__name__", "")
    found = (m for m, module in JAX_MODULES.items() if getattr(module, name, None) is function)
    module = next(found, None)
    return function if module is None else (module, name)


def mlp(
    key: PRNGKeyArray,
    inputs: int,
    outputs: int,
    hidden: Sequence[int] = (64, 64),
    *,
    activation: Callable[[Array], Array] = jnp.tanh,
    last_scale: float = 1.0,
) -> MLP:
    """An MLP with orthogonal weights and zero biases. Not for use inside compiled code.

    Args:
        key: consumed.
        inputs, outputs: sizes of the input and the output.
        hidden: sizes of the hidden layers.
        activation: of the hidden layers; its gain is taken as √2, as usual for these networks.
        last_scale: factor on the last layer's orthogonal weights; with 0.01 a policy starts nearly
            uniform for every observation.

    Raises:
        UserError: more weights than this machine has memory to train.
    """
    sizes = [inputs, *hidden, outputs]
    _require_memory(sizes)
    scales = [np.sqrt(2)] * len(hidden) + [last_scale]
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    weights = [
        orthogonal(rng, n_out, n_in, scale)
        for n_in, n_out, scale in zip(sizes[:-1], sizes[1:], scales, strict=True)
    ]
    biases = [jnp.asarray(np.zeros(n, np.float32)) for n in sizes[1:]]
    return MLP(tuple(weights), tuple(biases), activation)


def _require_memory(sizes: Sequence[int]) -> None:
    """Raise UserError, before memory is taken, where a network does not fit into it."""
    weights = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
    needed, there = weights * BYTES_OF_A_WEIGHT, physical_memory()
    if needed > there:
        raise UserError(
            f"a network with layers of {', '.join(map(str, sizes))} (inputs, hidden={sizes[1:-1]}, "
            f"outputs) has {weights:,} weights; training it takes about {needed / 1e9:,.0f} GB, "
            f"and this machine has {there / 1e9:,.0f} GB; give smaller layers, such as --hidden "
            "64,64"
        )


def physical_memory() -> float:
    """Bytes of this machine's memory; infinite where the system does not tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def orthogonal(rng: np.random.Generator, rows: int, columns: int, scale: float) -> Array:
    """A random matrix with orthonormal rows or columns, times `scale` (Saxe et al. 2014).

    In NumPy: a `qr` compiled for every shape would cost more than everything else at start-up.
    """
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return jnp.asarray((scale * (q if rows >= columns else q.T)).astype(np.float32))

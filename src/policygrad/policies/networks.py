"""Networks: pytrees of arrays only (functions are static), which `jit` takes as arguments."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.spaces.encoding import flat


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
    """
    sizes = [inputs, *hidden, outputs]
    scales = [np.sqrt(2)] * len(hidden) + [last_scale]
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    weights = [
        orthogonal(rng, n_out, n_in, scale)
        for n_in, n_out, scale in zip(sizes[:-1], sizes[1:], scales, strict=True)
    ]
    biases = [jnp.asarray(np.zeros(n, np.float32)) for n in sizes[1:]]
    return MLP(tuple(weights), tuple(biases), activation)


def orthogonal(rng: np.random.Generator, rows: int, columns: int, scale: float) -> Array:
    """A random matrix with orthonormal rows or columns, times `scale` (Saxe et al. 2014).

    In NumPy: a `qr` compiled for every shape would cost more than everything else at start-up.
    """
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return jnp.asarray((scale * (q if rows >= columns else q.T)).astype(np.float32))

"""Which leaves of a module are differentiated, which are carried, and which are static."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import PyTree

T = TypeVar("T")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Carried(Generic[T]):
    """Marks a part of a module as carried: saved and restored with it, never differentiated.

    >>> policy = {"weight": jnp.ones(2), "statistics": Carried(jnp.zeros(2))}
    >>> differentiated, _ = split(policy)
    >>> differentiated["statistics"].value is None
    True
    """

    value: T


def is_array(leaf: Any) -> bool:
    """Whether a pytree leaf is an array, or the shape of one, as opposed to a function or another
    static object."""
    return isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)) or hasattr(leaf, "__array__")


def split(module: PyTree) -> tuple[PyTree, PyTree]:
    """Split a module into its differentiated leaves and everything else.

    Differentiated are the floating-point arrays outside `Carried`. Both results have the module's
    structure, with None in place of what belongs to the other; `combine` is the inverse.
    """

    def differentiated(node: Any) -> Any:
        if isinstance(node, Carried):
            return jax.tree.map(lambda _: None, node)
        return node if is_array(node) and jnp.issubdtype(node.dtype, jnp.floating) else None

    def rest(node: Any) -> Any:
        if isinstance(node, Carried):
            return node
        return None if differentiated(node) is not None else node

    def is_carried(node: Any) -> bool:
        return isinstance(node, Carried)

    return (
        jax.tree.map(differentiated, module, is_leaf=is_carried),
        jax.tree.map(rest, module, is_leaf=is_carried),
    )


def combine(left: PyTree, right: PyTree) -> PyTree:
    """Put back together what `split` took apart."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, left, right, is_leaf=lambda node: node is None
    )


def depending(f: Callable[[Any], PyTree], x: PyTree) -> PyTree:
    """Which leaves of f(x) are floating-point arrays that depend on x: a pytree of bools like f(x).

    f is traced, and not computed.

    >>> depending(lambda x: {"double": 2 * x, "bound": jnp.ones(2), "sign": x > 0}, jnp.ones(2))
    {'bound': False, 'double': True, 'sign': False}
    """
    traced, shapes = jax.make_jaxpr(f, return_shape=True)(x)
    leaves, structure = jax.tree.flatten(shapes)

    def depends(number: int) -> bool:
        if not jnp.issubdtype(leaves[number].dtype, jnp.floating):
            return False
        alone = [i == number for i in range(len(leaves))]
        return any(dce_jaxpr(traced.jaxpr, alone)[1])  # which inputs this output needs

    return structure.unflatten(map(depends, range(len(leaves))))


WIDE = {"float64": jnp.float32, "int64": jnp.int32, "uint64": jnp.uint32}


def narrowed(tree: PyTree) -> PyTree:
    """Arrays of 64 bits as arrays of 32 bits; what else there is, as it is.

    With `jax_enable_x64` JAX makes numbers of 64 bits where nobody names a type. What this library
    records and carries has 32 bits whatever that flag is, so that runs are alike with and without.
    """

    def one(x: Any) -> Any:
        to = WIDE.get(str(x.dtype)) if is_array(x) else None
        return x if to is None else x.astype(to)

    return jax.tree.map(one, tree)


def in_types_of(old: PyTree, new: PyTree) -> PyTree:
    """`new`, each array in the type of the array at its place in `old`: a state keeps its types."""

    def one(old: Any, new: Any) -> Any:
        if not is_array(old) or getattr(new, "dtype", None) == old.dtype:
            return new
        return jnp.asarray(new, old.dtype)

    return jax.tree.map(one, old, new)


@dataclass(frozen=True)
class PolicyShape:
    """A policy without its arrays: hashable, so that equal policies share what was compiled.

    It is how a policy crosses `jax.jit`, which takes arrays and hashable values alone, and not the
    functions that a module may hold among its leaves.
    """

    structure: Any
    static: tuple[Any, ...]

    @classmethod
    def of(cls, policy: Callable) -> "PolicyShape":
        """The shape of a policy."""
        leaves, structure = jax.tree.flatten(policy)
        return cls(structure, tuple(None if is_array(leaf) else leaf for leaf in leaves))

    @cached_property
    def _hash(self) -> int:
        return hash((self.structure, self.static))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> Any:
        raise TypeError("the shape of a policy holds for one process: send the policy")

    def arrays(self, policy: Callable) -> tuple[Any, ...]:
        """The arrays of a policy of this structure, as one flat tuple.

        Flattening a module in Python at every step would cost more than the forward pass.
        """
        return tuple(leaf for leaf in jax.tree.leaves(policy) if is_array(leaf))

    def policy(self, arrays: tuple[Any, ...]) -> Callable:
        """The policy with these arrays."""
        remaining = iter(arrays)
        leaves = [next(remaining) if leaf is None else leaf for leaf in self.static]
        return jax.tree.unflatten(self.structure, leaves)

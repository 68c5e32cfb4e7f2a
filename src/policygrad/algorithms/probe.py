"""What an optax optimiser does, found by asking it: whether it takes steps of its own, and which.

Optax has two kinds of transformation under one type. Some descend: their update is a step against
the gradient, already multiplied by a learning rate (`optax.adam(1e-3)`). Others give a direction
along the gradient, which somebody else multiplies (`optax.scale_by_adam()`). Nothing in the object
says which it is, or what its numbers are. So it is given gradients of the policy's structure, and
its answers are looked at.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from policygrad.algorithms.optimisers import Optimiser, Record, transformation, updated
from policygrad.core.errors import UserError
from policygrad.devices.compiled_code import compiled

ROUND = 8  # steps in one program
LENGTHS = 10 ** np.linspace(-3, 1, 32) * np.where(np.arange(32) % 3 == 2, -1, 1)  # of gradients
FAR = 100  # parameters are so many times a gradient: the decay of weights is seen
MOST_STEPS = 512  # a schedule may begin at zero, and steps may be gathered, but not for ever


def takes_own_steps(optimiser: Optimiser, parameters: PyTree) -> bool:
    """Whether an optimiser's update is a step, to be added as it is, and not a direction.

    It is stepped from parameters of zeros along one fixed gradient, until an update is not zero.
    Nothing of that is kept.

    Args:
        optimiser: a record, which gives a direction; or an optax transformation of the descent
            gradient, which is asked.
        parameters: pytree of arrays or None; only shapes and types are read.

    Raises:
        UserError: it does not accept such a gradient; its updates stay zero or are not finite; or
            it moves some parameters against the gradient and others along it.
    """
    leaves, structure = jax.tree.flatten(parameters)
    if isinstance(optimiser, Record) or not leaves:
        return False
    shapes = tuple(jax.ShapeDtypeStruct(jnp.shape(x), x.dtype) for x in leaves)
    return _asked(transformation(optimiser), structure, shapes)


def first_steps(optimiser: Optimiser, parameters: PyTree) -> tuple[float, ...]:
    """A few numbers that tell an optimiser from others of its kind, such as another learning rate.

    They are how far its first 32 steps go along a fixed direction, summed over four steps each. The
    gradients point along the direction or against it, and are longer from step to step, so that
    moments, limits of lengths, weight decay and schedules show. What begins later does not.

    Args:
        optimiser: an optax transformation that `takes_own_steps` accepts.
        parameters: pytree of arrays or None; only shapes and types are read.
    """
    leaves, structure = jax.tree.flatten(parameters)
    if not leaves:
        return ()
    shapes = tuple(jax.ShapeDtypeStruct(jnp.shape(x), x.dtype) for x in leaves)
    return _first_steps(transformation(optimiser), structure, shapes)


def same_steps(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two optimisers take the same steps, by their `first_steps`, which may differ a little
    between machines and versions."""
    small = 1e-5 * np.max(np.abs([*a, *b]), initial=0.0)
    return len(a) == len(b) and np.allclose(a, b, rtol=1e-3, atol=small)


@lru_cache(maxsize=64)
def _first_steps(
    optimiser: optax.GradientTransformation, structure: Any, shapes: tuple[Any, ...]
) -> tuple[float, ...]:
    direction = _some_gradient(structure, shapes)
    sizes = LENGTHS / np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(direction)))

    def one(carry: PyTree, size: Float[Array, ""]) -> tuple[PyTree, Float[Array, ""]]:
        parameters, state = carry
        gradient = jax.tree.map(lambda d: (size * d).astype(d.dtype), direction)
        updates, after = updated(optimiser, gradient, state, parameters)
        pairs = zip(jax.tree.leaves(direction), jax.tree.leaves(updates), strict=True)
        # weighed, so that two parts which exchange their steps are told apart
        along = sum((i + 1) ** 0.5 * jnp.mean(d * u) for i, (d, u) in enumerate(pairs))
        return (optax.apply_updates(parameters, updates), after), jnp.float32(along)

    @compiled
    def steps(carry: PyTree) -> Float[Array, " n"]:
        return jax.lax.scan(one, carry, jnp.asarray(sizes, jnp.float32))[1]

    with jax.ensure_compile_time_eval():
        parameters = jax.tree.map(lambda d: jnp.asarray(FAR * d, d.dtype), direction)
        along = steps((parameters, compiled(optimiser.init)(parameters)))
    summed = np.asarray(along, np.float64).reshape(-1, 4).sum(axis=1)
    return tuple(float(f"{x:.6g}") for x in summed)


def _some_gradient(structure: Any, shapes: tuple[Any, ...]) -> PyTree:
    random = np.random.default_rng(0)
    return structure.unflatten(
        [np.asarray(random.standard_normal(s.shape), s.dtype) for s in shapes]
    )


@lru_cache(maxsize=64)
def _asked(
    optimiser: optax.GradientTransformation, structure: Any, shapes: tuple[Any, ...]
) -> bool:
    gradient = _some_gradient(structure, shapes)
    with jax.ensure_compile_time_eval():  # a caller may be in the middle of a trace
        along = _along(optimiser, gradient)
    if not np.all(np.isfinite(along)):
        raise UserError(
            "the optimiser's updates are not finite for an ordinary gradient, so that it cannot be "
            "told whether it descends; pass another one, such as optax.adam(1e-3)"
        )
    if not np.any(along):
        raise UserError(
            f"the optimiser's updates are zero in each of its first {MOST_STEPS} steps, so that "
            "the policy would not be trained; pass one whose learning rate is not zero, such as "
            "optax.adam(1e-3)"
        )
    against, with_it = _names(structure, along < 0), _names(structure, along > 0)
    if against and with_it:
        raise UserError(
            f"the optimiser moves {against[0]} against the gradient and {with_it[0]} along it; "
            "optax.masked hands on the gradient of what it leaves out: use optax.multi_transform "
            "(or optax.partition), with an optimiser for each part"
        )
    return bool(against)


def _along(optimiser: optax.GradientTransformation, gradient: PyTree) -> np.ndarray:
    """`[leaves]`: the inner product of the gradient and the updates to it, summed over steps."""

    def one(carry: PyTree, _: None) -> tuple[PyTree, Float[Array, " leaves"]]:
        parameters, state = carry
        updates, after = updated(optimiser, gradient, state, parameters)
        if _shapes(updates) != _shapes(gradient):
            raise UserError(
                "the optimiser's updates are of another structure or other shapes than the "
                f"gradient: it returned {_shapes(updates)} for {_shapes(gradient)}. One that needs "
                "parameters of a structure of its own is not supported"
            )
        pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(updates), strict=True)
        along = jnp.stack([jnp.sum(g * u).astype(jnp.float32) for g, u in pairs])
        return (optax.apply_updates(parameters, updates), after), along

    @compiled
    def steps(carry: PyTree) -> tuple[PyTree, Float[Array, " leaves"]]:
        carry, along = jax.lax.scan(one, carry, length=ROUND)
        return carry, jnp.sum(along, axis=0)

    try:
        parameters = jax.tree.map(jnp.zeros_like, gradient)
        carry = parameters, compiled(optimiser.init)(parameters)
        along = np.zeros(len(jax.tree.leaves(gradient)))
        for _ in range(MOST_STEPS // ROUND):
            carry, along = steps(carry)
            if np.any(np.asarray(along)):
                break
    except UserError:
        raise
    except Exception as error:  # whatever the user's function raises
        raise UserError(_refused(error, gradient)) from error
    return np.asarray(along)


def _refused(error: Exception, gradient: PyTree) -> str:
    """That an optimiser cannot be used, because it raised this when it was asked."""
    parameters = type(gradient).__name__
    if isinstance(error, AttributeError) and isinstance(error.obj, type(gradient)):
        return (
            f"the optimiser needs parameters of a structure of its own: it reads {error.name!r} of "
            f"them, which a {parameters} does not have. Such optimisers, as optax.lookahead with "
            "its LookaheadParams, are not supported; pass another one, such as optax.adam(1e-3)"
        )
    return (
        "the optimiser cannot be used for this policy: asked for updates to a gradient of its "
        f"structure, it raised {type(error).__name__}: {_first_line(error)}. It is called as "
        f"update(gradient, state, parameters) with two {parameters}, without a loss or other "
        "arguments; one that needs parameters of a structure of its own is not supported"
    )


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.shape, tree)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["(no message)"])[0][:300]


def _names(structure: Any, which: np.ndarray) -> list[str]:
    """The places of some leaves in the policy."""
    numbered = structure.unflatten(range(structure.num_leaves))
    places = jax.tree_util.tree_leaves_with_path(numbered)
    return [
        jax.tree_util.keystr(path).lstrip(".") or "the policy"
        for (path, _), chosen in zip(places, which, strict=True)
        if chosen
    ]

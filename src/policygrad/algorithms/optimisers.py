"""Optimisers by name: frozen records of settings that build an optax transformation.

They give a direction only. The algorithm multiplies it by a step size, which it adapts. An optax
transformation may be used in place of any record. If it descends by itself, as `optax.adam(1e-3)`
does, its update is taken as it is (`algorithms.probe`).
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from policygrad.core.errors import UserError
from policygrad.core.settings import Positive


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam's direction."""

    epsilon: Positive = field(default=1e-5, metadata={"setting": "adam_epsilon"})
    """adam divides each gradient component by its root mean square plus this number. Components far
    smaller than it change little."""
    log_std_step: Positive = 1.0
    """A step of log-std is this many times as long as a step of the other parameters."""

    def build(self) -> optax.GradientTransformation:
        """The transformation; the same object every time, so that compiled programs are reused."""
        return _scaled(optax.scale_by_adam, (("eps", self.epsilon),), self.log_std_step)


@dataclass(frozen=True, kw_only=True)
class RMSprop:
    """The gradient divided by its running root mean square."""

    log_std_step: Positive = 1.0
    """A step of log-std is this many times as long as a step of the other parameters."""

    def build(self) -> optax.GradientTransformation:
        """The transformation; the same object every time, so that compiled programs are reused."""
        return _scaled(optax.scale_by_rms, (), self.log_std_step)


@dataclass(frozen=True, kw_only=True)
class SGD:
    """The gradient itself."""

    def build(self) -> optax.GradientTransformation:
        """The transformation; the same object every time, so that compiled programs are reused."""
        return _scaled(optax.identity, (), 1.0)


Record = Adam | RMSprop | SGD
Optimiser = Record | optax.GradientTransformation | optax.MultiSteps


def transformation(optimiser: Optimiser) -> optax.GradientTransformation:
    """The optax transformation that a record builds; an optax transformation is returned as it is.

    Raises:
        UserError: it is neither.
    """
    if isinstance(optimiser, optax.GradientTransformation):
        return optimiser
    if isinstance(optimiser, optax.MultiSteps):  # it has the functions, but not the type
        return optimiser.gradient_transformation()
    if isinstance(optimiser, Record):
        return optimiser.build()
    if callable(optimiser):
        name = getattr(optimiser, "__name__", repr(optimiser))
        raise UserError(
            f"optimiser={name} is a function that makes an optimiser; call it, as in "
            "optimiser=optax.adam(1e-3)"
        )
    raise UserError(
        f"optimiser={optimiser!r} is no optimiser; pass an optax transformation such as "
        "optax.adam(1e-3), a record such as policygrad.algorithms.Adam(), or, to train, one of the "
        "names adam, rmsprop and sgd"
    )


def updated(
    optimiser: optax.GradientTransformation, gradient: PyTree, state: PyTree, parameters: PyTree
) -> tuple[PyTree, PyTree]:
    """An optimiser's updates to a descent gradient, and its next state, in the types of the last.

    A schedule may compute in other types than it began with, and then no loop can carry its state.
    """
    updates, after = optimiser.update(gradient, state, parameters)
    return updates, jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, state)


@lru_cache(maxsize=32)
def _scaled(
    make: Any, settings: tuple[tuple[str, float], ...], log_std_step: float
) -> optax.GradientTransformation:
    optimiser = make(**dict(settings))
    if log_std_step == 1:
        return optimiser
    return optax.chain(optimiser, optax.masked(optax.scale(log_std_step), _is_log_std))


def _is_log_std(parameters: PyTree) -> PyTree:
    """Whether a leaf is a log standard deviation, by the name of the field that holds it."""

    def named(path: tuple[Any, ...], _: Any) -> bool:
        return getattr(path[-1], "name", None) == "log_std" if path else False

    return jax.tree_util.tree_map_with_path(named, parameters)

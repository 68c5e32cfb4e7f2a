"""Optimisers by name: frozen records of settings that build an optax transformation.

They give a direction only. The algorithm multiplies it by a step size, which it adapts. An optax
transformation may be used in place of any record.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import optax
from jaxtyping import PyTree

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


Optimiser = Adam | RMSprop | SGD | optax.GradientTransformation


def transformation(optimiser: Optimiser) -> optax.GradientTransformation:
    """The optax transformation that a record builds; an optax transformation is returned as it
    is."""
    if isinstance(optimiser, optax.GradientTransformation):
        return optimiser
    return optimiser.build()


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

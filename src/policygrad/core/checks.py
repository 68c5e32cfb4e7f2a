"""Checks of what constructors are given, with one wording.

Numbers under a JAX transformation have no value yet, and pass.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array


def _concrete(name: str, value: object) -> np.ndarray | None:
    if isinstance(value, Tracer):
        return None
    array = None if isinstance(value, (list, tuple)) else np.asarray(value)
    if array is None or array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be a number, got {name}={value!r}")
    return array


def finite(name: str, value: object) -> None:
    """Raise ValueError unless value is one finite number."""
    x = _concrete(name, value)
    if x is not None and not (x.ndim == 0 and np.isfinite(x)):
        raise ValueError(f"{name} must be a finite number, got {name}={value}")


def positive(name: str, value: object) -> None:
    """Raise ValueError unless value > 0 and finite."""
    x = _concrete(name, value)
    if x is not None and not np.all((x > 0) & np.isfinite(x)):
        raise ValueError(f"{name} must be positive, got {name}={value}")


def whole(name: str, value: object) -> None:
    """Raise ValueError unless value is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a whole number, at least 1, got {name}={value!r}")


def unit_interval(name: str, value: object) -> None:
    """Raise ValueError unless 0 ≤ value ≤ 1."""
    x = _concrete(name, value)
    if x is not None and not np.all((x >= 0) & (x <= 1)):
        raise ValueError(f"{name} must be between 0 and 1, got {name}={value}")


def flag(name: str, value: object) -> None:
    """Raise ValueError unless value is True or False."""
    if not isinstance(value, (bool, np.bool_, Tracer)):
        raise ValueError(f"{name} must be True or False, got {name}={value!r}")


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {name}={value!r}")


def numbers(name: str, values: object) -> np.ndarray:
    """Lists or arrays of numbers as a float64 NumPy array; ValueError unless all are finite."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _no_array(name, values) from error
    if not np.all(np.isfinite(array)):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        place = f"{name}{list(where)}" if where else name
        raise ValueError(f"{name} must be finite, got {place}={array[where]}")
    return array


def floats(name: str) -> Callable[[Any], Array]:
    """A converter for a field: lists or arrays of numbers as a floating-point JAX array."""

    def convert(values: Any) -> Array:
        try:
            array = jnp.asarray(values)
        except (TypeError, ValueError) as error:
            raise _no_array(name, values) from error
        if jnp.issubdtype(array.dtype, jnp.floating):
            return array
        if not jnp.issubdtype(array.dtype, jnp.number):
            raise _no_array(name, values)
        return array.astype(float)

    return convert


def flags(name: str) -> Callable[[Any], Array | None]:
    """A converter for a field: lists or arrays of flags as a JAX array of booleans, or None."""

    def convert(values: Any) -> Array | None:
        if values is None:
            return None
        try:
            return jnp.asarray(values).astype(bool)
        except (TypeError, ValueError) as error:
            raise _no_array(name, values) from error

    return convert


def _no_array(name: str, values: object) -> ValueError:
    return ValueError(f"{name} must be an array of numbers, got {values!r}")

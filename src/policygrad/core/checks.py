"""Range checks with one wording. Numbers under a JAX transformation have no value yet and pass."""

import numpy as np
from jax.core import Tracer


def _concrete(value: object) -> np.ndarray | None:
    return None if isinstance(value, Tracer) else np.asarray(value)


def positive(name: str, value: object) -> None:
    """Raise ValueError unless value > 0 and finite."""
    x = _concrete(value)
    if x is not None and not np.all((x > 0) & np.isfinite(x)):
        raise ValueError(f"{name} must be positive, got {name}={value}")


def whole(name: str, value: object) -> None:
    """Raise ValueError unless value is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a whole number, at least 1, got {name}={value}")


def unit_interval(name: str, value: object) -> None:
    """Raise ValueError unless 0 ≤ value ≤ 1."""
    x = _concrete(value)
    if x is not None and not np.all((x >= 0) & (x <= 1)):
        raise ValueError(f"{name} must be between 0 and 1, got {name}={value}")


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {name}={value!r}")

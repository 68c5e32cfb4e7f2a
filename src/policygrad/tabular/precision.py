"""The boundary of the laboratory: float64 inside, NumPy outside. No global flag is set."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax.core import Tracer

P = ParamSpec("P")
R = TypeVar("R")


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function with JAX in float64, whatever the precision of the caller and its arrays."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        args, kwargs = _widened(args), _widened(kwargs)
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return wrapped


def _widened(tree: Any) -> Any:
    """Float32 arrays as float64; the same object if there are none."""
    if not any(map(_is_narrow, jax.tree.leaves(tree))):
        return tree
    return jax.tree.map(lambda x: np.asarray(x, np.float64) if _is_narrow(x) else x, tree)


def _is_narrow(x: Any) -> bool:
    # a traced array belongs to the caller's program, which chooses its precision
    return (
        isinstance(x, (np.ndarray, jax.Array))
        and not isinstance(x, Tracer)
        and x.dtype == np.float32
    )

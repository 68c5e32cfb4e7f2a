"""Numbers that 32 bits cannot tell apart: which components of an observation may hold such."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from policygrad.spaces.box import Box
from policygrad.spaces.nested import Nested
from policygrad.spaces.space import Space, path_of

LEAST_STEPS = 256  # a range of fewer numbers of 32 bits than this loses much


def unresolved(space: Space, keys: tuple[Any, ...] = ()) -> Iterator[str]:
    """The components whose bounds lie so close together, far from zero, that 32 bits merge numbers.

    Only Boxes of 64-bit floats and of whole numbers can hold more than a record does.
    """
    if isinstance(space, Nested):
        for key, part in space.read:
            yield from unresolved(part, (*keys, key))
        return
    dtype = np.dtype(space.dtype) if isinstance(space, Box) else None
    if (
        not isinstance(space, Box)
        or dtype is None
        or dtype.itemsize < (8 if dtype.kind == "f" else 4)
    ):
        return
    low, high = (np.asarray(np.broadcast_to(x, space.shape), np.float64) for x in space.limits)
    size = np.maximum(np.abs(low), np.abs(high))
    with np.errstate(over="ignore", invalid="ignore"):
        apart = np.spacing(size.astype(np.float32)).astype(np.float64)
        merged = space.bounded & (high > low) & (high - low < LEAST_STEPS * apart)
    if dtype.kind in "iu":
        merged &= apart > 1
    for place in np.argwhere(merged):
        at = tuple(place)
        yield (
            f"{path_of((*keys, *place.tolist()))} lies between {low[at]:.15g} and {high[at]:.15g}, "
            f"where numbers of 32 bits are {apart[at]:g} apart"
        )


def warn_of_unresolved(space: Space) -> None:
    """Warn of what a policy cannot tell apart, since it reads numbers of 32 bits."""
    found = list(unresolved(space))
    if found:
        more = f", and {len(found) - 1} more components like it" if len(found) > 1 else ""
        warnings.warn(
            f"{found[0]}{more}: a policy reads 32 bits; subtract an offset in the environment",
            stacklevel=2,
        )

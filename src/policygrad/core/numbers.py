"""Real numbers, however they are wrapped."""

import math
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np


def plain_number(value: Any) -> float | None:
    """A real number however it is wrapped, also in an array of one; None if it is none."""
    if isinstance(value, (Real, Decimal, np.bool_)):
        try:
            return float(value)
        except OverflowError:  # a whole number beyond all floats
            return -math.inf if getattr(value, "numerator", 1) < 0 else math.inf
    if value is None or isinstance(value, (str, bytes)):
        return None
    try:
        array = np.asarray(value)
    except Exception:
        return None
    if array.size != 1 or array.dtype.kind not in "fiubO":
        return None
    item = array.item()
    return plain_number(item) if isinstance(item, (Real, Decimal)) else None

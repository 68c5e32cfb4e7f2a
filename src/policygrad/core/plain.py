"""Plain data: what JSON can hold of a record, an array or a number."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def to_json(value: Any) -> Any:
    """Plain data, with None for what is infinite or not defined, which JSON has no number for.

    Args:
        value: numbers, strings, NumPy's numbers and arrays, sequences, mappings (whose keys become
            strings) and dataclasses, one in another. A field whose metadata say `{"json": False}`
            is left out. Anything else is returned as it is.

    >>> to_json({"x": np.array([1.0, np.nan]), 2: (math.inf, True)})
    {'x': [1.0, None], '2': [None, True]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: to_json(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if f.metadata.get("json", True)
        }
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(x) for x in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return to_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

"""What JSON can hold."""

import json
from dataclasses import dataclass, field

import numpy as np

from policygrad.core.plain import to_json


@dataclass
class Inner:
    x: float
    kept_from_files: np.ndarray = field(metadata={"json": False})


@dataclass
class Outer:
    inner: Inner
    names: dict


def test_what_json_has_no_number_for_is_none():
    data = {"a": np.float32(1.5), "b": [np.nan, np.inf], 3: (np.int64(2), np.arange(2))}
    assert to_json(data) == {"a": 1.5, "b": [None, None], "3": [2, [0, 1]]}
    assert to_json((np.float64("nan"), -np.inf, np.bool_(True), None, "nan")) == [
        None, None, True, None, "nan",
    ]  # fmt: skip
    assert to_json(np.array(np.inf)) is None
    assert to_json(np.array([[1.0, np.nan]])) == [[1.0, None]]


def test_a_record_is_its_fields_but_for_those_that_stay_out():
    record = Outer(Inner(np.inf, np.arange(3)), {"x": Inner(1.0, np.arange(3))})
    assert to_json(record) == {"inner": {"x": None}, "names": {"x": {"x": 1.0}}}
    assert to_json(Outer) is Outer
    json.dumps(to_json(record), allow_nan=False)

"""What a user hands to an agent: taken in the types of a record, or refused by name."""

from decimal import Decimal

import numpy as np
import pytest
from gymnasium import spaces

from policygrad.core.errors import UserError
from policygrad.policies.observations import NonFiniteObservation, seen
from policygrad.spaces import observation_space_of
from policygrad.spaces.reading import reader_of

BIG = 2**40
PIXELS = spaces.Box(0, 255, (2,), np.uint8)


def read_by_an_agent(space, value):
    return seen(reader_of(observation_space_of(space)), value)


TAKEN = {
    "whole numbers for a Box of floats": (spaces.Box(-1, 1, (2,)), [0, 1]),
    "flags for a Box of floats": (spaces.Box(-1, 1, (2,)), np.array([True, False])),
    "floats for pixels": (PIXELS, np.array([7.0, 255.0])),
    "decimals": (spaces.Box(-1, 1, (2,)), [Decimal("0.5"), Decimal(1)]),
    "flags": (spaces.MultiBinary(2), [True, False]),
    "a choice of 64 bits": (spaces.Discrete(3), np.int64(2)),
}


@pytest.mark.parametrize(("space", "value"), TAKEN.values(), ids=TAKEN)
def test_one_observation_and_several_have_the_types_of_a_record(space, value):
    dtype = observation_space_of(space).example().dtype
    one, many = read_by_an_agent(space, value), read_by_an_agent(space, [value] * 3)
    assert (one.batch, many.batch) == (None, 3)
    assert one.observation.dtype == many.observation.dtype == dtype
    np.testing.assert_array_equal(many.observation, np.stack([one.observation] * 3))
    np.testing.assert_array_equal(one.observation, np.asarray(value, float))


REFUSED = {
    "beyond a type": (PIXELS, [0, 300], "300 in the observation, which does not fit in uint8"),
    "below it": (PIXELS, np.int64([-1, 0]), "-1 in the observation, which does not fit in uint8"),
    "fractions of pixels": (PIXELS, [0.5, 0], "0.5 in the observation, which does not fit in uint"),
    "beyond 32 bits": (spaces.Box(0, 9, (1,), np.int64), [2**40], "does not fit in int32"),
    "one of several": (spaces.Discrete(3, start=BIG), [BIG, BIG + 3], "of 1099511627776 to 1099"),
    "a pair": (spaces.Tuple([PIXELS] * 3), ((0, 0), {}), r"tuple of 3 parts; .*env\.reset"),
}


@pytest.mark.parametrize(("space", "value", "told"), REFUSED.values(), ids=REFUSED)
def test_what_an_agent_cannot_read_is_named(space, value, told):
    with pytest.raises(UserError, match=f"got .*{told}"):
        read_by_an_agent(space, value)


@pytest.mark.parametrize("value", [1e39, -1e300, 10**400, np.nan, np.float16(np.inf)], ids=str)
def test_numbers_too_large_for_a_record_are_not_finite(value):
    with pytest.raises(NonFiniteObservation, match=r"in observation\[1\]: no action follows"):
        read_by_an_agent(spaces.Box(-1, 1, (2,)), [0, value])


def test_a_pair_that_the_space_asks_for_has_no_hint():
    space = spaces.Tuple([PIXELS, spaces.Dict({"x": PIXELS})])
    with pytest.raises(UserError, match="300 in the observation") as caught:
        read_by_an_agent(space, ((0, 300), {"x": (0, 0)}))
    assert "reset" not in str(caught.value)

"""Which boxes are pictures, and how their numbers are read."""

import jax
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.spaces import ObservationEncoder, observation_space_of
from policygrad.spaces.pictures import channels_of


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((4, 84, 84), "first"),
        ((84, 84, 4), "last"),
        ((210, 160, 3), "last"),
        ((3, 210, 160), "first"),
        ((1, 36, 36), "first"),
        ((10, 10, 16), "last"),
        ((16, 10, 10), "first"),
        ((10, 10, 10), None),
        ((84, 4, 84), None),
        ((30, 20, 40), None),
    ],
    ids=str,
)
def test_channels_are_told_by_the_shape(shape, channels):
    assert channels_of(shape) == channels


def box(low=0, high=255, shape=(16, 16, 3), dtype=np.uint8):
    return spaces.Box(low, high, shape, dtype)


@pytest.mark.parametrize(
    ("space", "picture"),
    [
        (box(), True),
        (box(shape=(16, 16, 16)), True),  # bytes: what it cannot tell is asked for
        (box(high=1, dtype=np.float32), True),
        (box(high=255, dtype=np.float32), True),
        (box(high=1, shape=(16, 16, 16), dtype=np.float32), False),
        (box(low=-1, high=1, dtype=np.float32), False),
        (box(high=np.inf, dtype=np.float32), False),
        (box(shape=(3, 3, 2)), False),
        (box(shape=(16, 16)), (16, 16, 1)),
        (box(shape=(16, 7)), False),
        (box(high=9, shape=(16, 16)), False),
        (box(high=255, shape=(16, 16), dtype=np.float32), False),
        (box(shape=(4, 16, 20, 3)), (16, 20, 12)),
        (box(shape=(4, 3, 16, 20)), (12, 16, 20)),
        (box(shape=(2, 16, 16, 16)), False),
        (box(high=1, shape=(4, 16, 16, 3), dtype=np.float32), False),
        (box(shape=(2, 4, 16, 16, 3)), False),
        (box(shape=(48,)), False),
    ],
    ids=str,
)
def test_which_boxes_are_pictures(space, picture):
    found = observation_space_of(space)
    shape = space.shape if picture is True else picture
    assert found.pictures == ((shape,) if picture else ())
    assert found.measured == (not picture,)
    features = jax.eval_shape(ObservationEncoder(found), found.example())
    assert features.shape == (shape or space.shape)


@pytest.mark.parametrize("channels", ["first", "last"])
def test_the_channels_of_pictures_in_a_row_stand_side_by_side(channels):
    space = box(shape=(2, 8, 9, 3) if channels == "last" else (2, 3, 8, 9))
    picture = np.random.default_rng(0).integers(0, 256, space.shape, np.uint8)
    found = ObservationEncoder(observation_space_of(space))(picture) * 255
    expected = np.concatenate(list(picture), axis=-1 if channels == "last" else 0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_pictures_are_found_in_parts_of_an_observation():
    space = spaces.Dict({"b": box(), "a": spaces.Tuple((box(shape=(2,)), box(shape=(3, 9, 9))))})
    assert observation_space_of(space).pictures == ((3, 9, 9), (16, 16, 3))


@pytest.mark.parametrize(
    ("space", "values", "read"),
    [
        (box(), [0, 51, 255], [0, 0.2, 1]),
        (box(high=1), [0, 1, 1], [0, 1, 1]),
        (box(high=2, dtype=np.float32), [0, 0.5, 2], [0, 0.25, 1]),
    ],
    ids=["bytes", "flags", "floats"],
)
def test_pictures_are_read_between_0_and_1(space, values, read):
    observation = np.zeros(space.shape, space.dtype)
    observation[0, 0] = values
    found = ObservationEncoder(observation_space_of(space))(observation)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0], read, rtol=1e-6)


def test_what_is_no_picture_is_read_as_it_is():
    space = box(shape=(3, 3, 2))
    found = ObservationEncoder(observation_space_of(space))(np.full((3, 3, 2), 7, np.uint8))
    np.testing.assert_array_equal(found, np.full((3, 3, 2), 7, np.float32))

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.core.errors import UnsupportedSpaceError
from policygrad.spaces.actions import box_scale, clipped_fraction, to_environment
from policygrad.spaces.encoding import ObservationEncoder, action_mask
from policygrad.spaces.records import (
    check_action_space,
    check_observation_space,
    example_observation,
    space_from_json,
    space_to_json,
)

NESTED = spaces.Dict(
    {
        "place": spaces.Tuple([spaces.Discrete(3, start=-1), spaces.Box(-1, 1, (2, 2))]),
        "bag": spaces.Dict({"b": spaces.MultiBinary([2, 2]), "a": spaces.MultiDiscrete([2, 3])}),
    }
)
SPACES = {
    "box": spaces.Box(-1.0, 1.0, (3,), np.float32),
    "box with a bound each": spaces.Box(np.array([-1, 0.1]), np.array([0.3, 7]), dtype=np.float64),
    "box half infinite": spaces.Box(
        np.array([0, -np.inf]), np.array([np.inf, 2]), dtype=np.float64
    ),
    "box of bytes": spaces.Box(0, 255, (2, 2), np.uint8),
    "box of one number": spaces.Box(-2.0, 2.0, (), np.float32),
    "box of long integers": spaces.Box(-(2**62) - 1, 2**62 + 1, (1,), np.int64),
    "discrete": spaces.Discrete(4),
    "discrete with start": spaces.Discrete(4, start=-2),
    "multidiscrete": spaces.MultiDiscrete([2, 3]),
    "multidiscrete with start": spaces.MultiDiscrete([[2, 3], [4, 1]], start=[[0, 5], [-1, 2]]),
    "multibinary": spaces.MultiBinary(3),
    "multibinary matrix": spaces.MultiBinary([2, 3]),
    "nested": NESTED,
    "tuple": spaces.Tuple([spaces.Discrete(2), spaces.MultiBinary(2)]),
}
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


@every_space
def test_space_survives_json(space):
    text = space_to_json(space)
    json.loads(text, parse_constant=pytest.fail)  # JSON knows no infinity
    back = space_from_json(text)
    assert back == space
    assert space_to_json(back) == text


@every_space
def test_encoding_is_a_flat_vector_with_a_flag_each(space):
    encode = ObservationEncoder(space_to_json(space))
    space.seed(0)
    for observation in (space.sample(), example_observation(space)):
        vector = encode(observation)
        assert vector.ndim == 1
        assert vector.dtype == jnp.float32
        assert vector.shape == (len(encode.normalised),)
        assert jnp.isfinite(vector).all()


def test_encoding_by_hand():
    encode = ObservationEncoder(space_to_json(NESTED))
    observation = {
        "place": (1, np.array([[0.1, 0.2], [0.3, 0.4]])),
        "bag": {"b": np.array([[1, 0], [0, 1]]), "a": np.array([1, 2])},
    }
    expected = [0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0.1, 0.2, 0.3, 0.4]
    np.testing.assert_allclose(encode(observation), expected, rtol=1e-6)
    assert encode.normalised == (False,) * 12 + (True,) * 4


def test_one_hot_counts_from_the_start():
    encode = ObservationEncoder(space_to_json(spaces.Discrete(3, start=5)))
    np.testing.assert_array_equal(encode(np.int64(6)), [0, 1, 0])
    space = spaces.MultiDiscrete([2, 3], start=[4, -1])
    encode = ObservationEncoder(space_to_json(space))
    np.testing.assert_array_equal(encode(np.array([5, -1])), [0, 1, 1, 0, 0])


def test_action_mask_is_no_feature():
    space = spaces.Dict({"x": spaces.Box(-1, 1, (2,)), "action_mask": spaces.MultiBinary(3)})
    observation = {"x": np.array([0.5, -0.5]), "action_mask": np.array([1, 0, 1], np.int8)}
    encode = ObservationEncoder(space_to_json(space))
    np.testing.assert_array_equal(encode(observation), [0.5, -0.5])
    np.testing.assert_array_equal(action_mask(observation), [True, False, True])
    assert action_mask({"x": np.zeros(2)}) is None
    assert action_mask(np.zeros(2)) is None


def test_example_observation_is_in_the_space():
    assert example_observation(spaces.Discrete(3, start=5)) == 5
    assert NESTED["place"][0].contains(example_observation(NESTED)["place"][0])


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
@pytest.mark.parametrize(
    ("space", "actions", "expected"),
    [
        (spaces.Discrete(3), [0, 2], [0, 2]),
        (spaces.Discrete(3, start=-1), [0, 2], [-1, 1]),
        (spaces.MultiDiscrete([2, 3]), [[0, 2], [1, 0]], [[0, 2], [1, 0]]),
        (
            spaces.MultiDiscrete([[2, 3], [2, 2]], start=[[1, 0], [0, -1]]),
            [[0, 2, 1, 0]],
            [[[1, 2], [1, -1]]],
        ),
        (spaces.MultiBinary([2, 2]), [[0, 1, 1, 0]], [[[0, 1], [1, 0]]]),
        (spaces.Box(-2.0, 2.0, (1,)), [[0.5], [-0.5], [3.0]], [[1.0], [-1.0], [2.0]]),
        (spaces.Box(1.0, 5.0, (1,)), [[0.0], [-2.0]], [[3.0], [1.0]]),
        (spaces.Box(-np.inf, np.inf, (1,)), [[7.0]], [[7.0]]),
        (spaces.Box(0.0, np.inf, (1,)), [[7.0], [-7.0]], [[7.0], [0.0]]),
        (spaces.Box(0.0, 4.0, ()), [0.5, 2.0], [3.0, 4.0]),
    ],
    ids=str,
)
def test_actions_cross_the_boundary(space, actions, expected, xp):
    dtype = np.float32 if isinstance(space, spaces.Box) else np.int32
    result = to_environment(space, xp.asarray(actions, dtype), xp)
    np.testing.assert_array_equal(np.asarray(result), expected)
    if xp is np:
        assert all(space.contains(np.asarray(action)) for action in result)


LARGE = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-0.1, 0.1, (1,), np.float64),  # 0.1 rounds up in float32
        spaces.Box(np.array([-0.3, 0.7]), np.array([0.1, 0.9]), dtype=np.float64),
        spaces.Box(-0.1, 0.1, (1,), np.float16),
        spaces.Box(1e6, 1e6 + 0.3, (1,), np.float64),
        spaces.Box(-LARGE, LARGE, (1,), np.float32),
        spaces.Box(-1e308, 1e308, (1,), np.float64),
        spaces.Box(0.0, np.inf, (1,), np.float64),
        spaces.Box(np.array([-np.inf, -1]), np.array([3, np.inf]), dtype=np.float64),
        spaces.Box(2.0, 2.0, (1,), np.float32),
    ],
    ids=str,
)
def test_every_action_lies_in_the_box(space):
    for size in (0.0, 0.3, 1.0, -1.0, 2.0, -2.0, 1e6, -1e6):
        action = to_environment(space, np.full(space.shape, size, np.float32))
        assert action.dtype == space.dtype
        assert space.contains(action), f"{action!r} is not in {space}"


def test_box_scale_is_half_the_range_where_there_is_one():
    space = spaces.Box(np.array([-2, 0, -np.inf]), np.array([4, np.inf, 1]), dtype=np.float64)
    middle, half = box_scale(space)
    np.testing.assert_array_equal(middle, [1, 0, 0])
    np.testing.assert_array_equal(half, [3, 1, 1])


def test_clipped_fraction_counts_valid_components():
    space = spaces.Box(-2.0, 2.0, (2,))
    actions = jnp.array([[[0.5, 1.5]], [[-1.5, 1.5]], [[9.0, 9.0]]])
    valid = jnp.array([[True], [True], [False]])
    assert math.isclose(clipped_fraction(space, actions, valid), 0.75)
    assert clipped_fraction(spaces.Discrete(2), actions, valid) == 0


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(3),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Text(3)}),
        spaces.Tuple([spaces.Graph(spaces.Box(0, 1), None)]),
    ],
    ids=str,
)
def test_other_spaces_are_refused_with_what_is_supported(space):
    for check in (check_observation_space, check_action_space):
        with pytest.raises(UnsupportedSpaceError, match="MultiBinary"):
            check(space)
    with pytest.raises(UnsupportedSpaceError):
        space_to_json(space)


@pytest.mark.parametrize(
    "space", [spaces.Box(0, 3, (2,), np.int32), spaces.Dict({"a": spaces.Discrete(2)})], ids=str
)
def test_action_spaces_without_a_distribution_are_refused(space):
    with pytest.raises(UnsupportedSpaceError, match="action space"):
        check_action_space(space)

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.core.errors import UnsupportedSpaceError
from policygrad.policies import network_policy
from policygrad.spaces import (
    ACTION_MASK,
    ObservationEncoder,
    action_mask,
    action_space_of,
    clipped_fraction,
    flat,
    observation_space_of,
    space_from_json,
    space_of,
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
    record = space_of(space)
    text = record.to_json()
    json.loads(text, parse_constant=pytest.fail)  # JSON knows no infinity
    back = space_from_json(text)
    assert (back, hash(back)) == (record, hash(record))
    assert back.to_json() == text
    assert back.to_gymnasium() == space


def test_the_text_of_saved_spaces_stays_readable():
    """As version 0.1 wrote it, and as it is still written."""
    saved = (
        '{"kind": "Dict", "spaces": {"a": {"kind": "Tuple", "spaces": [{"kind": "Discrete", "n": 3,'
        ' "start": -1}, {"dtype": "float32", "high": [1.0, "inf"], "kind": "Box", "low": ["-inf", '
        '0.0], "shape": [2]}]}, "b": {"kind": "MultiBinary", "n": [2, 2]}, "c": {"kind": '
        '"MultiDiscrete", "nvec": [2, 3], "start": [0, 1]}}}'
    )
    low, high = np.float32([-np.inf, 0]), np.float32([1, np.inf])
    space = spaces.Dict(
        {
            "a": spaces.Tuple([spaces.Discrete(3, start=-1), spaces.Box(low, high)]),
            "b": spaces.MultiBinary([2, 2]),
            "c": spaces.MultiDiscrete([2, 3], start=[0, 1]),
        }
    )
    assert space_from_json(saved).to_gymnasium() == space
    assert json.loads(space_of(space).to_json()) == json.loads(saved)


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(3, dtype=np.int32), spaces.MultiDiscrete([2, 3], dtype=np.int8)],
    ids=str,
)
def test_the_type_of_a_choice_is_kept(space):
    back = space_from_json(space_of(space).to_json()).to_gymnasium()
    assert back == space
    assert back.dtype == space.dtype


def test_equal_spaces_are_one_value():
    """So that what was compiled for one is found for the other."""
    for make in (lambda: NESTED, lambda: spaces.Box(np.float32([0, 0]), np.float32([1, np.inf]))):
        assert space_of(make()) == space_of(make())
        assert {space_of(make()): 1}[space_of(make())] == 1
    assert space_of(spaces.Discrete(3)) != space_of(spaces.Discrete(3, start=1))


@every_space
def test_features_are_numbers_with_a_flag_for_each_array(space):
    encode = ObservationEncoder(space_of(space))
    space.seed(0)
    for observation in (space.sample(), encode.space.example()):
        leaves = jax.tree.leaves(encode(observation))
        assert len(leaves) == len(encode.normalised)
        for leaf in leaves:
            assert leaf.dtype == jnp.float32
            assert jnp.isfinite(leaf).all()


def test_features_keep_the_shape_of_what_is_observed():
    features = space_of(NESTED).features(space_of(NESTED).example())
    shapes = jax.tree.map(jnp.shape, features)
    assert shapes == {"place": ((3,), (2, 2)), "bag": {"b": (2, 2), "a": (5,)}}


def test_encoding_by_hand():
    encode = ObservationEncoder(space_of(NESTED))
    observation = {
        "place": (1, np.array([[0.1, 0.2], [0.3, 0.4]])),
        "bag": {"b": np.array([[1, 0], [0, 1]]), "a": np.array([1, 2])},
    }
    expected = [0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0.1, 0.2, 0.3, 0.4]
    np.testing.assert_allclose(flat(encode(observation)), expected, rtol=1e-6)
    assert encode.normalised == (False, False, False, True)


def test_one_hot_counts_from_the_start():
    features = space_of(spaces.Discrete(3, start=5)).features
    np.testing.assert_array_equal(features(np.int64(6)), [0, 1, 0])
    features = space_of(spaces.MultiDiscrete([2, 3], start=[4, -1])).features
    np.testing.assert_array_equal(features(np.array([5, -1])), [0, 1, 1, 0, 0])


def test_action_mask_is_no_feature():
    space = space_of(
        spaces.Dict({"x": spaces.Box(-1, 1, (2,)), ACTION_MASK: spaces.MultiBinary(3)})
    )
    observation = {"x": np.array([0.5, -0.5]), ACTION_MASK: np.array([1, 0, 1], np.int8)}
    np.testing.assert_array_equal(flat(space.features(observation)), [0.5, -0.5])
    assert len(space.parts(observation)) == len(space.measured) == 1
    np.testing.assert_array_equal(action_mask(observation), [True, False, True])
    assert action_mask({"x": np.zeros(2)}) is None
    assert action_mask(np.zeros(2)) is None


def test_example_is_in_the_space():
    assert space_of(spaces.Discrete(3, start=5)).example() == 5
    assert NESTED["place"][0].contains(space_of(NESTED).example()["place"][0])


def test_greatest_entropy_is_that_of_the_uniform_distribution():
    assert space_of(spaces.Discrete(4)).greatest_entropy == pytest.approx(np.log(4))
    parts = [spaces.MultiDiscrete([2, 3]), spaces.MultiBinary([2, 2])]
    for space in (spaces.Tuple(parts), spaces.Dict(dict(zip("ab", parts, strict=True)))):
        assert space_of(space).greatest_entropy == pytest.approx(np.log(6 * 16))
    assert math.isnan(space_of(spaces.Box(-1, 1, (2,))).greatest_entropy)


SCREEN = (16, 16, 3)


@pytest.mark.parametrize(
    ("ours", "theirs", "fits"),
    [
        (spaces.Box(-1, 1, (2,)), spaces.Box(-3, np.inf, (2,)), True),
        (spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (3,)), False),
        (spaces.Discrete(3), spaces.Discrete(3, start=1), False),
        (spaces.MultiBinary(2), spaces.MultiBinary([2]), True),
        (spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([2, 2]), False),
        (spaces.Tuple([spaces.Box(-1, 1)]), spaces.Tuple([spaces.Box(0, 1)]), True),
        (spaces.Tuple([spaces.Box(-1, 1)]), spaces.Tuple([]), False),
        (spaces.Dict({"a": spaces.Box(-1, 1)}), spaces.Dict({"a": spaces.Box(0, 1)}), True),
        (spaces.Dict({"a": spaces.Box(-1, 1)}), spaces.Dict({"b": spaces.Box(-1, 1)}), False),
        (spaces.Box(0, 255, SCREEN, np.uint8), spaces.Box(0, 255, SCREEN), True),
        (spaces.Box(0, 255, SCREEN, np.uint8), spaces.Box(0, 1, SCREEN), False),
        (spaces.Box(0, 1, SCREEN), spaces.Box(-1, 1, SCREEN), False),
        (NESTED, NESTED, True),
        (NESTED, spaces.Discrete(2), False),
    ],
    ids=str,
)
def test_spaces_fit_where_they_differ_in_bounds_that_no_scale_follows_from(ours, theirs, fits):
    assert space_of(ours).fits(space_of(theirs)) is fits
    assert space_of(theirs).fits(space_of(ours)) is fits


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
    result = action_space_of(space).to_environment(xp.asarray(actions, dtype), xp)
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
        action = action_space_of(space).to_environment(np.full(space.shape, size, np.float32))
        assert action.dtype == space.dtype
        assert space.contains(action), f"{action!r} is not in {space}"


def test_box_scale_is_half_the_range_where_there_is_one():
    space = spaces.Box(np.array([-2, 0, -np.inf]), np.array([4, np.inf, 1]), dtype=np.float64)
    middle, half = space_of(space).scale
    np.testing.assert_array_equal(middle, [1, 0, 0])
    np.testing.assert_array_equal(half, [3, 1, 1])


def test_clipped_fraction_counts_valid_components():
    space = spaces.Box(-2.0, 2.0, (2,))
    actions = jnp.array([[[0.5, 1.5]], [[-1.5, 1.5]], [[9.0, 9.0]]])
    valid = jnp.array([[True], [True], [False]])
    assert math.isclose(clipped_fraction(space_of(space), actions, valid), 0.75)
    assert clipped_fraction(space_of(spaces.Discrete(2)), actions, valid) == 0


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
    for check in (observation_space_of, action_space_of):
        with pytest.raises(UnsupportedSpaceError, match="MultiBinary"):
            check(space)
    with pytest.raises(UnsupportedSpaceError, match="is not supported"):
        space_of(space)


def test_keys_of_a_dict_that_are_no_text_are_refused():
    space = spaces.Tuple([spaces.Dict({0: spaces.Discrete(2), 1: spaces.Discrete(2)})])
    for check in (observation_space_of, space_of):
        with pytest.raises(UnsupportedSpaceError, match="has the key 0; keys must be text"):
            check(space)
    with pytest.raises(UnsupportedSpaceError, match="is not supported"):
        action_space_of(space)


@pytest.mark.parametrize(
    "space",
    [spaces.Box(0, 3, (2,), np.int32), spaces.Dict({"a": spaces.Box(0, 3, (2,), np.int32)})],
    ids=str,
)
def test_action_spaces_without_a_distribution_are_refused(space):
    with pytest.raises(UnsupportedSpaceError, match="action space"):
        action_space_of(space)


NO_NUMBERS = {
    "no box": spaces.Box(-1, 1, (0,)),
    "no box of two axes": spaces.Box(-1, 1, (2, 0)),
    "no choice": spaces.MultiDiscrete([]),
    "no part": spaces.Dict({}),
    "no part in order": spaces.Tuple(()),
    "a part without numbers": spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Tuple(())}),
}


@pytest.mark.parametrize("space", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_fault_13_action_spaces_of_no_numbers_are_refused(space):
    with pytest.raises(UnsupportedSpaceError, match="holds no number"):
        action_space_of(space)


@pytest.mark.parametrize("space", list(NO_NUMBERS.values())[2:5], ids=list(NO_NUMBERS)[2:5])
def test_fault_13_observation_spaces_without_arrays_are_refused(space):
    with pytest.raises(UnsupportedSpaceError, match="holds no array"):
        observation_space_of(space)


@pytest.mark.parametrize(
    "space",
    [
        *list(NO_NUMBERS.values())[:2],
        NO_NUMBERS["a part without numbers"],
        spaces.Dict({"a": spaces.MultiDiscrete([]), "b": spaces.Box(-1, 1, (0,))}),
    ],
    ids=str,
)
def test_fault_13_an_observation_with_empty_arrays_is_read(space):
    policy = network_policy(jax.random.key(0), space, spaces.Discrete(3), hidden=(8,))
    assert policy(space.sample()).logits.shape == (3,)

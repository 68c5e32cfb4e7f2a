"""Masks of actions: used where it is clear what is meant, else refused; never dropped."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.core.errors import UnsupportedSpaceError
from policygrad.policies.agent import Agent
from policygrad.policies.space_policy import network_policy
from policygrad.spaces import (
    action_mask,
    action_space_of,
    flat,
    observation_space_of,
    permits_nothing,
    space_of,
    warn_of_other_names,
)

KEY = jax.random.key(0)
X = spaces.Box(-1.0, 1.0, (2,))
FOUR = spaces.Discrete(4)
FLAGS = spaces.MultiBinary(4)
HYBRID = spaces.Dict({"gear": FOUR, "move": X, "flags": spaces.MultiBinary(2)})
PAIR = spaces.Tuple([X, FOUR, spaces.MultiDiscrete([2, 3])])
ONE = np.int8([0, 0, 1, 0])


def sees(**parts):
    return spaces.Dict({"x": X, **parts})


# observation space, its mask, action space, and which part of an action must be 2
USED = {
    "beside features": (sees(action_mask=FLAGS), lambda m: {"action_mask": m}, FOUR),
    "in a Dict in a Dict": (
        sees(agent=spaces.Dict({"y": X, "action_mask": FLAGS})),
        lambda m: {"agent": {"y": np.zeros(2, np.float32), "action_mask": m}},
        FOUR,
    ),
    "in a Dict in a Tuple": (
        sees(all=spaces.Tuple([X, sees(action_mask=FLAGS)])),
        lambda m: {
            "all": (np.zeros(2, np.float32), {"x": np.zeros(2, np.float32), "action_mask": m})
        },
        FOUR,
    ),
    "alone in an inner Dict": (
        sees(info=spaces.Dict({"action_mask": FLAGS})),
        lambda m: {"info": {"action_mask": m}},
        FOUR,
    ),
    "a Box of flags": (
        sees(action_mask=spaces.Box(0, 1, (4,), np.bool_)),
        lambda m: {"action_mask": m > 0},
        FOUR,
    ),
    "of two axes with the right number of flags": (
        sees(action_mask=spaces.MultiBinary([2, 2])),
        lambda m: {"action_mask": m.reshape(2, 2)},
        FOUR,
    ),
    "for a part of a Dict": (
        sees(action_mask=spaces.Dict({"gear": FLAGS})),
        lambda m: {"action_mask": {"gear": m}},
        HYBRID,
    ),
    "for the parts of a Tuple that are no Box": (
        sees(action_mask=spaces.Tuple([FLAGS, spaces.MultiBinary(5)])),
        lambda m: {"action_mask": (m, np.int8([1, 1, 1, 1, 1]))},
        PAIR,
    ),
    "flat, for choices alone": (
        sees(action_mask=spaces.MultiBinary(6)),
        lambda m: {"action_mask": np.concatenate([m, np.int8([0, 1])])},
        spaces.Tuple([FOUR, spaces.Discrete(2)]),
    ),
}


@pytest.mark.parametrize(("space", "masked", "actions"), USED.values(), ids=USED)
def test_case_11_a_mask_that_fits_is_used_wherever_it_stands(space, masked, actions):
    policy = network_policy(KEY, space, actions, hidden=(8,))
    agent = Agent(policy, space, actions)
    observation = {"x": np.zeros(2, np.float32)} | masked(ONE)
    for i in range(10):
        action = agent.act(observation, i)
        taken = action["gear"] if isinstance(action, dict) else action
        if isinstance(action, tuple):
            taken = action[1] if len(action) == 3 else action[0]
        assert taken == 2
        assert actions.contains(jax.tree.map(lambda x: x, action))


def test_a_nested_mask_is_no_feature_and_what_stands_beside_it_is():
    space, masked, actions = USED["in a Dict in a Dict"]
    policy = network_policy(KEY, space, actions, hidden=(8,))
    observation = {"x": np.ones(2, np.float32)} | masked(ONE)
    assert flat(policy.normaliser.encode(observation)).shape == (4,)


def test_case_11_a_mask_alone_is_applied_and_read():
    space = spaces.Dict({"action_mask": FLAGS})
    policy = network_policy(KEY, space, FOUR, hidden=(8,))
    np.testing.assert_array_equal(flat(policy.normaliser.encode({"action_mask": ONE})), ONE)
    assert Agent(policy, space, FOUR).act({"action_mask": ONE}, 0) == 2


REFUSED = {
    "wrong length": (sees(action_mask=spaces.MultiBinary(3)), FOUR, "holds 3 flags, expected 4"),
    "on a Box": (sees(action_mask=spaces.MultiBinary(2)), X, "a Box has no mask"),
    "nested, wrong length": (
        sees(a=spaces.Tuple([X, spaces.Dict({"action_mask": spaces.MultiBinary(5)})])),
        FOUR,
        "observation['a'][1]['action_mask'].*holds 5 flags",
    ),
    "nested, on a Box": (
        sees(a=spaces.Dict({"action_mask": spaces.MultiBinary(2)})), X, "a Box has no mask",
    ),
    "two of them": (
        sees(action_mask=FLAGS, b=spaces.Dict({"action_mask": FLAGS})),
        FOUR,
        "2 masks.*observation['action_mask'] and observation['b']['action_mask']",
    ),
    "rows of the greatest n": (
        sees(action_mask=spaces.MultiBinary([2, 3])),
        spaces.MultiDiscrete([2, 3]),
        "holds 6 flags, expected 5",
    ),
    "added to logits": (
        sees(action_mask=spaces.Box(-np.inf, 0, (4,))), FOUR, "holds no number above 0",
    ),
    "a Dict for one choice": (
        sees(action_mask=spaces.Dict({"gear": FLAGS})), FOUR, "needs an action space of the same",
    ),
    "a part that is not there": (
        sees(action_mask=spaces.Dict({"gears": FLAGS})), HYBRID, "has no part 'gears'",
    ),
    "a part of wrong length": (
        sees(action_mask=spaces.Dict({"gear": spaces.MultiBinary(2)})),
        HYBRID,
        "holds 2 flags, expected 4.*'gear'",
    ),
    "a part that is a Box": (
        sees(action_mask=spaces.Dict({"move": spaces.MultiBinary(2)})), HYBRID, "a Box has no mask",
    ),
    "flat, with a Box": (
        sees(action_mask=spaces.MultiBinary(8)), HYBRID, "its Boxes have no mask",
    ),
    "too few masks for a Tuple": (
        sees(action_mask=spaces.Tuple([FLAGS])), PAIR, "holds 1 masks, expected 2",
    ),
    "an empty Dict": (sees(action_mask=spaces.Dict({})), HYBRID, "it is empty"),
}  # fmt: skip


@pytest.mark.parametrize(("space", "actions", "told"), REFUSED.values(), ids=REFUSED)
def test_further_masks_that_do_not_fit_are_refused(space, actions, told):
    pattern = ".*".join(map(re.escape, told.split(".*")))
    with pytest.raises(UnsupportedSpaceError, match=pattern):
        network_policy(KEY, space, actions, hidden=(8,))


@pytest.mark.parametrize(
    "name",
    ["mask", "legal_moves", "avail_actions", "valid_actions", "action_masks", "legal_actions"],
)
def test_further_names_of_masks_are_features_with_a_warning(name):
    records = observation_space_of(sees(**{name: FLAGS})), action_space_of(FOUR)
    with pytest.warns(UserWarning, match=rf"\['{name}'\] is read as an ordinary feature"):
        warn_of_other_names(*records)


@pytest.mark.parametrize(
    "space",
    [
        sees(mask=spaces.MultiBinary(3)),
        sees(mask=spaces.Box(0, 255, (4,), np.uint8)),
        sees(mask=FLAGS, action_mask=FLAGS),
        sees(masked=FLAGS),
        X,
    ],
    ids=str,
)
def test_other_features_are_no_masks(space):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_other_names(observation_space_of(space), action_space_of(FOUR))


@pytest.mark.parametrize(
    ("actions", "mask", "nothing"),
    [
        (FOUR, [0, 0, 0, 0], True),
        (FOUR, [0, 1, 0, 0], False),
        (spaces.MultiDiscrete([2, 3]), [0, 0, 1, 1, 1], True),
        (spaces.MultiDiscrete([2, 3]), [1, 0, 0, 1, 0], False),
        (spaces.MultiBinary(3), [0, 0, 0], False),
        (HYBRID, {"gear": [0, 0, 0, 0]}, True),
        (HYBRID, {"gear": [1, 0, 0, 0], "flags": [0, 0]}, False),
        (PAIR, ([1, 1, 1, 1], [1, 1, 0, 0, 0]), True),
        (spaces.Tuple([FOUR, spaces.Discrete(2)]), [1, 1, 1, 1, 0, 0], True),
        (None, [0, 0], True),
        (X, [0, 0, 0], True),
    ],
    ids=str,
)
def test_a_mask_permits_nothing_where_a_choice_has_nothing_left(actions, mask, nothing):
    rows = jax.tree.map(
        lambda x: np.int8(x)[None, None], mask, is_leaf=lambda x: isinstance(x, list)
    )
    record = None if actions is None else action_space_of(actions)
    assert bool(permits_nothing({"x": {"action_mask": rows}}, record)[0, 0]) is nothing


def test_without_a_mask_there_is_none():
    assert action_mask({"x": np.zeros(2), "y": (np.zeros(1), {"z": np.zeros(3)})}) is None
    assert permits_nothing({"x": jnp.zeros((1, 1, 2))}) is None
    assert space_of(sees()).read

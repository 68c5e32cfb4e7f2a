"""Noise on observations."""

import jax
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.core.errors import UserError
from policygrad.rollout.engines import open_source
from policygrad.rollout.noise import NoisyEnvironment, NoisyLanes, deviations, with_noise
from tests.worlds import DUCK, Chain


def test_noise_is_what_the_policy_sees_and_not_what_the_environment_goes_on_from():
    source = open_source(Chain, 64)
    lanes = NoisyLanes(source.lanes, np.float32(0.5))
    lanes.start(3)
    seen = np.asarray(lanes.observations)
    assert seen.dtype == np.float32
    assert abs(seen.std() - 0.5) < 5 * 0.5 / np.sqrt(2 * seen.size)
    step = lanes.step(np.ones(64, int))
    np.testing.assert_array_equal(np.asarray(step.successors)[:, 1], 1)
    lanes.start(3)
    np.testing.assert_array_equal(lanes.observations, seen)
    lanes.start(4)
    assert not np.array_equal(lanes.observations, seen)


def test_noise_of_a_compiled_environment():
    source = open_source(DUCK, 4)
    clean = source.pure
    noisy = NoisyEnvironment(clean, np.array([0.5, 0], np.float32))
    key = jax.random.key(0)
    state, observation = jax.vmap(noisy.reset)(jax.random.split(key, 500))
    assert abs(np.std(observation[:, 0]) - 0.5) < 0.1
    np.testing.assert_array_equal(observation[:, 1], 0)
    _, after, reward, _, _ = jax.vmap(noisy.step)(
        jax.random.split(key, 500), state, np.ones(500, int)
    )
    assert len(np.unique(reward)) == 1
    np.testing.assert_array_equal(after[:, 1], 1)


BOX = spaces.Box(-1, 1, (2,), np.float32)
MASKED = spaces.Dict({"x": BOX, "k": spaces.Discrete(3), "action_mask": spaces.Box(0, 1, (2,))})


def test_only_real_numbers_get_noise():
    assert deviations(MASKED, 0.5) == {"x": 0.5, "k": 0, "action_mask": 0}
    assert deviations(spaces.Tuple((BOX, spaces.MultiBinary(2))), 0.5) == (0.5, 0)
    np.testing.assert_array_equal(deviations(BOX, [0.1, 0]), np.array([0.1, 0], np.float32))


@pytest.mark.parametrize(
    ("space", "deviation", "words"),
    [
        (BOX, -1.0, "at least 0 and finite"),
        (BOX, float("nan"), "at least 0 and finite"),
        (BOX, [1.0, 2.0, 3.0], r"the shape \[2\] of an observation, got \[3\]"),
        (BOX, "loud", "must be numbers, got 'loud'"),
        (spaces.Discrete(3), 1.0, "is added to real numbers, and Discrete"),
        (spaces.Box(0, 255, (2,), np.uint8), 1.0, "is added to real numbers"),
        (
            spaces.Dict({"action_mask": BOX, "k": spaces.Discrete(3)}),
            1.0,
            "is added to real numbers",
        ),
    ],
)
def test_a_deviation_that_does_not_fit_is_named(space, deviation, words):
    with pytest.raises(UserError, match=words):
        deviations(space, deviation)


def test_a_source_of_another_kind_is_named():
    source = open_source(Chain, 2)

    class Other:
        observation_space, pure = source.observation_space, None

    with pytest.raises(UserError, match="Other takes no noise"):
        with_noise(Other(), 1.0)  # pyright: ignore
    source.close()

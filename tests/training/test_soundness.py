"""Batches that training refuses for what an environment declared wrongly."""

import jax
import numpy as np
import pytest

import policygrad
from policygrad.core.errors import EnvironmentFailure
from policygrad.environments.gymnax import GymnaxEnvironment
from policygrad.rollout import make_collector
from policygrad.training.soundness import check_finite, is_sound
from tests.worlds import TINY, DuckChain


def declaring(time_limit):
    """Episodes of 3 steps, all truncated, under a time limit that somebody declared."""
    environment = GymnaxEnvironment(DuckChain(3, terminates=False))
    environment.time_limit = time_limit
    return environment


def test_training_refuses_an_environment_that_truncates_before_its_time_limit():
    """A lane has no room for the successors then, and would bootstrap from another step's."""
    with pytest.raises(
        EnvironmentFailure, match=r"truncated 2 episodes in 8 steps.* after 3: more"
    ):
        policygrad.train(declaring(20), **TINY)


@pytest.mark.parametrize("time_limit", [3, None])
def test_true_time_limits_leave_room_for_all_successors(time_limit):
    environment, policy = declaring(time_limit), lambda x: policygrad.distributions.Categorical(x)
    collector = make_collector(environment, policy, jax.random.key(0), num_envs=2, steps=8)
    record = collector.collect(policy, jax.random.key(1))
    assert is_sound(record)
    check_finite(record, 0, 0)
    np.testing.assert_array_equal(record.cut_times[:3], [[3, 3], [3, 3], [2, 2]])

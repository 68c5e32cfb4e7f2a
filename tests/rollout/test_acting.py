"""What both rollouts share: keys that follow from rows and lanes, and room for successors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.maths.distributions import Categorical
from policygrad.policies.meeting import act
from policygrad.rollout.acting import cut_slots, lane_keys
from policygrad.rollout.actor import KEYS_AT_ONCE, Actor
from policygrad.rollout.collectors import seed_of

KEY = jax.random.key(5)


def policy(observation):
    """One action of very many, so that no two keys draw the same."""
    return Categorical(jnp.zeros(100_000))


def most_cuts(steps, time_limit):
    """Successors that a lane records, by the step at which its episode stands at first."""
    rows = np.arange(steps)
    return max(
        int(np.sum(((rows + begun + 1) % time_limit == 0) | (rows == steps - 1)))
        for begun in range(time_limit)
    )


@pytest.mark.parametrize("time_limit", [1, 2, 3, 5, 20])
def test_there_is_room_for_every_successor_and_little_more(time_limit):
    for steps in range(1, 18):
        most, slots = most_cuts(steps, time_limit), cut_slots(steps, time_limit)
        assert most <= slots <= min(most + 1, steps)
    assert cut_slots(7, 5) == most_cuts(7, 5) == 3


def test_without_a_time_limit_every_step_may_be_cut():
    assert cut_slots(9, None) == 9


def test_keys_of_rows_and_lanes_are_all_different_and_those_of_a_lane_its_own():
    keys = [
        jax.random.key_data(lane_keys(KEY, row, 4, first)) for row in (0, 1) for first in (0, 4)
    ]
    assert len(np.unique(np.concatenate(keys), axis=0)) == 16
    later = jax.random.key_data(lane_keys(KEY, 1, 2, 3))
    np.testing.assert_array_equal(later, jax.random.key_data(lane_keys(KEY, 1, 5))[3:])


def test_the_host_draws_with_the_key_of_each_row_and_lane():
    """Also where it makes the keys of many rows at once, and where rows are asked for anew."""
    draw = Actor(policy, 2, 3).sampler(policy, KEY)
    observations, times = jnp.zeros((2, 1)), np.ones(2, np.int32)
    for row in (0, 1, KEYS_AT_ONCE - 1, KEYS_AT_ONCE, 3 * KEYS_AT_ONCE + 5, 1):
        actions, log_probs = draw(row, observations, times)
        expected, expected_log_probs, _ = act(policy, (), lane_keys(KEY, row, 2, 3), observations)
        np.testing.assert_array_equal(actions, expected)
        np.testing.assert_allclose(log_probs, expected_log_probs, rtol=1e-6)


def test_seeds_of_keys_are_what_environments_take():
    seeds = {seed_of(key) for key in jax.random.split(KEY, 40)}
    assert len(seeds) == 40
    assert all(0 <= seed < 2**31 for seed in seeds)

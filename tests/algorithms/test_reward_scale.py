from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.algorithms.reward_scale import RewardScale
from tests.records import random_episodes, random_segments


def naive(records, discount):
    """1 / √(mean of G²) over all steps, column by column, and G itself."""
    squares = []
    running = np.zeros(records[0].rewards.shape[1])
    for record in records:
        if record.whole_episodes:
            running = np.zeros(record.rewards.shape[1])
        rewards, valid = np.asarray(record.rewards, float), np.asarray(record.valid)
        ended = np.asarray(record.terminated | record.truncated)
        for t, b in np.ndindex(*rewards.shape):
            if valid[t, b]:
                running[b] = rewards[t, b] + discount * running[b]
                squares.append(running[b] ** 2)
                if ended[t, b]:
                    running[b] = 0
    return 1 / np.sqrt(np.mean(squares)), running


@pytest.mark.parametrize("make", [random_segments, random_episodes])
def test_factor_against_the_definition_over_several_batches(make):
    records = [make(seed) for seed in range(4)]
    scale = RewardScale.init(records[0].rewards.shape[1])
    for count in range(1, 5):
        scale = scale.update(records[count - 1], 0.9)
        factor, running = naive(records[:count], 0.9)
        np.testing.assert_allclose(scale.factor, factor, rtol=1e-5)
        if not records[0].whole_episodes:
            np.testing.assert_allclose(scale.running, running, rtol=1e-4, atol=1e-5)


def test_nothing_crosses_from_one_episode_to_the_next():
    record = random_segments()
    ended = jnp.ones_like(record.terminated)
    record = replace(record, terminated=ended, truncated=~ended, valid=ended)
    record = replace(record, rewards=jnp.ones_like(record.rewards))
    scale = RewardScale.init(record.rewards.shape[1]).update(record, 0.9)
    assert float(scale.factor) == 1
    assert not np.asarray(scale.running).any()


def test_constant_reward_has_a_size():
    record = random_segments()
    record = replace(
        record,
        rewards=jnp.full_like(record.rewards, -3.0),
        terminated=jnp.ones_like(record.valid),
        valid=jnp.ones_like(record.valid),
    )
    scale = RewardScale.init(record.rewards.shape[1]).update(record, 0.9)
    assert float(scale.factor) == pytest.approx(1 / 3)


def test_no_reward_is_left_as_it_is():
    record = random_segments()
    record = replace(record, rewards=jnp.zeros_like(record.rewards))
    scale = RewardScale.init(record.rewards.shape[1])
    assert float(scale.factor) == 1
    assert float(scale.update(record, 0.9).factor) == 1
    nothing = replace(record, valid=jnp.zeros_like(record.valid))
    assert float(scale.update(nothing, 0.9).factor) == 1


def test_jit_equals_eager():
    record = random_segments()
    scale = RewardScale.init(record.rewards.shape[1])
    jitted = jax.jit(RewardScale.update)(scale, record, 0.9)
    for a, b in zip(scale.update(record, 0.9), jitted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_one_step_is_a_batch():
    record = random_episodes(lengths=(1,))
    scale = RewardScale.init(1).update(record, 0.9)
    np.testing.assert_allclose(scale.factor, 1 / abs(record.rewards[0, 0]), rtol=1e-6)
    again = scale.update(replace(record, rewards=3 * record.rewards), 0.9)
    np.testing.assert_allclose(again.factor, scale.factor / np.sqrt(5), rtol=1e-6)

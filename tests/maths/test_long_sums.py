"""Sums of many numbers, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from policygrad.maths.long_sums import LongSum
from policygrad.rollout import open_source
from tests.worlds import MLPPolicy


@jax.jit
def summed(rows):
    start = LongSum.of(jnp.zeros(rows.shape[1]))
    return jax.lax.scan(lambda s, row: (s.plus(row), None), start, rows)[0].total


def test_the_error_does_not_grow_with_the_number_of_terms():
    rows = np.random.default_rng(0).normal(0.1, 1.0, (100_000, 8)).astype(np.float32)
    rows[:, 0] = 0.1
    exact = rows.astype(np.float64).sum(axis=0)
    np.testing.assert_allclose(summed(rows), exact, rtol=2e-7)
    plain = np.cumsum(rows[:, 0], dtype=np.float32)[-1]
    assert abs(plain - exact[0]) > 1.0


def test_what_is_not_finite_is_told():
    rows = np.array([[1.0, 1.0, 1.0], [np.inf, -np.inf, np.nan], [1.0, 1.0, 1.0]], np.float32)
    np.testing.assert_array_equal(summed(rows), [np.inf, -np.inf, np.nan])


class Tenths:
    """Pays 0.1 in every step."""

    observation_space, action_space = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
    time_limit = 10_000

    def reset(self, key):
        return jnp.zeros(()), jnp.zeros(2)

    def step(self, key, state, action):
        return state, jnp.zeros(2), jnp.float32(0.1), jnp.bool_(False), jnp.bool_(False)


def test_the_return_of_a_long_episode_is_right_to_the_last_digit():
    source = open_source(Tenths(), 2)
    played = source.play(
        MLPPolicy(2, 2), jax.random.key(0), episodes=2, max_steps=10_000, greedy=True
    )
    np.testing.assert_allclose(played.returns, 10_000 * np.float64(np.float32(0.1)), rtol=1e-7)

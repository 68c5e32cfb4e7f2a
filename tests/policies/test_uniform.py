"""Random actions: every permitted choice is equally probable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from scipy import stats

from policygrad.policies.uniform import UniformPolicy
from policygrad.spaces import action_space_of

N = 4000


def drawn(space, observation=0.0):
    """N actions as the environment gets them, and their log-probabilities."""
    actions = action_space_of(space)
    distribution = UniformPolicy(actions)(observation)
    found = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), N))
    return actions.to_environment(jax.tree.map(np.asarray, found)), jax.vmap(distribution.log_prob)(
        found
    )


def test_choices_are_equally_frequent():
    """Chi-squared; a false alarm in 1 of 10,000 keys, and the key is fixed."""
    actions, log_probs = drawn(spaces.Discrete(5, start=2))
    assert set(actions.tolist()) == {2, 3, 4, 5, 6}
    assert stats.chisquare(np.bincount(actions)[2:]).pvalue > 1e-4
    np.testing.assert_allclose(log_probs, -np.log(5), rtol=1e-6)


def test_a_choice_that_a_mask_forbids_is_not_taken():
    observation = {"x": jnp.zeros(2), "action_mask": jnp.array([1, 0, 1], jnp.int8)}
    actions, log_probs = drawn(spaces.Discrete(3), observation)
    assert set(actions.tolist()) == {0, 2}
    np.testing.assert_allclose(log_probs, -np.log(2), rtol=1e-6)


def test_numbers_are_uniform_between_bounds_and_gaussian_without():
    box = spaces.Box(
        np.array([-2.0, 0.0, -np.inf], np.float32),
        np.array([2.0, 10.0, np.inf], np.float32),
        dtype=np.float32,
    )
    actions, log_probs = drawn(box)
    for i, known in enumerate((stats.uniform(-2, 4), stats.uniform(0, 10), stats.norm())):
        assert stats.kstest(actions[:, i], known.cdf).pvalue > 1e-4
    # in the policy's units, where both bounded numbers lie in [-1, 1]
    np.testing.assert_allclose(log_probs, -2 * np.log(2) + stats.norm.logpdf(actions[:, 2]), 1e-4)


@pytest.mark.parametrize(
    ("space", "how_many"),
    [
        (spaces.MultiDiscrete([2, 3]), 6),
        (spaces.MultiBinary(3), 8),
        (spaces.Dict({"a": spaces.Discrete(2), "b": spaces.MultiBinary(1)}), 4),
        (spaces.Tuple((spaces.Discrete(3), spaces.Discrete(2))), 6),
    ],
)
def test_actions_of_several_parts_are_equally_frequent(space, how_many):
    actions, log_probs = drawn(space)
    rows = np.concatenate([x.reshape(N, -1) for x in jax.tree.leaves(actions)], axis=1)
    counts = np.unique(rows, axis=0, return_counts=True)[1]
    assert len(counts) == how_many
    assert stats.chisquare(counts).pvalue > 1e-4
    np.testing.assert_allclose(log_probs, -np.log(how_many), rtol=1e-5)

"""How sure a policy is, against numbers by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.maths.distributions import (
    Bernoulli,
    Categorical,
    ClippedGaussian,
    DiagonalGaussian,
    Joint,
    MultiCategorical,
    TanhGaussian,
    Valued,
)
from policygrad.watching.sureness import sureness_at, sureness_of

EVEN = Categorical(jnp.zeros(4))
MASKED = Categorical(jnp.zeros(4), mask=jnp.array([True, False, True, False]))
GAUSSIAN = DiagonalGaussian(jnp.zeros(2), jnp.log(jnp.array([0.5, 0.25])))
LOG = np.log


class Own:
    def entropy(self):
        return jnp.float32(0.25)


@pytest.mark.parametrize(
    ("distribution", "entropy", "greatest", "probabilities", "deviations"),
    [
        (EVEN, LOG(4), LOG(4), [0.25] * 4, None),
        (MASKED, LOG(2), LOG(2), [0.5, 0, 0.5, 0], None),
        (Categorical(jnp.array([50.0, 0.0])), 0, LOG(2), [1, 0], None),
        (Categorical(jnp.zeros(3), mask=jnp.array([False, True, False])), 0, 0, [0, 1, 0], None),
        (Categorical(jnp.zeros(40)), LOG(40), LOG(40), None, None),
        (MultiCategorical((EVEN, MASKED)), LOG(8), LOG(8), None, None),
        (Bernoulli(jnp.zeros(3)), 3 * LOG(2), 3 * LOG(2), None, None),
        (Bernoulli(jnp.zeros(2), jnp.array([True, False])), LOG(2), LOG(2), None, None),
        (GAUSSIAN, None, None, None, [0.5, 0.25]),
        (TanhGaussian(jnp.zeros(1), jnp.zeros(1)), None, None, None, [1.0]),
        (
            ClippedGaussian(jnp.zeros(1), jnp.zeros(1), -jnp.ones(1), jnp.ones(1)),
            None, None, None, [1.0],
        ),
        (Joint({"a": EVEN, "b": GAUSSIAN}), LOG(4), LOG(4), [0.25] * 4, [0.5, 0.25]),
        (Joint((EVEN, Joint((MASKED,)))), LOG(8), LOG(8), None, None),
        (Valued(EVEN, jnp.float32(3)), LOG(4), LOG(4), [0.25] * 4, None),
        (Own(), 0.25, None, None, None),
    ],
)  # fmt: skip
def test_numbers_by_hand(distribution, entropy, greatest, probabilities, deviations):
    expected = entropy, greatest, probabilities, deviations
    for found, wanted in zip(sureness_of(distribution), expected, strict=True):
        assert (found is None) == (wanted is None)
        if wanted is not None:
            np.testing.assert_allclose(np.asarray(found), wanted, atol=1e-6)


def test_of_a_policy_without_memory():
    found, carry = sureness_at(lambda observation: Categorical(observation), (), np.zeros(2))
    assert carry == ()
    assert float(found.entropy) == pytest.approx(LOG(2))

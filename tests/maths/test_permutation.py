"""A permutation that is computed place by place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.maths.permutation import permutation


@jax.jit
def of_all(key, count):
    return permutation(key, count)(jnp.arange(4096))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 31, 32, 33, 1000, 4095, 4096])
def test_each_number_below_n_comes_once(n):
    found = np.asarray(of_all(jax.random.key(n), jnp.int32(n)))
    assert sorted(found[:n]) == list(range(n))


def test_another_key_gives_another_order():
    a, b = (np.asarray(of_all(jax.random.key(i), jnp.int32(1000)))[:1000] for i in (0, 1))
    assert np.sum(a == b) < 20  # on average one place in a thousand agrees


@pytest.mark.parametrize("n", [5, 48])
def test_each_place_holds_each_number_alike_and_neighbours_are_independent(n):
    """χ² of the number at a place, and of the next one's distance, over 4,000 fixed keys.

    Each statistic has n − 1 degrees of freedom, or n − 2; above their mean plus five standard
    deviations lies less than one in ten thousand.
    """
    keys = jax.random.split(jax.random.key(0), 4000)
    found = np.asarray(jax.vmap(lambda key: permutation(key, jnp.int32(n))(jnp.arange(n)))(keys))
    for place in (0, n // 2, n - 1):
        assert chi_square(np.bincount(found[:, place], minlength=n)) < bound(n - 1)
    distance = (found[:, 1] - found[:, 0]) % n
    assert chi_square(np.bincount(distance, minlength=n)[1:]) < bound(n - 2)


def chi_square(counts):
    return np.sum((counts - counts.mean()) ** 2 / counts.mean())


def bound(freedom):
    return freedom + 5 * np.sqrt(2 * freedom)

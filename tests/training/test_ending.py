"""How a run ends: what is said of components that 32 bits cannot tell apart."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import policygrad
from tests.worlds import TINY, Chain


class Shifted(gymnasium.ObservationWrapper):
    """A chain whose observations carry a large offset, component by component."""

    def __init__(self, offset):
        super().__init__(Chain(terminates=False))
        self.offset = np.asarray(offset, np.float64)
        self.observation_space = spaces.Box(-np.inf, np.inf, self.offset.shape, np.float64)

    def observation(self, observation):
        return self.offset + np.resize(observation, self.offset.shape)


def told(offset, **settings):
    """What a run in such an environment warns of."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        policygrad.train(lambda: Shifted(offset), **{**TINY, **settings})
    return [str(w.message) for w in found if issubclass(w.category, UserWarning)]


def test_components_that_float32_merges_are_named_once_at_the_end():
    (line,) = told([1.7e9, 0.0], total_steps=96)
    assert line.startswith("float32 cannot tell neighbouring values apart in the observation[0]:")
    assert "around 1.7e+09, where numbers of 32 bits are 128 apart" in line
    assert line.endswith("subtract an offset in the environment")


def test_many_components_are_counted():
    (line,) = told([1e9] * 6)
    assert line.count("32 bits are 64 apart") == 3
    assert "and 3 more components" in line


@pytest.mark.parametrize("offset", [[0.0, 0.0], [1e5, -1e5], [0.0, 1e6]])
def test_nothing_is_said_where_values_are_told_apart(offset):
    assert told(offset) == []


def test_nothing_is_said_without_normalisation_statistics():
    assert told([1.7e9, 0.0], normalise_observations=False) == []

"""The host rollout: what it keeps of what environments hand over."""

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from policygrad.core.errors import EnvironmentFailure
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.vectorise import vectorise
from policygrad.rollout import host
from policygrad.spaces import action_space_of
from tests.worlds import Chain, Drift, chain_vector

ACTIONS = action_space_of(Chain().action_space)


def draw(row, observations, times):
    """One action, and none of chance."""
    lanes = len(observations)
    return np.ones(lanes, np.int32), np.zeros(lanes, np.float32)


class OneBuffer(gymnasium.vector.VectorWrapper):
    """Hands over the same arrays at every step, and writes the next step over them."""

    def __init__(self, env):
        super().__init__(env)
        lanes = env.num_envs
        self.kept = (
            np.zeros(env.observation_space.shape, np.float32),
            np.zeros(lanes, np.float32),
            np.zeros(lanes, bool),
            np.zeros(lanes, bool),
        )

    def step(self, actions):
        *given, info = self.env.step(actions)
        for ours, theirs in zip(self.kept, given, strict=True):
            ours[...] = theirs
        return *self.kept, info

    def reset(self, **kwargs):
        observations, info = self.env.reset(**kwargs)
        self.kept[0][...] = observations
        return self.kept[0], info


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda m: m.name)
def test_record_is_the_same_where_an_environment_writes_over_all_that_it_gave(mode):
    def record(wrap):
        lanes = GymnasiumLanes(wrap(chain_vector(mode, 2, terminates=False)))
        lanes.start(0)
        return host.collect_segment(lanes, draw, 12)

    ours, theirs = record(OneBuffer), record(lambda vector: vector)
    assert len(np.unique(ours.rewards)) > 3
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda m: m.name)
def test_successors_of_episodes_that_are_stopped_are_their_own(mode):
    """The cap stops episodes on steps where none ends by itself; observations tell the time."""
    factories = [lambda n=n: Chain(n, terminates=False) for n in (3, 100)]
    lanes = GymnasiumLanes(SyncVectorEnv(factories, autoreset_mode=mode, copy=False))
    record, unfinished = host.collect_episodes(lanes, draw, 0, episodes=5, max_steps=5)
    assert 0 < unfinished.sum() < 5
    assert set(record.cut_times[0].tolist()) == {3, 5}
    np.testing.assert_array_equal(record.cut_observations[0, :, 1], record.cut_times[0])


def test_records_hold_at_most_32_bits():
    lanes = GymnasiumLanes(vectorise(Drift, 2))
    lanes.start(0)
    row = host.step_lanes(lanes, ACTIONS, draw, 0)
    assert row.observations.dtype == row.step.successors.dtype == np.float32
    assert (row.step.rewards.dtype, row.times.dtype) == (np.float32, np.int32)


def test_rows_keep_no_view_of_the_buffers_that_actions_came_in():
    given = jax.numpy.ones(2, jax.numpy.int32), jax.numpy.zeros(2)
    lanes = GymnasiumLanes(vectorise(Chain, 2))
    lanes.start(0)
    row = host.step_lanes(lanes, ACTIONS, lambda row, observations, times: given, 0)
    assert row.actions.base is None
    assert row.log_probs.base is None
    assert lanes.log.actions[0].base is None


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("rewards", np.zeros((2, 1)), r"rewards of shape \(2, 1\)"),
        ("rewards", np.array(["1.5", "2"]), "expected a real number"),
        ("rewards", np.array([None, 1.0]), "expected a real number"),
        ("terminated", np.array(["False", "False"]), "expected True or False"),
        ("truncated", np.zeros(3, bool), "of each of 2 environments"),
    ],
)
def test_what_is_no_step_of_these_lanes_is_refused(name, value, found):
    class Wrong(gymnasium.vector.VectorWrapper):
        def step(self, actions):
            names = "observations", "rewards", "terminated", "truncated", "info"
            given = dict(zip(names, self.env.step(actions), strict=True))
            return tuple((given | {name: value}).values())

    lanes = GymnasiumLanes(Wrong(chain_vector(AutoresetMode.NEXT_STEP)))
    lanes.start(0)
    with pytest.raises(EnvironmentFailure, match=found):
        host.step_lanes(lanes, ACTIONS, draw, 0)

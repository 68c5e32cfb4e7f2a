"""The host rollout: what it keeps of what environments hand over."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import policygrad
from policygrad.core.errors import EnvironmentFailure
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.vectorise import vectorise
from policygrad.maths.distributions import Categorical
from policygrad.rollout import envpool, host
from policygrad.rollout.host_source import HostSource
from policygrad.spaces import action_space_of
from tests.worlds import TINY, Chain, Drift, chain_vector

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


# ----- steps in which lanes reset themselves


class Lost(Chain):
    """The observation after its last step is NaN. No policy acts on it."""

    def step(self, action):
        observation, reward, terminated, *rest = super().step(action)
        return np.where(terminated, np.nan, observation), reward, terminated, *rest


def logits(observation):
    return Categorical(observation)


def assert_resets_hold_the_first_step(record):
    valid = np.asarray(record.valid)
    assert not valid.all()
    for x in record.observations, record.actions, record.log_probs:
        x = np.asarray(x)
        assert np.isfinite(x).all()
        np.testing.assert_array_equal(x[~valid], np.broadcast_to(x[0, 0], x[~valid].shape))


def test_steps_in_which_lanes_reset_themselves_hold_nothing_that_is_not_finite():
    vector = SyncVectorEnv([Lost] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    source = HostSource(GymnasiumLanes(vector))
    collector = source.segments(logits, jax.random.key(0), 10)
    assert_resets_hold_the_first_step(collector.collect(logits, jax.random.key(1)))


def test_and_so_do_those_of_a_pool_that_a_program_steps():
    def step_pool(time, actions):
        """Three steps, after which the observation is NaN, and the reset."""
        ended = time % 4 == 2
        observations = jnp.where(ended, jnp.nan, jnp.full((2, 2), time % 4, jnp.float32))
        flags = jnp.broadcast_to(ended, 2)
        return time + 1, (observations, jnp.ones(2), flags, jnp.zeros(2, bool), None)

    none = jnp.zeros(2, bool)
    state = envpool.PoolState(jnp.int32(0), jnp.zeros((2, 2)), jnp.zeros(2, jnp.int32), none)
    key = jax.random.key(0)
    _, record = envpool.collect_segment(
        step_pool, ACTIONS, logits, state, key, steps=10, time_limit=None
    )
    np.testing.assert_array_equal(np.flatnonzero(~record.valid[:, 0]), [3, 7])
    assert_resets_hold_the_first_step(record)


def test_training_goes_on_where_only_a_reset_sees_what_is_not_finite():
    vector = SyncVectorEnv([Lost] * 4, autoreset_mode=AutoresetMode.NEXT_STEP)
    run = policygrad.train(vector, **TINY)
    assert all(np.isfinite(row["gradient_norm"]) for row in run.metrics)

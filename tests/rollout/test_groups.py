"""Episodes that start in groups: alike within a group, different between, acting by themselves."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import policygrad
from policygrad.core.errors import UserError
from policygrad.core.trajectories import groups_of, in_groups
from policygrad.environments.catalogue import make
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.replay import episode_seed
from policygrad.environments.vectorise import vectorise
from policygrad.policies.space_policy import network_policy
from policygrad.rollout.block_source import BlockSource
from policygrad.rollout.blocks import Lanes
from policygrad.rollout.collectors import seed_of
from policygrad.rollout.compiled import CompiledSource
from policygrad.rollout.engines import source_of
from policygrad.rollout.host_source import HostSource
from policygrad.training.config import TrainConfig
from tests.worlds import PLAIN

KEY = jax.random.key(3)
N, SIZE, LANES = 12, 3, 5
IN_GROUPS = PLAIN | {
    "batch_steps": None, "batch_episodes": 6, "group_size": 3, "estimator": "total-return",
    "baseline": "none", "total_steps": 20,
}  # fmt: skip


class Start(gymnasium.Env):
    """An episode of one to four steps by how it acts, from a number that is drawn at reset."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.time = np.float32(self.np_random.normal()), 0
        return np.array([self.x]), {}

    def step(self, action):
        self.time += 1
        over = self.time == 4 or action == 1
        return np.array([self.x]), 1.0, over, False, {}


class PureStart:
    """`Start` as functions of a state."""

    observation_space, action_space = Start.observation_space, Start.action_space
    time_limit = None

    def reset(self, key):
        x = jax.random.normal(key)
        return (x, jnp.int32(0)), x[None]

    def step(self, key, state, action):
        x, time = state[0], state[1] + 1
        return (x, time), x[None], jnp.float32(1), (time == 4) | (action == 1), jnp.bool_(False)


def host_source(lanes=LANES, first_lane=0):
    return HostSource(GymnasiumLanes(vectorise(Start, lanes)), first_lane)


PURE = PureStart()
SOURCES = {"host": host_source, "compiled": lambda: CompiledSource(PURE, LANES)}
POLICY = network_policy(KEY, Start.observation_space, Start.action_space, hidden=(4,))


def collected(source, key=KEY, size=SIZE, episodes=N):
    return source.episodes(POLICY, KEY, episodes, 9, group_size=size).collect(POLICY, key)


@pytest.mark.parametrize("make_source", SOURCES.values(), ids=SOURCES)
def test_a_group_starts_alike_and_acts_apart(make_source):
    record = collected(make_source())
    assert record.group_size == SIZE
    assert groups_of(record).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    starts = in_groups(np.asarray(record.observations)[0, :, 0], SIZE)
    assert np.ptp(starts, axis=1).max() == 0
    assert len(np.unique(starts[:, 0])) == N // SIZE
    lengths = in_groups(np.asarray(record.valid).sum(axis=0), SIZE)
    # a length has entropy 1.2 nats: that all groups are alike by chance has probability 1e-4
    assert np.ptp(lengths, axis=1).max() > 0
    assert np.array_equal(np.asarray(record.rewards).sum(axis=0), lengths.ravel())


@pytest.mark.parametrize("make_source", SOURCES.values(), ids=SOURCES)
def test_the_same_key_gives_the_same_groups_and_another_gives_others(make_source):
    source = make_source()
    first, again = collected(source), collected(source)
    other = collected(source, jax.random.key(8))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        assert np.array_equal(a, b)
    starts = [set(np.asarray(x.observations)[0, :, 0].tolist()) for x in (first, other)]
    assert not starts[0] & starts[1]


def test_a_group_on_the_host_is_the_same_seed_again():
    seed = seed_of(jax.random.split(KEY)[1])
    found = np.asarray(collected(host_source()).observations)[0, ::SIZE, 0]
    expected = [Start().reset(seed=episode_seed(seed, g, 1))[0][0] for g in range(N // SIZE)]
    assert found.tolist() == [float(x) for x in expected]


def test_no_start_depends_on_how_many_lanes_there_are():
    few, many = (np.asarray(collected(host_source(n)).observations)[0] for n in (1, LANES))
    assert np.array_equal(few, many)


def test_blocks_hold_whole_groups():
    source = BlockSource(Lanes(Start, 4, 2, {}))
    record = collected(source, episodes=9)
    starts = in_groups(np.asarray(record.observations)[0, :, 0], SIZE)
    assert np.ptp(starts, axis=1).max() == 0
    assert len(np.unique(starts[:, 0])) == 3
    source.close()


def test_part_of_a_group_is_refused():
    for make_source in SOURCES.values():
        with pytest.raises(ValueError, match="episodes=10 is no multiple of group_size=3"):
            collected(make_source(), episodes=10)


def test_lanes_without_seeds_of_their_own_are_refused():
    vector = SyncVectorEnv([Start] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.raises(UserError, match="SyncVectorEnv cannot reset one environment to a seed"):
        collected(HostSource(GymnasiumLanes(vector)))


class NoSeeds:
    """Lanes of a user's own that take no seeds."""

    num_envs, time_limit = 2, None
    observation_space, action_space = Start.observation_space, Start.action_space
    start = step = close = print


def test_own_lanes_say_what_they_lack():
    with pytest.raises(UserError, match=r"NoSeeds has no method start_with\(seeds\)"):
        collected(HostSource(NoSeeds()))


def test_envpool_is_refused():
    pytest.importorskip("envpool")
    with pytest.raises(UserError, match="envpool/CartPole-v1 cannot be reset to a seed once"):
        collected(source_of(make("envpool/CartPole-v1", 2), 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    {
        "segments": ({"group_size": 4}, "segments of 2048 steps are collected"),
        "adaptive": ({"group_size": 4, "batch_episodes": "adaptive"}, "exclude each other"),
        "no multiple": ({"group_size": 4, "batch_episodes": 10}, "10 is not a multiple of --gr"),
        "one group": (
            {"group_size": 4, "batch_episodes": 4, "monitor_every": 1},
            "--batch-episodes 4 leaves only one; give at least 8",
        ),
    }.values(),
)
def test_what_cannot_go_with_groups_is_one_line(settings, message):
    with pytest.raises(UserError, match=message) as raised:
        TrainConfig(**settings)
    assert "\n" not in str(raised.value)


def test_a_run_trains_in_groups():
    run = policygrad.train(Start, out=None, monitor_every=1, **IN_GROUPS)
    assert run.config.group_size == 3
    assert all(np.isfinite(row["signal_to_noise"]) for row in run.metrics)

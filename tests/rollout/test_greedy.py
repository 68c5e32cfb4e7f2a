"""Greedy episodes: from the starts of a record, by modes, beside it and not in it."""

from dataclasses import fields, replace
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.algorithms.reward_scale import RewardScale, with_signs
from policygrad.core.errors import PolicygradError, UserError
from policygrad.core.trajectories import environment_steps, greedy_steps
from policygrad.environments.catalogue import make
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.vectorise import vectorise
from policygrad.policies.space_policy import network_policy
from policygrad.rollout.actor import Actor
from policygrad.rollout.block_source import BlockSource
from policygrad.rollout.blocks import Lanes
from policygrad.rollout.compiled import CompiledSource
from policygrad.rollout.engines import source_of
from policygrad.rollout.episodes import collect_episodes
from policygrad.rollout.greedy import play_on_host
from policygrad.rollout.host_source import HostSource
from policygrad.rollout.source import episodes_of
from tests.rollout.test_groups import KEY, POLICY, SOURCES, NoSeeds, Start
from tests.worlds import Chain, DuckChain

N = 24


def collected(source, size, **how):
    collector = source.episodes(POLICY, KEY, N, 9, group_size=size, with_greedy=True, **how)
    return collector.collect(POLICY, KEY)


def assert_greedy(record, size):
    """The mode at a start's number says how long the episode of `Start` is: it never changes."""
    starts = np.asarray(record.observations)[0, :, 0]
    stops = np.array([int(POLICY(jnp.array([x])).mode()) == 1 for x in starts])
    lengths = np.where(stops, 1, 4)
    assert 0 < stops.mean() < 1  # else one constant would pass
    times = np.arange(len(record.rewards))[:, None]
    np.testing.assert_array_equal(record.greedy.valid, times < lengths)
    np.testing.assert_array_equal(record.greedy.rewards, 1.0 * (times < lengths))
    assert int(greedy_steps(record)) == lengths[::size].sum()
    sampled = int(np.sum(record.valid))
    assert int(environment_steps(record)) == sampled + lengths[::size].sum()


@pytest.mark.parametrize("make_source", SOURCES.values(), ids=SOURCES)
def test_every_episode_can_have_a_greedy_one_of_its_own(make_source):
    assert_greedy(collected(make_source(), 1), 1)


def test_blocks_play_their_own():
    source = BlockSource(Lanes(Start, 4, 2, {}))
    assert_greedy(collected(source, 3), 3)
    source.close()


@pytest.mark.parametrize("make_source", SOURCES.values(), ids=SOURCES)
def test_a_group_has_one_and_its_episodes_are_those_that_are_collected_without(make_source):
    source = make_source()
    record = collected(source, 3)
    assert_greedy(record, 3)
    plain = source.episodes(POLICY, KEY, N, 9, group_size=3).collect(POLICY, KEY)
    assert plain.greedy is None
    for a, b in zip(
        jax.tree.leaves(replace(record, greedy=None)), jax.tree.leaves(plain), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_host_and_compiled_play_the_same():
    length = 20
    space = Chain().observation_space
    policy = network_policy(jax.random.key(1), space, spaces.Discrete(2), hidden=(8,))
    lanes = GymnasiumLanes(vectorise(partial(Chain, length), 2))
    ours, unfinished = play_on_host(
        lanes, Actor(policy, 2).chooser(policy), 0, groups=3, max_steps=30
    )
    assert not unfinished.any()
    record = collect_episodes(
        make(DuckChain(length=length), 6), policy, KEY, episodes=6, max_steps=30, group_size=2,
        with_greedy=True,
    ).trajectories  # fmt: skip
    for name in ("rewards", "valid"):
        theirs = np.asarray(getattr(record.greedy, name))[:, ::2]
        rows = min(len(theirs), len(getattr(ours, name)))
        np.testing.assert_array_equal(getattr(ours, name)[:rows], theirs[:rows])
        assert not theirs[rows:].any()
    assert ours.valid.sum() == 3 * length


class Circles(gymnasium.Env):
    """Ends at the first 1, which is never the mode; its rewards are as asked."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(2)
    reward, seen = 1.0, 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        over = bool(action == 1)
        fresh = np.full(1, 0.0 if over else self.seen, np.float32)
        return fresh, 1.0 if over else self.reward, over, False, {}


class PureCircles(Circles):
    """`Circles` as functions of a state."""

    time_limit = None

    def reset(self, key):
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key, state, action):
        over = action == 1
        fresh = jnp.where(over, 0.0, self.seen)[None]
        return state, fresh, jnp.where(over, 1.0, self.reward), over, jnp.bool_(False)


class Leaning:
    """Action 0 in three of five, whatever it sees."""

    def __call__(self, observation):
        from policygrad.distributions import Categorical

        return Categorical(jnp.log(jnp.array([0.6, 0.4])) + 0 * observation.sum())


CIRCLES = {
    "host": lambda cls: HostSource(GymnasiumLanes(vectorise(cls, 4))),
    "compiled": lambda cls: CompiledSource(cls(), 4),
}


def circling(kind, **what):
    base = {"host": Circles, "compiled": PureCircles}[kind]
    return CIRCLES[kind](type("Own", (base,), what))


@pytest.mark.parametrize("kind", CIRCLES)
def test_a_greedy_episode_in_circles_is_refused_or_cut(kind):
    source, policy = circling(kind), jax.tree_util.Partial(Leaning())
    how = {"group_size": 2, "with_greedy": True}
    with pytest.raises(PolicygradError, match="4 of 4 greedy episodes did not end in 60 steps: "):
        source.episodes(policy, KEY, 8, 60, **how).collect(policy, KEY)
    kept = source.episodes(policy, KEY, 8, 60, keep_unfinished=True, **how).collect(policy, KEY)
    np.testing.assert_array_equal(np.sum(kept.greedy.valid, axis=0), 60)
    assert len(kept.rewards) == len(kept.greedy.rewards) >= 60


def test_what_cannot_start_twice_has_no_greedy_episodes():
    with pytest.raises(UserError, match=r"NoSeeds has no method start_with\(seeds\)"):
        collected(HostSource(NoSeeds()), 1)
    pytest.importorskip("envpool")
    with pytest.raises(UserError, match="envpool/CartPole-v1 cannot be reset to a seed once"):
        collected(source_of(make("envpool/CartPole-v1", 2), 2), 1)


def test_a_source_of_ones_own_says_what_it_lacks():
    class Own:
        def episodes(self, policy, key, episodes, max_steps, *, keep_unfinished=False):
            return keep_unfinished

    assert episodes_of(Own(), POLICY, KEY, 2, 9, keep_unfinished=True)
    with pytest.raises(UserError, match="takes no with_greedy, so ReMax has no greedy episodes"):
        episodes_of(Own(), POLICY, KEY, 2, 9, with_greedy=True)
    with pytest.raises(UserError, match="takes no group_size, so its episodes cannot start in gr"):
        episodes_of(Own(), POLICY, KEY, 2, 9, group_size=2)


def test_rewards_are_changed_in_greedy_episodes_too():
    record = collected(SOURCES["compiled"](), 3)
    scale = RewardScale(jnp.float32(8), jnp.float32(16), jnp.zeros(N))
    for changed, factor in ((scale.scaled(record), 0.25), (with_signs(scale.scaled(record)), 1)):
        np.testing.assert_allclose(changed.rewards, factor * np.asarray(record.rewards))
        np.testing.assert_allclose(
            changed.greedy.rewards, factor * np.asarray(record.greedy.rewards)
        )
        for field in fields(record):
            if field.name not in ("rewards", "greedy"):
                assert getattr(changed, field.name) is getattr(record, field.name)

"""A game of pictures behind Gymnasium's interface and compiled: both rollouts record the same."""

import gymnasium
import jax
import numpy as np
import pytest

from policygrad.environments.gymnax import make_gymnax
from policygrad.gradients.scores import policy_gradient
from policygrad.policies import Memory, network_policy, small
from policygrad.rollout import open_source
from tests.rollout.test_same_record import assert_same

pytest.importorskip("gymnax")

CHANCE = jax.random.key(11)  # of the game, the same in every step; actions are left to chance
KEY = jax.random.key(3)


class WithoutChance:
    """A gymnax game that draws the same numbers in every step."""

    def __init__(self, name):
        self.game = make_gymnax(name)
        self.observation_space = self.game.observation_space
        self.action_space = self.game.action_space
        self.time_limit = self.game.time_limit

    def reset(self, key):
        return self.game.reset(CHANCE)

    def step(self, key, state, action):
        return self.game.step(CHANCE, state, action)


class Stepped(gymnasium.Env):
    """The same game behind Gymnasium's interface."""

    def __init__(self, name):
        game = WithoutChance(name)
        self.observation_space, self.action_space = game.observation_space, game.action_space
        self.begin, self.go_on = jax.jit(game.reset), jax.jit(game.step)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, observation = self.begin(CHANCE)
        return np.asarray(observation), {}

    def step(self, action):
        found = self.go_on(CHANCE, self.state, action)
        self.state, observation, reward, terminated, truncated = found[:5]
        return np.asarray(observation), float(reward), bool(terminated), bool(truncated), {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "memory"),
    [
        ("Pong-misc", Memory("gru", 8)),
        ("Breakout-MinAtar", None),
        pytest.param("Pong-misc", None, marks=pytest.mark.slow),
        pytest.param("Breakout-MinAtar", Memory("gru", 8), marks=pytest.mark.slow),
    ],
)
def test_both_rollouts_record_the_same_game(name, memory):
    game = WithoutChance(name)
    spaces = game.observation_space, game.action_space
    network = small() if name == "Pong-misc" else None
    policy = network_policy(jax.random.key(0), *spaces, network=network, memory=memory)
    collectors = [
        open_source(env, 2).segments(policy, KEY, 48) for env in (lambda: Stepped(name), game)
    ]
    ended = 0
    for number in range(2):
        key = jax.random.key(number)  # of which the compiled one takes a half for the game
        keys = jax.random.split(key)[0], key
        ours, theirs = (c.collect(policy, k) for c, k in zip(collectors, keys, strict=True))
        ours, theirs = (jax.tree.map(jax.numpy.asarray, record) for record in (ours, theirs))
        assert ours.observations.shape == (48, 2, *spaces[0].shape)
        assert_same(ours, theirs)
        jax.tree.map(np.testing.assert_array_equal, ours.carry, theirs.carry)
        gradients = [policy_gradient(policy, r, r.rewards + 1) for r in (ours, theirs)]
        jax.tree.map(np.testing.assert_array_equal, *gradients)
        ended += int((ours.terminated | ours.truncated).sum())
    assert ended > 1 or name == "Pong-misc"

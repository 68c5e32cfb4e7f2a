"""One environment object in several lanes is refused, however it is hidden."""

import itertools

import gymnasium
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import policygrad
from policygrad import environments
from policygrad.core.errors import UserError
from policygrad.policies.agent import Agent
from tests.worlds import TINY, Chain, MLPPolicy

ONE = Chain()


class Holding(gymnasium.Env):
    """Wraps without being a wrapper, under a name of its own."""

    def __init__(self, inner):
        self._simulator = inner
        self.observation_space, self.action_space = inner.observation_space, inner.action_space

    def reset(self, *, seed=None, options=None):
        return self._simulator.reset(seed=seed)

    def step(self, action):
        return self._simulator.step(action)


class Duck:
    """An environment of no class of Gymnasium's."""

    def __init__(self):
        self.chain = None

    def reset(self, *, seed=None, options=None):
        self.chain = Chain()
        return self.chain.reset(seed=seed)

    def step(self, action):
        return self.chain.step(action)

    observation_space, action_space = ONE.observation_space, ONE.action_space


class HoldingSeveral(Holding):
    """Holds what it wraps in a list, or in a dict."""

    def __init__(self, inner, key=0, parts=list):
        self.parts, self.key = parts([(key, inner)]) if parts is dict else parts([inner]), key
        self.observation_space, self.action_space = inner.observation_space, inner.action_space

    @property
    def _simulator(self):
        return self.parts[self.key]


class Counting(gymnasium.Wrapper):
    pass


DUCK = Duck()
TURNS = itertools.cycle([Chain(), Chain()])
MADE = gymnasium.make("Chain-v0")
SHARED = {
    "the object": lambda: ONE,
    "a fresh wrapper": lambda: Counting(ONE),
    "two fresh wrappers": lambda: Counting(gymnasium.wrappers.TimeLimit(ONE, 4)),
    "no wrapper of Gymnasium's": lambda: Holding(ONE),
    "one of gymnasium.make": lambda: MADE,
    "without its wrappers": lambda: MADE.unwrapped,
    "two objects in turn": lambda: next(TURNS),
    "of no class of Gymnasium's": lambda: Holding(DUCK),
    "in a list": lambda: HoldingSeveral(ONE),
    "in a tuple": lambda: HoldingSeveral(ONE, parts=tuple),
    "in a dict": lambda: HoldingSeveral(ONE, "a", dict),
    "in a list, of no class of Gymnasium's": lambda: HoldingSeveral(DUCK),
    "a default argument": lambda env=ONE: env,
}


@pytest.mark.parametrize("make", SHARED.values(), ids=SHARED.keys())
def test_case_26_and_further_one_object_for_all_lanes_is_refused(make):
    with pytest.raises(UserError, match=r"are one object, .*make a new one in every call"):
        environments.make(make, 4)


def test_case_26_in_training_and_evaluation():
    with pytest.raises(UserError, match="are one object"):
        policygrad.train(lambda: ONE, **TINY)
    agent = Agent(MLPPolicy(2, 2), ONE.observation_space, ONE.action_space)
    with pytest.raises(UserError, match="are one object"):
        policygrad.evaluate(agent, lambda: ONE, episodes=3)
    assert policygrad.evaluate(agent, lambda: ONE, episodes=1).stochastic.length_mean == 3


def test_case_26_in_a_vector_environment_of_the_users_own():
    vector = SyncVectorEnv([lambda: ONE] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.raises(UserError, match="are one object"):
        environments.make(vector, 2)


def test_objects_that_share_no_environment_are_taken():
    space = ONE.observation_space

    class Shares(Chain):
        def __init__(self):
            super().__init__()
            self.observation_space = space

    assert environments.make(Shares, 3).num_envs == 3

"""Wrappers that keep running statistics, which nothing saves, are named in a warning."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, TimeLimit
from gymnasium.wrappers import vector as of_vectors

import policygrad
from policygrad import environments
from tests.worlds import TINY, Chain


class RunningMeanStd:
    def __init__(self):
        self.mean, self.var, self.count = 0.0, 1.0, 1e-4


class Keeps(gymnasium.Wrapper):
    """A wrapper of the user's own, with one more attribute."""

    def __init__(self, name, value, env=None):
        super().__init__(Chain() if env is None else env)
        self.__dict__[name] = value


class KeepsItself(Chain):
    def __init__(self):
        super().__init__()
        self.obs_rms = RunningMeanStd()


def frozen(wrapper):
    wrapper.update_running_mean = False
    return wrapper


def half_frozen():
    return frozen(NormalizeReward(NormalizeObservation(Chain())))


def vector(wrapper=lambda env: env, copy=Chain):
    return wrapper(SyncVectorEnv([copy] * 2, autoreset_mode=AutoresetMode.NEXT_STEP))


OBSERVATION = r"NormalizeObservation keeps running statistics \(obs_rms\).*leave the wrapper out"
REWARD = r"NormalizeReward keeps .*the returns that are reported are those of its normalised"
TOLD = {
    "observations": (lambda: NormalizeObservation(Chain()), OBSERVATION),
    "rewards": (lambda: NormalizeReward(Chain()), REWARD),
    "inside": (lambda: TimeLimit(NormalizeObservation(Chain()), 9), OBSERVATION),
    "one of two frozen": (lambda: half_frozen(), "^NormalizeObs"),
    "ret_rms": (lambda: Keeps("ret_rms", RunningMeanStd()), "Keeps .*ret_rms.*normalised rewards"),
    "another name": (lambda: Keeps("statistics", RunningMeanStd()), r"Keeps .*\(statistics\)"),
    "two numbers": (lambda: Keeps("running_mean_var", (0.0, 1.0)), r"\(running_mean_var\)"),
    "an array": (lambda: Keeps("_obs_running_mean", np.zeros(2)), r"\(_obs_running_mean\)"),
    "no wrapper": (KeepsItself, "KeepsItself keeps running statistics .*leave them out"),
    "around a vector": (lambda: vector(of_vectors.NormalizeObservation), OBSERVATION),
    "rewards of a vector": (lambda: vector(of_vectors.NormalizeReward), REWARD),
    "in a vector": (lambda: vector(copy=lambda: NormalizeObservation(Chain())), OBSERVATION),
}  # fmt: skip


@pytest.mark.parametrize(("make", "found"), TOLD.values(), ids=TOLD)
def test_further_running_statistics_are_told(make, found):
    is_vector = isinstance(env := make(), gymnasium.vector.VectorEnv)
    with pytest.warns(UserWarning, match=found) as caught:
        environments.make(env if is_vector else make, 2)
    assert len(caught) == 1


class Table:
    """Has the methods of a table of numbers."""

    def mean(self): ...
    def var(self): ...
    def count(self): ...
    def update(self): ...


QUIET = {
    "frozen": lambda: frozen(NormalizeObservation(Chain())),
    "none yet": lambda: Keeps("obs_rms", None),
    "a table": lambda: Keeps("prices", Table()),
    "a flag": lambda: Keeps("uses_running_mean", True),
    "a name": lambda: Keeps("rmsprop_rate", 0.9),
    "not training": lambda: Keeps("training", False, Keeps("x", 1)),
}


@pytest.mark.parametrize("make", QUIET.values(), ids=QUIET)
def test_what_keeps_no_statistics_is_not_told(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        environments.make(make, 2)


def test_running_statistics_are_told_in_training_and_in_evaluation():
    def make():
        return NormalizeReward(NormalizeObservation(Chain()))

    with pytest.warns(UserWarning, match="keeps running statistics") as caught:
        run = policygrad.train(make, **TINY)
    assert len(caught) == 2
    with pytest.warns(UserWarning, match="keeps running statistics") as caught:
        policygrad.evaluate(run, episodes=2)
    assert len(caught) == 2


@pytest.mark.slow
def test_running_statistics_in_other_processes_are_told_once():
    def make():
        return NormalizeObservation(Chain())

    with pytest.warns(UserWarning, match=OBSERVATION) as caught:
        lanes = environments.make(make, 2, processes=True)
    lanes.close()
    assert len(caught) == 1
    env = AsyncVectorEnv([make] * 2, context="spawn")
    try:
        with pytest.warns(UserWarning, match=OBSERVATION):
            environments.make(env, 2)
    finally:
        env.close()

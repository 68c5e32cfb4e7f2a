"""The doctor's fresh episodes, collected by workers: the same digits as in this process."""

import os
from functools import partial

import gymnasium
import numpy as np
import pytest

import policygrad
from policygrad.doctor import units as units_module
from tests.machines.mortal import Mortal

EPISODES = 25


@pytest.fixture(scope="module")
def small_units():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units_module, "EPISODES", 9)
        yield


SHORT = partial(gymnasium.make, "CartPole-v1", max_episode_steps=12)


def found_with(run, workers, env=None, *, episodes=EPISODES, pictures=True):
    elsewhere = None
    if workers is not None:
        elsewhere = policygrad.remote(workers=workers, cpus_per_worker=0.5)
    return policygrad.diagnose(
        run.path, env, episodes=episodes, pictures=pictures, workers=elsewhere
    )


@pytest.fixture(scope="module")
def local(trained, small_units):
    return found_with(trained, None, SHORT)


@pytest.mark.usefixtures("cluster", "small_units")
@pytest.mark.parametrize("workers", [1, 2])
def test_numbers_are_the_same_to_the_last_digit(trained, local, workers):
    found = found_with(trained, workers, SHORT)
    assert found.to_json() == local.to_json()
    for one, other in zip(
        found.examination.predicted_returns, local.examination.predicted_returns, strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_numbers_of_full_units_are_the_same(trained, monkeypatch):
    """So many steps that gradients are summed in chunks, by two threads in this process."""
    monkeypatch.setattr(units_module, "EPISODES", 512)
    here, there = (found_with(trained, workers, episodes=1000) for workers in (None, 2))
    assert here.to_json() == there.to_json()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster", "small_units")
def test_a_compiled_environment_too(trained_compiled):
    here, there = (found_with(trained_compiled, workers, pictures=False) for workers in (None, 2))
    assert here.to_json() == there.to_json()


@pytest.mark.usefixtures("cluster", "small_units")
def test_a_worker_that_is_killed_changes_nothing(trained, local, tmp_path):
    file = tmp_path / "kill"
    file.touch()
    env = partial(Mortal, str(file), os.getpid())
    with pytest.warns(UserWarning, match="is lost.*go on in its place"):
        found = found_with(trained, 2, env)
    assert not file.exists()
    for name in ("sample", "noise", "comparison", "decomposition"):
        one, other = (x.to_json()["examination"][name] for x in (found, local))
        assert one == other, name

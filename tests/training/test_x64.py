"""With `jax_enable_x64` everything works as without it, and runs go from one to the other."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnasium import spaces

import policygrad
from policygrad.core.errors import RunError
from policygrad.runs import storage
from tests.slow import params
from tests.worlds import DUCK, TINY, Chain


class Wide:
    """States, observations and rewards of 64 bits."""

    observation_space = spaces.Box(-10, 10, (2,), np.float64)
    action_space = spaces.Discrete(2)
    time_limit = 8

    def reset(self, key):
        state = jnp.zeros(2, float), jnp.zeros((), int)
        return state, state[0]

    def step(self, key, state, action):
        x, t = state
        x = x + jnp.where(action == 1, 0.1, -0.1)
        return (x, t + 1), x, x.sum(), jnp.asarray(False), t + 1 >= 8


class Loose(Wide):
    """Plain numbers from reset, other types from step."""

    def reset(self, key):
        return (0.0, 0), jnp.zeros(2)

    def step(self, key, state, action):
        x, t = state
        x = jnp.asarray(x, float) + action
        return (x, t + 1), jnp.full(2, x), x.astype(jnp.float16), jnp.asarray(False), t + 1 >= 8


def arrays_of(path):
    newest = max((path / "checkpoints").iterdir())
    return storage.load(newest / "state")[0]


CASES = {
    "host": (Chain, {}),
    "compiled": (DUCK, {}),
    "states of 64 bits": (Wide(), {}),
    "states of no fixed type": (Loose(), {}),
    "whole episodes": (DUCK, {"batch_episodes": 4}),
    "ppo": (DUCK, {"algorithm": "ppo", "ppo_epochs": 1, "ppo_minibatches": 2}),
    "natural": (DUCK, {"algorithm": "natural"}),
    "memory": (DUCK, {"memory": "gru", "memory_size": 4}),
    "memory of two states": (DUCK, {"memory": "lstm", "memory_size": 4, "batch_episodes": 4}),
    "monitored": (DUCK, {"monitor_every": 1}),
    "an optimiser of its own": (DUCK, {"optimiser": optax.adam(1e-2)}),
}

QUICK = {"host", "compiled", "states of 64 bits"}


@pytest.mark.filterwarnings("ignore:.*steps shrink to zero over")
@pytest.mark.parametrize("name", params(CASES.keys(), CASES.keys() - QUICK))
def test_case_20_the_same_types_and_numbers_with_x64(name, tmp_path):
    """And it goes on in 32 bits, and in 64 again."""
    env, settings = CASES[name]
    settings = {**TINY, **settings}
    if "batch_episodes" in settings:
        settings.pop("batch_steps", None)
    path, narrow = tmp_path / "wide", tmp_path / "narrow"
    policygrad.train(env, out=narrow, **settings)
    with jax.enable_x64(True):
        policygrad.train(env, out=path, **settings)
    ours, theirs = arrays_of(path), arrays_of(narrow)
    assert ours.keys() == theirs.keys()
    for key in ours:
        if not key.startswith("environments/"):
            assert ours[key].dtype == theirs[key].dtype, key
        if key.startswith("policy/") and name != "states of 64 bits":
            np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-3, atol=1e-4)
    objects = {"env": env}
    if "optimiser" in settings:
        objects["optimiser"] = settings["optimiser"]
    steps = settings["total_steps"]
    policygrad.resume(path, total_steps=2 * steps, **objects)
    with jax.enable_x64(True):
        run = policygrad.resume(path, total_steps=3 * steps, **objects)
        space = run.agent.observation_space
        assert space is not None
        policygrad.load(path).act(space.sample())
        found = policygrad.evaluate(path, env=env, episodes=2, max_episode_steps=50)
        assert np.isfinite(found.stochastic.mean)


WITH_THE_FLAG = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
import policygrad
settings = dict(total_steps=64, batch_steps=32, num_envs=4, hidden=(4,), critic_epochs=1)
if __name__ == "__main__":
    for i, env in enumerate(("gymnax/Acrobot-v1", "gymnax/Pendulum-v1", "gymnax/MountainCar-v0",
                             "gymnax/Catch-bsuite", "gymnax/CartPole-v1", "FrozenLake-v1",
                             "Pendulum-v1")):
        path = f"{sys.argv[1]}/{i}"
        policygrad.train(env, out=path, **settings)
        policygrad.resume(path, total_steps=128)
        assert policygrad.evaluate(path, episodes=2).stochastic.mean == policygrad.evaluate(
            path, episodes=2).stochastic.mean
        policygrad.load(path)
    assert sorted(policygrad.train_seeds("gymnax/CartPole-v1", [0, 1], **settings).runs) == [0, 1]
    seeds = policygrad.train_seeds("FrozenLake-v1", [0, 1], jobs=1, **settings)
    assert sorted(seeds.runs) == [0, 1], seeds.failures
    policygrad.diagnose(f"{sys.argv[1]}/4", episodes=8)
"""


@pytest.mark.slow
def test_case_20_every_engine_with_the_flag_of_the_process(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(WITH_THE_FLAG)
    done = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    run = policygrad.resume(tmp_path / "1", total_steps=192)  # in 32 bits
    assert run.summary["env_steps"] == 192


def test_further_what_is_read_in_another_precision():
    """(saved, expected by the reader) and what comes of it."""
    source = "state"

    def read(saved, like):
        arrays = {"a/value": saved} if isinstance(saved, np.ndarray) else saved
        return storage.from_arrays(like, arrays, "a", source)  # pyright: ignore

    value = np.array([1.1, -2.0, np.inf])
    same = read(value, jnp.zeros(3, jnp.float32))
    assert same.dtype == jnp.float32
    assert same[0] == np.float32(1.1)
    assert read(value.astype(np.float32), np.zeros(3)).dtype == np.float64
    assert read(np.array([7, 2**31 - 1]), np.zeros(2, np.int32)).tolist() == [7, 2**31 - 1]
    for saved, like, words in (
        (np.array([2**31]), np.zeros(1, np.int32), "without loss"),
        (np.array([1e300]), np.zeros(1, np.float32), "without loss"),
        (np.array([1]), np.zeros(1, np.float32), "holds int64, expected float32"),
        (np.array([True]), np.zeros(1, np.float32), "holds bool, expected float32"),
        (np.zeros(2), np.zeros(3), r"has the shape \[2\], expected \[3\].*another network"),
        ({}, np.zeros(3), "lacks a/value: it was saved from another network"),
    ):
        with pytest.raises(RunError, match=words) as error:
            read(saved, like)
        assert ("another network" in str(error.value)) == ("another network" in words)

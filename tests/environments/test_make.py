import importlib.util
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from policygrad import environments
from policygrad.core.errors import UnsupportedSpaceError, UserError
from policygrad.environments.copies import Copies
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.gymnax import GymnaxEnvironment, to_gymnasium
from policygrad.environments.protocol import CompiledEnvironment
from tests.worlds import (
    ROOT,
    Chain,
    DuckChain,
    GymnaxChain,
    StockGymnaxChain,
    Untold,
    chain_vector,
)


def test_registered_id_with_a_vector_entry_point():
    lanes = environments.make("CartPole-v1", 3)
    assert isinstance(lanes, GymnasiumLanes)
    assert not isinstance(lanes.vector.unwrapped, Copies)
    assert (lanes.num_envs, lanes.time_limit) == (3, 500)


@pytest.mark.parametrize(("limit", "known"), [(-1, None), (None, 500), (7, 7)])
def test_a_limit_on_steps_is_gymnasiums_where_all_copies_are_stepped_at_once(limit, known):
    lanes = environments.make("CartPole-v1", 2, kwargs={"max_episode_steps": limit})
    assert lanes.time_limit == known
    lanes.start(0)
    lengths = []
    for t in range(100):
        times = lanes.times + 1
        step = lanes.step(np.array([t % 2, t % 2]))
        lengths += times[step.truncated | step.terminated].tolist()
    assert set(lengths) == {7} if limit == 7 else min(lengths) > 10


def test_registered_id_without_one_gets_resets_of_our_own():
    lanes = environments.make("Acrobot-v1", 2)
    assert isinstance(lanes, GymnasiumLanes)
    assert isinstance(lanes.vector, Copies)
    assert lanes.seeds_each_lane
    assert lanes.time_limit == 500


def test_id_in_a_module(tmp_path, monkeypatch):
    source = "import gymnasium\ngymnasium.register('Far-v0', 'tests.worlds:Chain')\n"
    (tmp_path / "far_away.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    lanes = environments.make("far_away:Far-v0", 2, kwargs={"length": 7})
    assert isinstance(lanes, GymnasiumLanes)
    assert isinstance(lanes.vector, Copies)
    assert lanes.vector.envs[0].unwrapped.length == 7


def test_gymnax_id():
    made = environments.make("gymnax/CartPole-v1", 2)
    assert isinstance(made, CompiledEnvironment)
    assert made.time_limit == 500


def test_arguments_reach_the_environment():
    lanes = environments.make("Pendulum-v1", 1, kwargs={"g": 5.0})
    assert isinstance(lanes, GymnasiumLanes)
    assert isinstance(lanes.vector, Copies)
    assert lanes.vector.envs[0].unwrapped.g == 5.0


@pytest.mark.parametrize("limit", [7, 1000])
def test_time_limit_is_the_one_that_was_asked_for(limit):
    lanes = environments.make("Pendulum-v1", 1, kwargs={"max_episode_steps": limit})
    assert isinstance(lanes, GymnasiumLanes)
    assert lanes.time_limit == limit


@pytest.mark.parametrize(
    "env",
    [
        Chain,
        lambda: Chain(3),
        gymnasium.spec("Acrobot-v1"),
        chain_vector(AutoresetMode.NEXT_STEP),
    ],
    ids=["class", "function", "spec", "vector environment"],
)
def test_objects_become_lanes(env):
    assert isinstance(environments.make(env, 2), GymnasiumLanes)


def test_one_registered_environment_stands_for_its_copies():
    lanes = environments.make(gymnasium.make("Acrobot-v1"), 3)
    assert lanes.num_envs == 3
    with pytest.raises(UserError, match="pass a function"):
        environments.make(Chain(), 3)


@pytest.mark.parametrize(
    "env",
    [GymnaxChain(), DuckChain(), (GymnaxChain(), GymnaxChain().default_params)],
    ids=["gymnax", "alike", "with parameters"],
)
def test_functional_objects_become_compiled_environments(env):
    assert isinstance(environments.make(env, 2), GymnaxEnvironment)


def test_compiled_environment_is_taken_as_it_is():
    made = environments.make(GymnaxChain(), 2)
    assert environments.make(made, 2) is made


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CartPol-v1", "CartPole-v1"),
        ("cartpole-v1", "CartPole-v1"),
        ("Pendulun-v1", "Pendulum-v1"),
        ("CartPole-v7", "CartPole-v1"),
        ("gymnax/CartPol-v1", "gymnax/CartPole-v1"),
        ("gymnax/pendulum-v1", "gymnax/Pendulum-v1"),
        ("tests.worlds:Chian-v0", "Chain-v0"),
    ],
)
def test_unknown_name_gets_the_nearest_ones(name, hint):
    with pytest.raises(UserError, match="unknown environment") as caught:
        environments.make(name, 1)
    assert name.rpartition(":")[2] in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize("name", ["no_such_module:X-v0", "./tests/worlds:Chain-v0", "..a:X-v0"])
def test_module_that_cannot_be_imported(name):
    with pytest.raises(UserError, match="import"):
        environments.make(name, 1)


@pytest.mark.parametrize("name", ["", "gymnax/", "tests.worlds:", "a b", "CartPole"])
def test_odd_names_are_unknown(name):
    with pytest.raises(UserError):
        environments.make(name, 1)


@pytest.mark.parametrize("env", [3, None, object(), [Chain]], ids=["3", "None", "object", "list"])
def test_what_is_no_environment_is_refused(env):
    with pytest.raises(UserError, match="is not an environment; pass an id"):
        environments.make(env, 1)


def without(monkeypatch, package):
    real = importlib.util.find_spec

    def find_spec(name, *arguments):
        return None if name.split(".")[0] == package else real(name, *arguments)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


@pytest.mark.parametrize(
    ("package", "what", "extra"),
    [
        ("gymnax", "gymnax/CartPole-v1", None),
        ("tensorboardX", "--tensorboard", "tensorboard"),
        ("wandb", "--wandb", None),
    ],
)
def test_missing_extra_says_what_brings_it(monkeypatch, package, what, extra):
    without(monkeypatch, package)
    with pytest.raises(UserError) as caught:
        environments.require_extra(package, what, extra)
    assert what in str(caught.value)
    assert f"pip install 'policygrad[{extra or package}]'" in str(caught.value)


def test_missing_gymnax(monkeypatch):
    without(monkeypatch, "gymnax")
    with pytest.raises(UserError, match=r"pip install 'policygrad\[gymnax\]'"):
        environments.make("gymnax/CartPole-v1", 1)


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Ant-v4"])
def test_missing_mujoco(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "mujoco", None)  # an import of it fails
    for module in [m for m in sys.modules if m.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(UserError, match=r"pip install 'policygrad\[mujoco\]'"):
        environments.make(name, 1)


def test_missing_box2d(monkeypatch):
    monkeypatch.setitem(sys.modules, "Box2D", None)
    with pytest.raises(UserError, match=r"pip install .*gymnasium\[box2d\]"):
        environments.make("LunarLander-v3", 1)


def test_unsupported_spaces_are_refused_at_once():
    with pytest.raises(UnsupportedSpaceError, match="supported are Discrete"):
        environments.make(Untold, 1)


def test_gymnax_step_without_truncation_of_its_own_is_refused():
    class Old(DuckChain):
        def step(self, key, state, action, params):
            observation, state, reward, terminated, truncated, info = super().step(
                key, state, action, params
            )
            return observation, state, reward, terminated | truncated, info

    with pytest.raises(UserError, match="5 values, expected 6"):
        environments.make(Old(), 1)


def test_time_limit_is_known_only_where_gymnax_itself_truncates():
    assert StockGymnaxChain(5, terminates=False).default_params.max_steps_in_episode == 5
    assert GymnaxEnvironment(GymnaxChain(5, terminates=False)).time_limit is None
    assert GymnaxEnvironment(DuckChain()).time_limit is None


def test_adapter_gives_true_successors():
    for env in (GymnaxChain(3), DuckChain(3)):
        adapted = GymnaxEnvironment(env)
        state, observation = adapted.reset(jax.random.key(0))
        np.testing.assert_array_equal(observation, [0, 0])
        for t in range(3):
            state, observation, reward, terminated, truncated = adapted.step(
                jax.random.key(t), state, jnp.int32(1)
            )
        np.testing.assert_array_equal(observation, [1.75, 3])
        assert (float(reward), bool(terminated), bool(truncated)) == (2.25, True, False)


def test_gymnax_spaces_become_gymnasium_ones():
    from gymnax.environments import spaces as theirs

    assert to_gymnasium(theirs.Discrete(3)) == spaces.Discrete(3)
    box = theirs.Box(-1.0, jnp.array([1.0, jnp.inf]), (2,), jnp.float32)
    expected = spaces.Box(np.float32([-1, -1]), np.float32([1, np.inf]), dtype=np.float32)
    assert to_gymnasium(box) == expected
    nested = theirs.Dict({"a": theirs.Tuple([theirs.Discrete(2), theirs.Discrete(3)])})
    assert to_gymnasium(nested) == spaces.Dict(
        {"a": spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)])}
    )


def test_describe_names_only_what_can_be_made_again():
    assert environments.describe("CartPole-v1") == "CartPole-v1"
    assert environments.describe(gymnasium.spec("CartPole-v1")) == "CartPole-v1"
    assert environments.describe(gymnasium.make("CartPole-v1")) == "CartPole-v1"
    assert environments.describe(Chain) is None
    assert environments.describe(DuckChain()) is None


@pytest.mark.parametrize(
    "env",
    [
        gymnasium.make("Pendulum-v1", g=5.0),
        gymnasium.make("Pendulum-v1", max_episode_steps=7),
        gymnasium.wrappers.ClipAction(gymnasium.make("Pendulum-v1")),
    ],
    ids=["arguments", "time limit", "wrapper"],
)
def test_describe_does_not_name_another_environment(env):
    """Its id alone would make one with other dynamics, another limit or without the wrapper."""
    assert environments.describe(env) is None


def test_worlds_are_found_from_the_root():
    assert (ROOT / "tests" / "worlds.py").exists()

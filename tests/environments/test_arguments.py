"""Arguments of environments: they arrive, or they are an error that names them."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import policygrad
from policygrad import environments
from policygrad.core.errors import EnvironmentFailure, UserError
from policygrad.environments.copies import Copies
from policygrad.environments.gymnax import GymnaxEnvironment
from policygrad.environments.wrapping import wrapped
from policygrad.rollout import HostSource, open_source
from tests.rollout.test_source import NumPyChain
from tests.worlds import TINY, Chain, DuckChain, GymnaxChain, chain_vector


def make_chain(length=3, *, terminates=True):
    return Chain(length, terminates=terminates)


def anything(**kwargs):
    return Chain(**kwargs)


class Sized(Chain):
    """Cannot be made without its size."""

    def __init__(self, size):
        super().__init__(size)


def lengths(made):
    assert isinstance(made.vector, Copies)
    return [env.unwrapped.length for env in made.vector.envs]


@pytest.mark.parametrize(
    "env",
    [Chain, make_chain, anything, partial(Chain, terminates=False), partial(make_chain, 9)],
    ids=["class", "function", "**kwargs", "partial", "partial of a position"],
)
def test_case_01_arguments_reach_what_is_called(env):
    if isinstance(env, partial) and env.args:
        with pytest.raises(UserError, match="length"):  # given twice
            environments.make(env, 2, kwargs={"length": 7})
        return
    assert lengths(environments.make(env, 2, kwargs={"length": 7})) == [7, 7]


def test_case_01_arguments_reach_a_class_in_training_and_evaluation():
    run = policygrad.train(Chain, env_kwargs={"length": 5}, **TINY)
    assert run.summary["length_mean"] == 5
    assert policygrad.evaluate(run, episodes=2).stochastic.length_mean == 5


@pytest.mark.parametrize("env", [Chain, make_chain, anything, partial(Chain, terminates=False)])
def test_case_01_a_misspelled_argument_is_named(env):
    with pytest.raises(UserError, match="lenght"):
        environments.make(env, 2, kwargs={"lenght": 7})


def test_case_01_what_the_callable_takes_is_named():
    with pytest.raises(UserError, match=r"it takes length, terminates, did you mean length\?"):
        environments.make(Chain, 2, kwargs={"lenght": 7})
    with pytest.raises(UserError, match="Sized needs the argument size; give it by env_kwargs"):
        environments.make(Sized, 2)
    assert lengths(environments.make(Sized, 2, kwargs={"size": 4})) == [4, 4]


TAKES_NONE = {
    "vector environment": chain_vector(AutoresetMode.NEXT_STEP),
    "lanes": NumPyChain(4),
    "functional object": DuckChain(),
    "gymnax object": GymnaxChain(),
    "pair": (GymnaxChain(), GymnaxChain().default_params),
    "compiled environment": GymnaxEnvironment(DuckChain()),
    "source": HostSource(NumPyChain(4)),
}


@pytest.mark.parametrize("env", TAKES_NONE.values(), ids=TAKES_NONE.keys())
@pytest.mark.parametrize(
    ("name", "value"), [("kwargs", {"length": 7}), ("processes", True)], ids=["kwargs", "processes"]
)
def test_case_01_what_is_made_already_takes_no_arguments(env, name, value):
    wanted = "env_kwargs={'length': 7}" if name == "kwargs" else "processes=True"
    with pytest.raises(UserError, match="leave it out") as caught:
        open_source(env, 4, **{name: value})
    assert wanted in str(caught.value)


def test_case_01_arguments_reach_a_spec_and_an_instance_with_one():
    for env in (gymnasium.spec("Chain-v0"), gymnasium.make("Chain-v0")):
        assert lengths(environments.make(env, 2, kwargs={"length": 6})) == [6, 6]
        with pytest.raises(UserError, match=r"lenght.*it takes length, terminates"):
            environments.make(env, 2, kwargs={"lenght": 6})


# ----- further arguments that could vanish


class Static:
    """Holds functions that make environments in other ways."""

    @staticmethod
    def static(length=3):
        return Chain(length)

    @classmethod
    def of_class(cls, length=3):
        return Chain(length)

    def method(self, length=3):
        return Chain(length)

    def __call__(self, length=3):
        return Chain(length)


FURTHER = {
    "static method": Static.static,
    "class method": Static.of_class,
    "bound method": Static().method,
    "callable object": Static(),
    "lambda": lambda length=3: Chain(length),
    "gymnasium.make of an id": partial(gymnasium.make, "Chain-v0"),
    "nested partial": partial(partial(Chain, terminates=False), terminates=True),
}


@pytest.mark.parametrize("env", FURTHER.values(), ids=FURTHER.keys())
def test_further_arguments_arrive_or_are_named(env):
    assert lengths(environments.make(env, 2, kwargs={"length": 7})) == [7, 7]
    with pytest.raises(UserError, match="lenght"):
        environments.make(env, 2, kwargs={"lenght": 7})


@pytest.mark.parametrize("kwargs", [[("length", 7)], "length=7", {3: 4}, 5])
def test_further_arguments_that_are_no_dict_are_refused(kwargs):
    with pytest.raises(UserError, match="env_kwargs must be a dict"):
        environments.make(Chain, 2, kwargs=kwargs)


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1"])
def test_further_ids_name_what_they_do_not_take(env):
    with pytest.raises(UserError, match="gravityy"):
        environments.make(env, 2, kwargs={"gravityy": 7})


# ----- gymnax


def test_fault_16_parameters_of_gymnax_are_replaced():
    made = environments.make("gymnax/CartPole-v1", 2, kwargs={"gravity": 5})
    assert isinstance(made, GymnaxEnvironment)
    assert made.params.gravity == 5.0
    assert isinstance(made.params.gravity, float)
    assert environments.make("gymnax/CartPole-v1", 2, kwargs={"gravity": 5}) is made
    short = environments.make("gymnax/CartPole-v1", 2, kwargs={"max_steps_in_episode": 9})
    assert short.time_limit == 9


@pytest.mark.parametrize(
    ("kwargs", "found"),
    [
        ({"gravityy": 5}, "gravityy.*it takes .*gravity"),
        ({"gravity": "five"}, "gravity must be like 9.8, got 'five'"),
        ({"max_steps_in_episode": 7.5}, "max_steps_in_episode must be like 500, got 7.5"),
        ({"max_steps_in_episode": float("inf")}, "max_steps_in_episode must be like 500, got inf"),
        ({"gravity": 5, "x": np.ones(2)}, "x.*it takes"),
    ],
)
def test_fault_16_unknown_parameters_of_gymnax_are_named(kwargs, found):
    with pytest.raises(UserError, match=found):
        environments.make("gymnax/CartPole-v1", 2, kwargs=kwargs)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("processes", True, "--processes is for environments that Gymnasium steps"),
        ("step_timeout", 3.0, "--step-timeout 3.0 is for environments that Gymnasium steps"),
    ],
)
@pytest.mark.parametrize("env", ["gymnax/CartPole-v1", "envpool/CartPole-v1"])
def test_settings_of_gymnasiums_steps_are_refused_elsewhere(env, name, value, found):
    with pytest.raises(UserError, match=found):
        environments.make(env, 2, **{name: value})


# ----- engines, and the number of lanes


class Narrow:
    """An engine that takes neither processes nor kwargs."""

    def open(self, env_id, num_envs):
        return HostSource(NumPyChain(num_envs))


class Plain:
    """An engine as the documentation describes it."""

    def open(self, env_id, num_envs, *, processes=False, kwargs=None):
        return HostSource(NumPyChain(num_envs, **(kwargs or {})))


def test_engines_take_the_arguments_that_are_given_or_are_refused():
    with pytest.raises(UserError, match=r"Narrow.open must take \(env_id, num_envs"):
        open_source("mine", 2, engine=Narrow())
    with pytest.raises(UserError, match="step_timeout=3 is not read by Plain"):
        open_source("mine", 2, engine=Plain(), step_timeout=3)
    assert open_source("mine", 2, engine=Plain(), kwargs={"length": 8}).lanes.length == 8


def test_a_number_of_environments_that_is_not_taken_is_refused():
    vector = chain_vector(AutoresetMode.NEXT_STEP, 2)
    settings = {**TINY, "num_envs": 8}
    with pytest.raises(UserError, match=r"--num-envs 8 was given, and .* steps 2 together"):
        policygrad.train(vector, **settings)
    del settings["num_envs"]
    assert policygrad.train(vector, **settings).config.num_envs == 2


class Measured(Chain):
    """Takes a length that is a number."""

    def __init__(self, length=3):
        super().__init__(int(length))


def passing_on(**kwargs):
    return Measured(**kwargs)


@pytest.mark.parametrize("env", [Measured, passing_on])
@pytest.mark.parametrize("wrappers", [(), (gymnasium.wrappers.TimeAwareObservation,)])
def test_a_wrong_value_is_not_called_an_argument_that_is_not_taken(env, wrappers):
    make = wrapped(env, {"length": [1]}, wrappers)
    with pytest.raises(
        EnvironmentFailure, match=r"raised TypeError: int.. argument must"
    ) as caught:
        environments.make(make, 2)
    assert "int() argument must be" in str(caught.value)
    assert "does not take" not in str(caught.value)


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ("Pendulum-v1", r"Pendulum-v1 does not take these arguments: {'gravityy': 1}"),
        (Chain, r"Chain does not take these arguments: {'gravityy': 1}.*it takes length"),
        (anything, r"anything does not take these arguments: {'gravityy': 1}"),
        (gymnasium.spec("Chain-v0"), r"Chain-v0 does not take these arguments"),
    ],
)
def test_arguments_that_are_not_taken_are_named_behind_wrappers_too(env, found):
    with pytest.raises(UserError, match=found):
        environments.make(wrapped(env, {"gravityy": 1}, [gymnasium.wrappers.Autoreset]), 2)


def test_a_number_of_environments_among_the_arguments_is_a_setting_of_the_run():
    with pytest.raises(UserError, match="is a setting of the run, --num-envs"):
        policygrad.train("CartPole-v1", env_kwargs={"num_envs": 3})


def changed(name, **attributes):
    env = gymnasium.make(name)
    vars(env.unwrapped).update(attributes)
    return env


@pytest.mark.parametrize(
    ("env", "found"),
    [
        (lambda: changed("Pendulum-v1", g=0), "attribute g of .* is 0, and 10.0 in"),
        (lambda: changed("Pendulum-v1", m=2.0), "attribute m "),
        (lambda: changed("CartPole-v1", gravity=1.0), "attribute gravity "),
        (lambda: changed("CartPole-v1", kinematics_integrator="other"), "kinematics_integrator"),
        (lambda: changed("Chain-v0", length=9), "attribute length "),
        (lambda: gymnasium.wrappers.TimeLimit(changed("Chain-v0", length=9), 5), "length"),
    ],
)
def test_an_environment_that_was_changed_is_refused(env, found):
    with pytest.raises(UserError, match=f"{found}.*pass a function"):
        environments.make(env(), 2)
    with pytest.raises(UserError, match=f"{found}.*pass a function"):
        wrapped(env(), {}, [])


@pytest.mark.parametrize(
    "name", ["Pendulum-v1", "FrozenLake-v1", "Taxi-v4", "Chain-v0", "Acrobot-v1"]
)
def test_an_environment_that_was_only_used_is_taken(name):
    env = gymnasium.make(name)
    env.reset(seed=3)
    env.step(env.action_space.sample())
    environments.make(env, 2).close()

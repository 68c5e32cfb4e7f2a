"""What other libraries call things here: each hint names what exists, and is found where it is
needed."""

import re

import pytest

import policygrad
from policygrad.core.elsewhere import FUNCTIONS, METHODS, OF_EVALUATE, UNLIKE, translated
from policygrad.core.errors import UserError
from policygrad.evaluating.playing import ARGUMENTS
from policygrad.training.config import TrainConfig
from policygrad.training.entry import make_config
from tests.worlds import TINY, Chain, python

SETTINGS = TrainConfig.__dataclass_fields__
IN_PYTHON = {"on_update", "evaluate_every", "env_kwargs"}


@pytest.mark.parametrize("name", UNLIKE)
def test_a_hint_names_settings_that_exist(name):
    told = re.findall(r"(?<![\w.])[a-z]+(?:_[a-z]+)+(?![\w.])", translated(name) or "")
    assert set(told) <= {*SETTINGS, *IN_PYTHON, name}


@pytest.mark.parametrize("name", ["batch_size", "minibatch_size", "sgd_minibatch_size"])
def test_the_size_of_a_minibatch_is_no_size_of_a_batch(name):
    with pytest.raises(UserError, match="ppo_minibatches is the number of minibatches"):
        make_config({name: 64})


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("rollout_length", "rollout_length times num_envs"),
        ("num_workers", r"collector=policygrad\.remote\(workers=N\)"),
        ("log_std_init", "in units of half the range"),
        ("max_ep_len", "a time limit is the environment's"),
        ("save_freq", "in seconds"),
        ("anneal_lr", "step_size_schedule is linear"),
        ("tensorboard_log", "tensorboard is True or False .* the run's directory, out"),
        ("eval_freq", "evaluate_every"),
        ("steps", "here it is called total_steps"),
    ],
)
def test_further_settings_that_take_other_values_are_told_apart(name, told):
    with pytest.raises(UserError, match=told):
        make_config({name: 1})


@pytest.mark.parametrize("name", ["learning_rate", "step_size", "lr", "pi_lr"])
def test_a_function_as_a_step_size_is_answered_with_what_changes_it(name):
    with pytest.raises(UserError, match=r"not taken here.*step_size_schedule.*callbacks\.schedule"):
        make_config({name: lambda progress: progress})


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("clip_ratio", r'callbacks\.schedule\("clip_ratio"'),
        ("ent_coef", r'callbacks\.schedule\("entropy_coefficient"'),
        ("num_envs", "a function or a schedule is not taken here$"),
        ("hidden", "a function or a schedule is not taken here$"),
    ],
)
def test_further_functions_as_settings(name, told):
    with pytest.raises(UserError, match=told):
        make_config({name: lambda steps: steps})


@pytest.mark.parametrize("name", [*FUNCTIONS, "UserError", "EnvironmentFailure", "NonFiniteError"])
def test_names_of_the_package_that_are_elsewhere(name):
    hint = FUNCTIONS.get(name, f"it is policygrad.errors.{name}")
    with pytest.raises(AttributeError, match=f"no attribute '{name}'; ") as error:
        getattr(policygrad, name)
    assert hint in str(error.value)
    for public in re.findall(r"policygrad((?:\.\w+)+)", hint):
        found = policygrad
        for part in public.split(".")[1:]:
            found = getattr(found, part)


def test_names_that_are_imported_from_the_package():
    code = (
        "import sys\nfor name in ('PPO', 'UserError'):\n"
        "    try: exec(f'from policygrad import {name}')\n"
        "    except ImportError as error: print(error)\n"
        "assert 'jax' not in sys.modules"
    )
    out = python("-c", code).stdout.splitlines()
    assert out[0].startswith('policygrad has no PPO; policygrad.train(env, algorithm="ppo")')
    assert out[1] == "policygrad has no UserError; it is policygrad.errors.UserError"


@pytest.fixture(scope="module")
def run():
    return policygrad.train(Chain, **TINY)


@pytest.mark.parametrize("name", METHODS)
def test_methods_of_other_libraries_are_answered(run, name):
    for owner in (run, run.agent):
        with pytest.raises(AttributeError) as error:
            getattr(owner, name)
        assert METHODS[name] in str(error.value)
    assert not hasattr(run.agent, "nonsense")


@pytest.mark.parametrize("name", OF_EVALUATE)
def test_arguments_of_other_evaluations_are_answered(run, name):
    with pytest.raises(UserError, match=f"evaluate takes no argument '{name}'; ") as error:
        policygrad.evaluate(run, **{name: 4})
    assert OF_EVALUATE[name] in str(error.value)
    assert name not in ARGUMENTS


def test_an_unknown_argument_of_an_evaluation_is_named(run):
    with pytest.raises(UserError, match="did you mean episodes"):
        policygrad.evaluate(run, epsiodes=4)  # pyright: ignore
    with pytest.raises(UserError, match="it takes engine, env, "):
        policygrad.evaluate(run, x=4)  # pyright: ignore


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("MlpPolicy", "CartPole-v1"), "the policy is built for the environment's spaces"),
        (("CartPole-v1", 100_000), "got 'CartPole-v1', 100000"),
    ],
)
def test_train_takes_the_environment_alone_without_a_name(given, told):
    with pytest.raises(UserError, match=told):
        policygrad.train(*given)

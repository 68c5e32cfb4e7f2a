"""Flags of other libraries are answered with what there is in their place."""

import re

import pytest

import policygrad
from policygrad import cli
from policygrad.cli.options import refuse_translated
from policygrad.core.errors import UserError
from tests.worlds import TINY


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gamma", "unknown flag --gamma; here it is called --discount"),
        ("learning_rate", "unknown flag --learning-rate; here it is called --step-size"),
        ("n_steps", "--n-steps; batch_steps counts the steps of all environments together"),
        ("vf_coef", "the critic is fitted apart from the policy"),
        ("env_id", "the environment is the first argument"),
        ("total_timesteps", "here it is called --total-steps"),
    ],
)
def test_further_flags_of_other_libraries(name, words):
    with pytest.raises(UserError, match=words):
        refuse_translated([name], ["discount", "seed"])
    refuse_translated([name, "nonsense"], [name])


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["train", "--env", "CartPole-v1"], "unknown flag --env; the environment is the first"),
        (["train", "CartPole-v1", "--policy", "MlpPolicy"], "--policy; the policy is built"),
        (["train", "CartPole-v1", "--eval-freq=100"], "--eval-freq; .*policygrad evaluate RUN"),
        (["train", "CartPole-v1", "--steps", "100"], "--steps; here it is called --total-steps"),
        (["train", "CartPole-v1", "--timesteps", "9"], "here it is called --total-steps"),
        (["train", "CartPole-v1", "--batch-size", "64"], "ppo_minibatches is the number"),
        (["evaluate", "runs/a", "--n-eval-episodes", "4"], "here it is called episodes"),
    ],
)
def test_flags_of_other_libraries_in_the_commands(capsys, argv, told):
    assert cli.run(argv) == 2
    assert re.search(told, capsys.readouterr().err)


def test_flags_of_other_libraries_where_a_run_is_resumed(capsys, tmp_path):
    path = tmp_path / "a"
    policygrad.train("CartPole-v1", out=path, **TINY)
    for flag, ours in (("--learning-rate", "--step-size"), ("--gamma", "--discount")):
        assert cli.run(["resume", str(path), flag, "1e-4"]) == 2
        assert f"unknown flag {flag}; here it is called {ours}" in capsys.readouterr().err

"""How often the programs of an update are compiled."""

import logging
import re

import jax
import pytest

import policygrad


@pytest.fixture
def compilations(caplog):
    """Tells the names of the programs that were compiled, in whatever thread."""
    jax.config.update("jax_log_compiles", True)
    with caplog.at_level(logging.WARNING):
        yield lambda: re.findall(r"Finished XLA compilation of jit\((\w+)\)", caplog.text)
    jax.config.update("jax_log_compiles", False)


@pytest.mark.parametrize("env", ["CartPole-v1", "envpool/Pendulum-v1"])
def test_an_update_is_compiled_once_though_its_batch_is_not_there_yet(env, compilations):
    if env.startswith("envpool/"):
        pytest.importorskip("envpool")
    policygrad.train(env, hidden=(5,), num_envs=3, batch_steps=21, total_steps=60)
    assert [compilations().count(name) for name in ("step", "refit")] == [1, 1]

"""Optimisers of the user's own: what is trained, what is read, what is logged."""

import jax
import numpy as np
import optax
import pytest

import policygrad
from policygrad.algorithms import PPO, SGD, Adam, Vanilla
from policygrad.core.errors import UserError
from tests.slow import slow
from tests.worlds import DUCK, TINY, Chain

NONE = {"step_size": None, "target_kl": None, "step_size_schedule": None}
CLIPPED = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-2))
INJECTED = optax.inject_hyperparams(optax.adam)(learning_rate=optax.linear_schedule(0.5, 0.0, 4))


def settings_of(run):
    return {name: getattr(run.config, name) for name in NONE}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["vanilla", "ppo"])
@pytest.mark.parametrize(
    "optimiser",
    [optax.adam(1e-2), optax.sgd(0.5), optax.lion(1e-3), CLIPPED],
    ids=["adam", "sgd", "lion", "chain(clip, adam)"],
)
def test_case_02_an_optimiser_that_descends_learns(optimiser, algorithm):
    run = policygrad.train(
        "gymnax/CartPole-v1", optimiser=optimiser, algorithm=algorithm, total_steps=40_960, seed=1
    )
    first = next(m["return_mean"] for m in run.metrics if m["return_mean"] is not None)
    assert run.summary["return_mean"] > 2 * first
    assert settings_of(run) == NONE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "algorithm"),
    [
        pytest.param(Chain, Vanilla, id="host-vanilla"),
        pytest.param(Chain, PPO, id="host-ppo", marks=slow),
        pytest.param(DUCK, Vanilla, id="compiled-vanilla", marks=slow),
        pytest.param(DUCK, PPO, id="compiled-ppo"),
    ],
)
def test_a_step_of_sgd_is_the_gradient_times_its_learning_rate(env, algorithm):
    """The record SGD with a fixed step size trains the same policy, to the last bit."""
    same = TINY | {"seed": 3}
    own = policygrad.train(env, algorithm=algorithm(optimiser=optax.sgd(0.25)), **same)
    record = algorithm(
        optimiser=SGD(), step_size=0.25, target_kl=0.0, step_size_schedule="constant"
    )
    named = policygrad.train(env, algorithm=record, **same)
    for a, b in zip(jax.tree.leaves(own.policy), jax.tree.leaves(named.policy), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    sizes = [m["step_size"] for m in own.metrics if m["gradient_norm"] > 0]
    np.testing.assert_allclose(sizes, 0.25, rtol=1e-5)


def test_a_schedule_of_the_optimiser_is_followed_and_logged():
    run = policygrad.train(DUCK, optimiser=INJECTED, **TINY | {"total_steps": 128})
    expected = [max(0.0, 0.5 - 0.125 * i) for i in range(len(run.metrics))]
    np.testing.assert_allclose([m["step_size"] for m in run.metrics], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"optimiser": optax.adam(1e-3), "step_size": 0.1}, "--step-size 0.1 was given beside"),
        ({"optimiser": CLIPPED, "target_kl": 0.02}, "--target-kl 0.02 was given beside optimiser"),
        (
            {"optimiser": CLIPPED, "algorithm": "ppo", "step_size_schedule": "linear"},
            "--step-size-schedule linear was given beside optimiser",
        ),
        (
            {"algorithm": Vanilla(optimiser=optax.adam(1e-3), step_size=0.1)},
            "--step-size 0.1 was given beside optimiser",
        ),
        ({"algorithm": Vanilla(), "optimiser": optax.adam(1.0)}, "set it in the record"),
        ({"algorithm": Vanilla(optimiser=None)}, "optimiser=None is no optimiser"),  # pyright: ignore
        ({"optimiser": True}, "optimiser=True is no optimiser"),
        ({"optimiser": optax.adam}, "is a function that makes an optimiser; call it"),
        ({"optimiser": optax.set_to_zero()}, "the policy would not be trained"),
        ({"optimiser": Adam(), "adam_epsilon": 0.1}, "adam_epsilon=0.1 was given with"),
    ],
)
def test_case_02_what_nothing_reads_is_refused(values, words, tmp_path):
    with pytest.raises(UserError, match=words):
        policygrad.train(DUCK, **values, out=tmp_path / "a", **TINY)
    assert not (tmp_path / "a").exists()


def test_a_direction_is_multiplied_by_the_step_size():
    run = policygrad.train(
        DUCK, optimiser=optax.scale_by_adam(), step_size=0.125, target_kl=0.0, **TINY
    )
    assert {m["step_size"] for m in run.metrics} == {0.125}
    assert run.config.step_size == 0.125


def test_a_record_of_an_optimiser_becomes_settings():
    run = policygrad.train(DUCK, optimiser=Adam(epsilon=1e-3, log_std_step=2.0), **TINY)
    assert (run.config.optimiser, run.config.adam_epsilon) == ("adam", 1e-3)


@pytest.mark.parametrize("algorithm", ["vanilla", pytest.param("ppo", marks=slow)])
def test_a_run_with_an_optimiser_of_its_own_resumes(algorithm, tmp_path):
    more = TINY | {"total_steps": 2 * TINY["total_steps"]}
    whole = policygrad.train(DUCK, optimiser=CLIPPED, algorithm=algorithm, **more)
    policygrad.train(DUCK, optimiser=CLIPPED, algorithm=algorithm, out=tmp_path / "a", **TINY)
    resumed = policygrad.resume(
        tmp_path / "a", env=DUCK, optimiser=CLIPPED, total_steps=more["total_steps"]
    )
    for a, b in zip(jax.tree.leaves(whole.policy), jax.tree.leaves(resumed.policy), strict=True):
        np.testing.assert_array_equal(a, b)

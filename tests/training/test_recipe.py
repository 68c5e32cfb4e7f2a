"""What runs have in common, sent to other processes and back."""

import multiprocessing
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad
from policygrad.core.errors import UserError
from policygrad.training.assembly import Task
from policygrad.training.given import Given
from policygrad.training.recipe import Recipe
from policygrad.training.signals import StopRequest
from tests.worlds import TINY, Chain


def config_of(**settings):
    return policygrad.TrainConfig(**(TINY | settings))


def trained_elsewhere(answers, sent, config, path):
    run = pickle.loads(sent).read().train(config, path)
    answers.put(np.asarray(jax.tree.leaves(run.policy)[0]).tobytes())


@pytest.mark.slow
def test_a_process_of_any_kind_trains_a_recipe_that_it_was_sent(tmp_path):
    recipe = Recipe(Task(lambda: Chain(4), {}), Given())
    context = multiprocessing.get_context("spawn")
    answers, path = context.SimpleQueue(), tmp_path / "seed-1"
    arguments = answers, pickle.dumps(recipe.sent()), config_of(seed=1), path
    process = context.Process(target=trained_elsewhere, args=arguments)
    process.start()
    process.join()
    run = recipe.read(path)
    assert run.env is recipe.task.env
    assert run.config.seed == 1
    assert np.asarray(jax.tree.leaves(run.policy)[0]).tobytes() == answers.get()


def test_a_run_reports_its_updates_and_stops_where_it_is_asked_to():
    seen, stop = [], StopRequest()

    def report(update):
        seen.append(update["update"])
        stop.ask("SIGTERM")

    run = Recipe(Task(Chain, {}), Given()).train(config_of(total_steps=640), None, report, stop)
    assert run.summary["stopped_by"] == "SIGTERM"
    assert 1 <= len(seen) < 20


def test_a_run_that_is_read_back_remembers_the_arguments_of_its_environment(tmp_path):
    kwargs = {"max_episode_steps": 9}
    run = policygrad.train("Pendulum-v1", env_kwargs=kwargs, out=tmp_path / "a", **TINY)
    recipe = Recipe(Task("Pendulum-v1", kwargs), Given())
    assert recipe.read(run.path).env_kwargs == kwargs


def test_the_part_that_cannot_be_sent_is_named():
    with pytest.raises(UserError, match="env_kwargs cannot be sent to a worker process"):
        Recipe(Task(Chain, {"f": lambda: 0}), Given()).sent()


def test_numbers_of_64_bits_arrive_as_they_were():
    with jax.enable_x64(True):
        sent = Recipe(Task(Chain, {"x": jnp.float64(0.1)}), Given()).sent()
    assert sent.settings["jax_enable_x64"]
    before = jax.config.jax_enable_x64
    try:
        assert sent.read().task.env_kwargs["x"] == 0.1
    finally:
        jax.config.update("jax_enable_x64", before)

"""examples/extend: what is one's own goes in as a value, in sixty lines, and does its work."""

import importlib
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import policygrad
from policygrad import baselines, diagnostics, estimators, tabular
from policygrad.rollout import Collector, open_source
from tests.slow import params

FOLDER = Path(__file__).parents[1] / "examples" / "extend"
FILES = sorted(FOLDER.glob("*.py"))
TINY = {"num_envs": 4, "batch_steps": 64, "total_steps": 256, "hidden": (8,)}


@pytest.fixture
def extend(monkeypatch):
    """Imports an example, so that worker processes find it too."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("PYTHONPATH", ":".join([str(FOLDER), *sys.path]))
    return importlib.import_module


def test_there_is_one_of_each_kind_and_each_is_short():
    kinds = {"algorithm", "baseline", "collector", "engine", "form", "network"}
    assert {f.stem for f in FILES} == kinds
    for file in FILES:
        assert len(file.read_text().splitlines()) <= 60, file.name


@pytest.mark.parametrize(
    "kind", params(["algorithm", "baseline", "form", "network"], {"baseline", "form"})
)
@pytest.mark.slow
def test_cartpole_is_learned(extend, kind):
    assert extend(kind).main(24_576) > 60  # chance is 22


@pytest.mark.slow
def test_boats_learn_to_dock(extend):
    assert extend("engine").main(40_960) > -25  # standing still makes about −50


@pytest.mark.slow
def test_lanes_elsewhere_train_the_same_bits(extend):
    collector = extend("collector")
    settings = TINY | {"num_envs": 16, "batch_steps": 128}
    elsewhere = policygrad.train(collector.ENV, collector=collector.Elsewhere, **settings)
    here = policygrad.train(collector.ENV, collector=Here, **settings)
    leaves = jax.tree.leaves
    for ours, theirs in zip(leaves(elsewhere.policy), leaves(here.policy), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Here(Collector):
    """The source's own collector, a batch at a time, as one that is elsewhere."""

    whole_episodes = False

    def __init__(self, source, policy, key, config):
        self.observation_space, self.action_space = source.observation_space, source.action_space
        self.collect = source.segments(policy, key, config.rows).collect


@pytest.mark.slow
def test_a_network_is_saved_and_loaded(extend, tmp_path):
    residual = extend("network").Residual
    settings = {k: v for k, v in TINY.items() if k != "hidden"}
    run = policygrad.train("CartPole-v1", network=residual(8, 1), out=tmp_path / "a", **settings)
    with pytest.raises(policygrad.errors.RunError, match="pass network=Residual"):
        policygrad.load(run.path)
    agent = policygrad.load(run.path, network=residual)
    assert agent.act(np.zeros(4, np.float32)) in (0, 1)


def test_the_form_has_exact_moments(extend):
    form = extend("form").WholeLambdaReturn
    mdp, policy = tabular.gallery.random_mdp(3)
    critic = baselines.table(tabular.solve(mdp, policy, discount=0.9).values)
    made = estimators.Estimator(form(0.7), None, critic, 0.9, discounted_states=True)
    found = tabular.moments(mdp, policy, made)
    # an exact critic leaves no bias, whatever the weights of the returns
    np.testing.assert_allclose(found.bias, 0, atol=1e-12)
    usual = estimators.gae(gae_lambda=0.7, critic=critic, discount=0.9, discounted_states=True)
    assert found.variance != pytest.approx(tabular.moments(mdp, policy, usual).variance)


def test_the_baseline_has_exact_moments_once_it_is_fitted(extend):
    cosines = extend("baseline").RandomCosines(features=4)
    mdp, policy = tabular.gallery.random_mdp(3)
    made = estimators.reward_to_go(baseline=cosines)
    with pytest.raises(ValueError, match="has to be fitted"):
        tabular.moments(mdp, policy, made)
    state = made.init(jax.random.key(0), 0)
    found = tabular.moments(mdp, policy, made, state)
    np.testing.assert_allclose(found.bias, 0, atol=1e-12)


@pytest.mark.slow
def test_estimators_of_ones_own_are_diagnosed(extend):
    form, cosines = extend("form").WholeLambdaReturn, extend("baseline").RandomCosines(16)
    run = policygrad.train("gymnax/CartPole-v1", **TINY)
    record = rollout(run)
    own = estimators.Estimator(form(0.9), None, cosines, 0.99, time_limit="bootstraps")
    state = own.init(jax.random.key(0), jax.tree.map(lambda x: x[0, 0], record.observations))
    noise = diagnostics.gradient_noise(run.policy, own, state, record)
    assert noise.total.variance.value > 0


def rollout(run, count=32):
    source, key = open_source(run.env, 8), jax.random.key(1)
    return source.episodes(run.policy, key, count, 500).collect(run.policy, key)


@pytest.mark.slow
def test_all_of_ones_own_is_diagnosed(extend):
    form, cosines = extend("form").WholeLambdaReturn, extend("baseline").RandomCosines(16)
    result = policygrad.diagnose(
        env="Docking",
        engine=extend("engine").DockingEngine(),
        algorithm=extend("algorithm").SPO(passes=2),
        network=extend("network").Residual(8, 1),
        estimator=estimators.Estimator(form(0.9), None, cosines, 0.99, time_limit="bootstraps"),
        config=policygrad.TrainConfig(num_envs=8, batch_steps=400, total_steps=1200),
        episodes=8,
    )
    assert result.examination.updates == 3
    assert result.examination.sample.lengths.mean == 50
    assert result.examination.noise is not None

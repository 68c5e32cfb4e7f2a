"""Mistakes in what is passed as values: each is named, and none trains something else."""

from dataclasses import dataclass, field, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad
from policygrad import baselines, estimators
from policygrad.algorithms import PPO, Algorithm, Improved, Vanilla, take_step
from policygrad.core.describing import described
from policygrad.core.errors import UserError
from policygrad.core.settings import Positive
from policygrad.gradients.baselines import Baseline
from policygrad.gradients.forms import Form, LambdaReturn, ResetAtRewards
from policygrad.rollout import Collector
from policygrad.spaces import flat
from tests.worlds import DUCK, TINY, Chain

OWN = {k: v for k, v in TINY.items() if k != "critic_epochs"}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Plain(Algorithm):
    """One step along the gradient."""

    rate: Positive = 0.01
    """Length of a step, times the gradient's."""
    words: Any = field(default=(), metadata={"static": True})

    def start(self, differentiated):
        return ()

    def improve(self, key, policy, improver, batch):
        gradient, before = self.ascent(policy, batch)
        policy = take_step(policy, jax.tree.map(lambda g: self.rate * g, gradient))
        return Improved(policy, improver, before, jnp.float32(1), jnp.float32(1), {})


def returning(change):
    """`Plain` with what `improve` returns changed."""

    class Changed(Plain):
        def improve(self, key, policy, improver, batch):
            return change(super().improve(key, policy, improver, batch))

    return jax.tree_util.register_dataclass(dataclass(frozen=True, kw_only=True)(Changed))()


class NoDataclass(Plain):
    pass


@dataclass(frozen=True, kw_only=True)
class NotRegistered(Plain):
    pass


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class WithAWord(Plain):
    mode: Any = "a"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class OwnPPO(PPO):
    pass


def assert_refused(words, **values):
    with pytest.raises(UserError) as error:
        policygrad.train(Chain, **values, **OWN)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("algorithm", "words"),
    [
        (NoDataclass(), "NoDataclass(…) is no pytree to JAX; decorate its class with @jax.tree"),
        (NotRegistered(), "NotRegistered(…) is no pytree to JAX"),
        (WithAWord(), "WithAWord.mode is 'a', which is no number; mark the field as static"),
        (Plain(words=[1]), "is not hashable (unhashable type: 'list'); pass a tuple"),
        (Plain(rate=-1.0), "--rate must be more than 0, got -1.0"),
        (Plain(rate=np.float32(-1)), "--rate must be more than 0, got -1.0"),
        (Plain(rate=jnp.float32(-1)), "--rate must be more than 0, got -1.0"),
        (Plain(step_size_schedule="cosine"), "--step-size-schedule must be one of constant"),
        (OwnPPO(clip_ratio=-1.0), "--clip-ratio must be more than 0, got -1.0"),
        (OwnPPO(epochs=0), "--ppo-epochs must be a whole number at least 1, got 0"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_used_is_refused(algorithm, words):
    assert_refused(words, algorithm=algorithm)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: found.policy, "Changed.improve must return an Improved, got NetworkPolicy"),
        (lambda found: found._replace(step_size=jnp.ones(1)), "return step_size as one number"),
        (lambda found: found._replace(more={"x": jnp.ones(3)}), "must return x as one number"),
        (lambda found: found._replace(improver=(1.0,)), "returned improver of another structure"),
        (
            lambda found: found._replace(
                policy=jax.tree.map(lambda x: x.astype(jnp.float16), found.policy)
            ),
            "returned an array of its policy as float16",
        ),
        (lambda found: found._replace(more={"kl": jnp.float32(9)}), "logs a number as 'kl'"),
        (lambda found: found._replace(more={"env_steps": jnp.float32(9)}), "as 'env_steps'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("env", [Chain, DUCK], ids=["host", "compiled"])
def test_an_improvement_that_nothing_can_go_on_from_is_refused(change, words, env):
    with pytest.raises(UserError) as error:
        policygrad.train(env, algorithm=returning(change), **OWN)
    assert words in str(error.value)


def test_a_setting_beside_a_record_that_has_it_is_refused():
    for settings in ({"entropy_coefficient": 0.1}, {"rate": 0.1}):
        with pytest.raises(UserError, match=r"which has this setting|unknown setting 'rate'"):
            policygrad.train(Chain, algorithm=Plain(), **OWN, **settings)


class Narrow(Baseline):
    """One number a lane: an array that would be broadcast over the steps."""

    def init(self, key, observation):
        return ()

    def predict(self, state, trajectories, returns):
        return returns[0]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OneNumber(Form):
    def returns(self, steps, discount):
        return jnp.sum(steps.rewards)[None]


@dataclass(frozen=True)
class Unregistered(Form):
    def returns(self, steps, discount):
        return steps.rewards


jax.tree_util.register_pytree_node(Narrow, lambda x: ((), None), lambda *_: Narrow())
LINEAR = baselines.linear_features()
GAE = estimators.gae(critic=LINEAR)


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (LambdaReturn(), "is a return form; pass policygrad.estimators.Estimator(form,"),
        (estimators.gae, "is no estimator; pass a name, or a value such as"),
        (replace(GAE, baseline=Narrow), "baseline must be a Baseline, got <class"),
        (replace(GAE, discount=1.5), "discount must be between 0 and 1, got discount=1.5"),
        (replace(GAE, time_limit="bootstrap"), "time_limit must be one of bootstraps, terminates"),
        (replace(GAE, critic=baselines.constant()), "Constant cannot bootstrap"),
        (
            replace(GAE, form=ResetAtRewards(Unregistered())),
            "form=Unregistered(…) is no pytree to JAX",
        ),
    ],
)
def test_an_estimator_that_cannot_be_used_is_refused(estimator, words):
    assert_refused(words, estimator=estimator)


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (replace(GAE, baseline=Narrow()), "Narrow.predict must give one number a step"),
        (replace(GAE, form=OneNumber()), "OneNumber.returns must give one number a step"),
    ],
)
def test_numbers_that_would_be_broadcast_over_a_batch_are_refused(estimator, words):
    with pytest.raises(ValueError, match=words):
        policygrad.train(Chain, estimator=estimator, **OWN)


def test_a_baseline_by_name_beside_an_estimator_is_refused():
    for name in ("constant", "none"):
        with pytest.raises(UserError, match=f"--baseline {name} is read by a named estimator"):
            policygrad.train(Chain, estimator=GAE, baseline=name, **OWN)


def test_what_needs_whole_episodes_is_named():
    coupled = replace(GAE, baseline=baselines.variance_optimal(LINEAR))
    with pytest.raises(
        UserError, match=r"needs whole episodes: .*VarianceOptimal; .*cross_terms=False"
    ):
        policygrad.train(Chain, estimator=coupled, **OWN)


class Wrapping(Collector):
    """The source's own segments, changed: it has `collect` and nothing else."""

    def __init__(self, inner, change):
        self._inner, self._change = inner, change

    def collect(self, policy, key, episodes=None):
        return self._change(self._inner.collect(policy, key, episodes))


def wrapped(change):
    def make(source, policy, key, config):
        return Wrapping(source.segments(policy, key, config.rows), change)

    return make


def as_it_is(record):
    return record


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: replace(r, rewards=r.rewards[:, :1]), "the collector's rewards must have"),
        (lambda r: replace(r, log_probs=r.log_probs[1:]), "the collector's log_probs must have"),
        (lambda r: replace(r, whole_episodes=True), "returned whole episodes, and the run is of"),
        (lambda r: replace(r, valid=r.valid & False), "without any transition"),
        (lambda r: r.rewards, "must return Trajectories"),
    ],
)
def test_a_record_that_is_no_batch_of_the_run_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        policygrad.train(Chain, collector=wrapped(change), **TINY)


def test_a_collector_needs_only_collect(tmp_path):
    path = tmp_path / "a"
    run = policygrad.train(Chain, collector=wrapped(as_it_is), out=path, **TINY)
    own = policygrad.train(Chain, **TINY)
    for ours, theirs in zip(jax.tree.leaves(run.policy), jax.tree.leaves(own.policy), strict=True):
        assert jnp.array_equal(ours, theirs)
    assert policygrad.load(path).action_space == own.agent.action_space


class Boats:
    """An engine that opens lanes in place of a source."""

    def open(self, env_id, num_envs, *, processes=False, kwargs=None):
        return num_envs


def test_what_an_engine_must_be_is_said():
    for engine, words in (
        (Boats, "must be an object with open"),
        (object(), "must be an object with open"),
        (Boats(), "Boats.open must return a Source, got int"),
    ):
        with pytest.raises(UserError, match=words):
            policygrad.train("a", engine=engine, **TINY)


def test_a_run_resumes_with_the_values_that_it_was_trained_with(tmp_path):
    path = tmp_path / "a"
    policygrad.train(Chain, algorithm=Plain(rate=0.02), out=path, **OWN)
    more = {"total_steps": 2 * TINY["total_steps"]}
    for objects, words in (
        ({}, r"algorithm, env passed as objects.*algorithm=\.\.\., env=\.\.\."),
        ({"env": Chain}, "trained with algorithm, env"),
        ({"env": Chain, "algorithm": OwnPPO()}, "another algorithm.*Plain.*OwnPPO"),
        (
            {"env": Chain, "algorithm": Plain(rate=0.02), "network": 1},
            "without a network passed",
        ),
    ):
        with pytest.raises(UserError, match=words):
            policygrad.resume(path, **objects, **more)
    with pytest.warns(UserWarning, match=r"another algorithm.*0.02.*0.03.*the new settings"):
        policygrad.resume(path, env=Chain, algorithm=Plain(rate=0.03), total_steps=96)
    run = policygrad.resume(path, env=Chain, algorithm=Plain(rate=0.03), **more)
    assert run.summary["env_steps"] == more["total_steps"]


def test_a_value_is_described_by_its_class_and_its_settings():
    assert described(Vanilla(step_size=0.5))["optimiser"]["class"] == "Adam"
    assert described(replace(GAE, discount=jnp.float32(0.5)))["discount"] == 0.5
    assert described(Plain(rate=float("inf")))["rate"] == "inf"
    assert described(GAE) != described(estimators.gae(gae_lambda=0.5, critic=LINEAR))


class Layers(eqx.Module):
    """A network that holds functions among its leaves."""

    layers: eqx.nn.Sequential

    def __call__(self, features):
        return self.layers(flat(features))


@dataclass(frozen=True)
class OfFunctions:
    def build(self, key, example, outputs, *, last_scale=1.0):
        size = flat(example).size
        return Layers(
            eqx.nn.Sequential([eqx.nn.MLP(size, outputs, 8, 1, key=key), eqx.nn.Lambda(jnp.tanh)])
        )

    def to_json(self):
        return {}


@pytest.mark.slow
def test_networks_that_hold_functions_train_as_seeds_and_are_diagnosed(tmp_path):
    settings = {k: v for k, v in TINY.items() if k != "hidden"} | {"network": OfFunctions()}
    runs = policygrad.train_seeds(DUCK, [0, 1], **settings)
    assert sorted(runs.runs) == [0, 1]
    policygrad.train(Chain, out=tmp_path / "a", **settings)
    found = policygrad.diagnose(tmp_path / "a", Chain, network=OfFunctions(), episodes=8)
    assert found.examination.noise is not None
    assert not found.examination.notes


class Integers(OfFunctions):
    def build(self, key, example, outputs, *, last_scale=1.0):
        return lambda features: jnp.zeros(outputs, jnp.int32)


def test_a_network_of_whole_numbers_is_refused():
    settings = {k: v for k, v in TINY.items() if k != "hidden"}
    with pytest.raises(ValueError, match="floating-point numbers, got int32"):
        policygrad.train(Chain, network=Integers(), **settings)


IN_A_FUNCTION = """
from __future__ import annotations

def made():
    Rate = float

    @jax.tree_util.register_dataclass
    @dataclass(frozen=True, kw_only=True)
    class Local(Plain):
        rate: Rate = 0.02

    return Local()
"""


def test_a_record_of_a_function_or_a_prompt_trains():
    names = {"jax": jax, "dataclass": dataclass, "Plain": Plain, "__name__": __name__}
    exec(IN_A_FUNCTION, names)
    run = policygrad.train(Chain, algorithm=names["made"](), **OWN)
    assert run.summary["env_steps"] == TINY["total_steps"]
    negative = replace(names["made"](), entropy_coefficient=-1.0)
    assert_refused("--entropy-coefficient must be at least 0", algorithm=negative)


class NoTree(Baseline):
    def init(self, key, observation):
        return ()

    def predict(self, state, trajectories, returns):
        return jnp.zeros_like(returns)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"estimator": lambda *_: 0.0}, "is no estimator; pass a name, or a value such as"),
        ({"estimator": 0.95}, "estimator=0.95 is no estimator"),
        ({"estimator": replace(GAE, baseline=NoTree())}, "baseline=NoTree(…) is no pytree to JAX"),
        ({"estimator": replace(GAE, critic=NoTree)}, "critic must be a Baseline, got <class"),
        ({"estimator": replace(GAE, form="gae")}, "form must be a Form, got 'gae'"),
        ({"algorithm": Vanilla}, "is not an algorithm: pass a name (vanilla, natural"),
        ({"algorithm": 3}, "algorithm=3 is not an algorithm"),
        ({"algorithm": Vanilla(step_size=lambda p: p)}, "a function or a schedule is not taken"),
        ({"algorithm": PPO(epochs=True)}, "--ppo-epochs must be a whole number"),
        ({"optimiser": [1]}, "optimiser=[1] is no optimiser"),
        ({"policy": "MlpPolicy"}, "policy='MlpPolicy' is no policy: pass policy=policygrad.load"),
        ({"policy": 3}, "policy=3 cannot be called: a policy is a pytree"),
        ({"network": "cnn"}, "--network must be one of fully-connected, nature, small, minatar, "),
        ({"network": 3}, "network=3 is not an architecture"),
        ({"on_update": "x"}, "on_update must be a function of one argument, or a list"),
        ({"collector": 3}, "collector=3 was given; collector must be a function"),
        ({"env_kwargs": "a"}, "env_kwargs='a' was given; env_kwargs must be a dict"),
        ({"config": {"seed": 1}}, "config must be a policygrad.TrainConfig"),
        ({"out": 3}, "out=3 was given; out must be a path"),
        ({"out": ""}, "out='' was given; out must be a path"),
    ],
)  # fmt: skip
def test_further_mistakes_in_what_is_passed_are_named(values, words):
    assert_refused(words, **values)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"baseline": 3}, "baseline must be a Baseline, such as .*, got 3"),
        ({"baseline": "constant"}, "baseline must be a Baseline, such as .*, got 'constant'"),
        ({"critic": baselines.value_network}, "critic must be a Baseline, such as"),
        ({"critic": type(LINEAR)}, "critic must be a Baseline, such as"),
        ({"normalise_advantages": "no"}, "normalise_advantages must be True or False"),
        ({"discount": "0.9"}, "discount must be a number"),
        ({"gae_lambda": 2}, "gae_lambda must be between 0 and 1"),
    ],
)
def test_fault_19_an_estimator_of_wrong_parts_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        estimators.gae(**settings)

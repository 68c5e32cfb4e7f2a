"""From what was asked for to what each setting is."""

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import optax
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

import policygrad
from policygrad import estimators
from policygrad.algorithms import PPO, SGD, Adam, Algorithm, Natural, Vanilla
from policygrad.core.errors import UserError
from policygrad.policies.architectures import FullyConnected
from policygrad.spaces import Box, action_space_of
from policygrad.training import entry
from policygrad.training.assembly import Task, assemble
from policygrad.training.built_in import ALGORITHMS
from policygrad.training.config import TrainConfig
from policygrad.training.given import Given
from policygrad.training.resolve import resolve
from tests.worlds import TINY, Chain

NATURAL = {
    "discount": 0.995, "target_kl": 0.03, "step_size_schedule": "linear", "critic_epochs": 20,
    "clipped_gaussian": True, "cg_iterations": 10,
}  # fmt: skip


def resolved(given=None, **settings):
    """The configuration with what each setting is."""
    return resolve(TrainConfig(**settings), given or Given())[0].config


def test_another_algorithm_in_a_configuration_brings_its_own_defaults():
    config = replace(TrainConfig(), algorithm="natural")
    found = resolve(config, Given())[0].config
    assert {name: getattr(found, name) for name in NATURAL} == NATURAL
    assert (found.step_size, found.log_std_step) == (None, None)
    assert found == resolved(algorithm="natural")
    ppo = resolve(replace(config, algorithm="ppo"), Given())[0].config
    assert (ppo.step_size, ppo.max_global_norm, ppo.target_kl) == (3e-4, 0.5, 0.0)


def test_a_run_trains_with_what_its_file_says(tmp_path):
    config = replace(TrainConfig(**{**TINY, "critic_epochs": None}), algorithm="natural")
    policygrad.train(Chain, out=tmp_path / "a", config=config)
    saved = json.loads((tmp_path / "a" / "config.json").read_text())["config"]
    assert {"clipped_gaussian": True, **{k: saved[k] for k in NATURAL.keys() & saved}} == NATURAL
    unread = {"step_size", "clip_ratio", "adam_epsilon", "n", "clipped_gaussian"}  # of choices
    assert saved.keys().isdisjoint(unread)


@pytest.mark.parametrize(
    ("settings", "decided", "unread"),
    [
        ({}, {"batch_steps": 2048, "time_limit": "bootstraps", "processors": 1},
         {"batch_episodes", "max_episode_steps", "lanes_per_block", "step_timeout"}),
        ({"estimator": "reward-to-go", "batch_episodes": 8},
         {"time_limit": "terminates"},
         {"batch_steps", "max_episode_steps", "lanes_per_block", "step_timeout"}),
        pytest.param(
            {"estimator": "total-return", "batch_episodes": 8, "max_episode_steps": 600},
            {"max_episode_steps": 600}, {"batch_steps", "lanes_per_block", "step_timeout"},
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_a_runs_file_holds_a_value_for_each_setting_that_is_read(
    settings, decided, unread, tmp_path
):
    policygrad.train("CartPole-v1", out=tmp_path / "a", total_steps=64, **settings)
    saved = json.loads((tmp_path / "a" / "config.json").read_text())["config"]
    assert {name: saved[name] for name in decided} == decided
    assert {name for name, value in saved.items() if value is None} == unread
    assert saved.keys().isdisjoint({"log_std", "log_std_step", "tanh_gaussian", "clipped_gaussian"})


@pytest.mark.parametrize(
    ("name", "value"),
    [("log_std", 0.0), ("log_std_step", 3.0), ("tanh_gaussian", True), ("clipped_gaussian", False)],
)
def test_the_noise_of_continuous_actions_is_refused_where_all_are_choices(name, value):
    observations, joints = Box.of(spaces.Box(-1, 1, (2,))), Box.of(spaces.Box(-1, 1, (3,)))
    choices = action_space_of(spaces.Discrete(3))
    both = action_space_of(spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(-1, 1, (1,))}))
    config = TrainConfig(**{name: value})
    flag = f"--{name.replace('_', '-')} is read where actions are continuous"
    with pytest.raises(UserError, match=flag):
        resolve(config, Given(), observations, choices)
    for actions in (joints, both):
        assert getattr(resolve(config, Given(), observations, actions)[0].config, name) == value
    unread = resolve(TrainConfig(), Given(), observations, choices)[0].config
    assert getattr(unread, name) is None
    assert resolve(unread, Given(), observations, choices)[0].config == unread


def test_a_record_of_an_optimiser_is_taken_for_choices_too():
    observations, choices = Box.of(spaces.Box(-1, 1, (2,))), action_space_of(spaces.Discrete(3))
    given = Given(optimiser=Adam(epsilon=1e-4, log_std_step=2.0))
    found = resolve(TrainConfig(), given, observations, choices)[0].config
    assert (found.adam_epsilon, found.log_std_step) == (1e-4, None)


def test_no_name_is_the_usual_one():
    nameless = TrainConfig(algorithm=None, estimator=None)
    assert resolve(nameless, Given())[0].config == resolved()


def test_shared_noise_is_a_number_once_the_actions_are_known():
    observations, four = (Box.of(spaces.Box(-1, 1, (k,))) for k in (2, 4))
    config = TrainConfig(log_std="shared")
    assert resolve(config, Given())[0].config.log_std == "shared"
    assert resolve(config, Given(), observations, four)[0].config.log_std == math.log(2 / 4)
    assert resolve(TrainConfig(), Given(), observations, four)[0].config.log_std == -0.5


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_resolved_stays_as_it_is(algorithm):
    for settings in ({}, {"estimator": "td", "baseline": "linear-features"}, {"batch_episodes": 8}):
        config = resolved(algorithm=algorithm, **settings)
        again = TrainConfig.from_json(json.loads(json.dumps(config.to_json())), "here")
        assert again == config
        assert resolve(again, Given())[0].config == config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"clip_ratio": 0.3},
            ("--clip-ratio is read by --algorithm ppo, but not by --algorithm vanilla; leave it "
             "out, or choose --algorithm ppo"),
        ),
        (
            {"algorithm": "natural", "step_size": 0.1},
            "--step-size is read by --algorithm vanilla or ppo, but not by --algorithm natural",
        ),
        (
            {"estimator": "td", "gae_lambda": 0.9},
            "--gae-lambda is read by --estimator gae, but not by --estimator td",
        ),
        ({"n": 3}, "--n is read by --estimator n-step, but not by --estimator gae"),
        (
            {"estimator": "total-return", "batch_episodes": 4, "resets_at_rewards": True},
            ("--resets-at-rewards is read by --estimator gae or td or n-step or reward-to-go, but "
             "not by --estimator total-return"),
        ),
        (
            {"estimator": "reward-to-go", "baseline": "none", "batch_episodes": 4,
             "critic_epochs": 3},
            ("--critic-epochs is read by --baseline value-network or value-classifier, but not by "
             "--baseline none"),
        ),
        (
            {"optimiser": "sgd", "adam_epsilon": 1e-8},
            "--adam-epsilon is read by --optimiser adam, but not by --optimiser sgd",
        ),
        (
            {"algorithm": "trpo", "optimiser": "sgd"},
            "--optimiser is read by --algorithm vanilla or ppo, but not by --algorithm trpo",
        ),
    ],
)  # fmt: skip
def test_a_setting_that_nothing_reads_is_an_error_that_names_who_would(settings, words):
    with pytest.raises(UserError) as caught:
        resolved(**settings)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("given", "settings", "words"),
    [
        (Given(policy=lambda x: x), {"log_std": -1.0}, "--log-std is read by the default policy"),
        (
            Given(estimator=estimators.td()),
            {"discount": 0.9},
            r"--discount is read by --estimator .*, but not by --estimator Estimator\(…\)",
        ),
        (
            Given(algorithm=Natural(target_kl=0.02)),
            {"target_kl": 0.01},
            r"target_kl=0\.01 was given with algorithm=Natural\(.*; set it in the record",
        ),
        (
            Given(algorithm=Natural()),
            {"step_size": 0.01},
            "--step-size is read by --algorithm vanilla or ppo, but not by --algorithm natural",
        ),
        (
            Given(network=FullyConnected((4,))),
            {"hidden": (8,)},
            r"--hidden \(8,\) is read by the networks that have a name, got it with network=Fully",
        ),
        (
            Given(network=FullyConnected((4,), activation="relu")),
            {"critic_hidden": (8, 9)},
            "--critic-hidden 8 9 sizes the layers of networks that have a name, got it with ",
        ),
        (
            Given(policy=lambda x: x),
            {"critic_hidden": (8,)},
            "--critic-hidden 8: beside a policy that was passed, --hidden sizes the critic",
        ),
        (
            Given(estimator=estimators.gae()),
            {"critic_hidden": (8,)},
            "--critic-hidden is read by --baseline value-network",
        ),
        (
            Given(network=3),
            {},
            "network=3 is not an architecture: pass a record with build and to_json",
        ),
        (
            Given(algorithm=3),
            {},
            r"algorithm=3 is not an algorithm: pass a name \(vanilla, natural",
        ),
        (
            Given(optimiser=optax.scale_by_lion()),
            {"algorithm": "natural"},
            "sizes its own steps and takes no optimiser",
        ),
        (
            Given(optimiser=optax.scale_by_lion()),
            {"adam_epsilon": 1e-8},
            r"--adam-epsilon is read by --optimiser adam, but not by ",
        ),
    ],
    ids=["policy", "estimator", "twice", "record", "network", "critic of a network",
         "critic of a policy", "critic of an estimator", "no network", "no record",
         "no optimiser", "optimiser"],
)  # fmt: skip
def test_a_setting_beside_a_value_that_does_not_read_it_is_an_error(given, settings, words):
    with pytest.raises(UserError, match=words):
        resolved(given, **settings)


def test_a_classifier_beside_a_memory_is_refused():
    with pytest.raises(UserError, match=r"value-classifier has no memory, .* has one \(gru\)"):
        resolved(baseline="value-classifier", memory="gru")


@pytest.mark.parametrize(
    ("record", "settings"),
    [
        (Natural(target_kl=0.02), {"algorithm": "natural", "target_kl": 0.02}),
        (PPO(epochs=3), {"algorithm": "ppo", "ppo_epochs": 3}),
        (
            Vanilla(optimiser=Adam(epsilon=1e-8)),
            {"adam_epsilon": 1e-8, "log_std_step": 1.0},
        ),
        (Vanilla(optimiser=SGD()), {"optimiser": "sgd"}),
    ],
)
def test_a_built_in_record_is_the_same_as_its_settings(record, settings):
    ours, theirs = resolve(TrainConfig(), Given(algorithm=record)), resolved(**settings)
    assert ours[0].config == theirs
    assert ours[0].algorithm == record
    assert ours[1] == Given()


def test_a_built_in_network_is_the_same_as_its_sizes():
    ours = resolve(TrainConfig(), Given(network=FullyConnected((4, 3))))
    assert ours[0].config == resolved(network="fully-connected", hidden=(4, 3))
    assert ours[1] == Given()


def test_a_transformation_in_a_built_in_record_is_the_value_that_is_left():
    lion = optax.scale_by_lion()
    resolution, given = resolve(TrainConfig(), Given(algorithm=Vanilla(optimiser=lion)))
    assert given == Given(optimiser=lion)
    assert resolution.config.algorithm == "vanilla"
    assert resolution.algorithm.optimiser is lion  # pyright: ignore


NO_SOURCE = """
@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Standing(Algorithm):
    power: float = 2.0
    def start(self, differentiated: Any) -> Any:
        return ()
    def improve(self, key, policy, improver, batch):
        raise NotImplementedError
"""


def test_a_record_of_which_no_source_is_at_hand_is_an_algorithm():
    """Such as one that was typed into a session."""
    names = {"jax": jax, "dataclass": dataclass, "Algorithm": Algorithm, "Any": Any}
    exec(NO_SOURCE, names)
    record = names["Standing"]()
    resolution, given = resolve(TrainConfig(), Given(algorithm=record))
    assert (resolution.algorithm, given.algorithm) == (record, record)
    assert resolution.config.algorithm is None


# ----- vector environments that have a number of their own


def assembled(env, **settings):
    config = entry.make_config({"total_steps": 64, "hidden": (8,)} | settings)
    return assemble(Task(env, {}), config, Given()).config


def test_a_batch_is_held_against_the_number_that_a_vector_environment_has():
    """And not against the default number."""
    vector = SyncVectorEnv([Chain] * 3)
    config = assembled(vector, batch_steps=6)
    assert (config.num_envs, config.rows) == (3, 2)
    assert assembled(vector).batch_steps == 2049  # the default gives way
    with pytest.raises(UserError, match=r"--batch-steps 2048 is not a multiple of .* 3;"):
        assembled(vector, batch_steps=2048)
    for env, lanes in ((vector, 3), (Chain, 16)):
        with pytest.raises(UserError, match=f"--batch-steps 8 is not a multiple of .* {lanes};"):
            assembled(env, batch_steps=8)

"""The doctor on real runs: what it reads from a directory, and what it can do without objects."""

import shutil
from dataclasses import dataclass, replace
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import policygrad
from policygrad import baselines, estimators
from policygrad.algorithms import Algorithm, Improved, Natural, take_step
from policygrad.core.errors import RunError, UserError
from policygrad.core.failures import Failure
from policygrad.diagnostics import Examination, Spread, to_json
from policygrad.doctor import diagnosis as doctor
from policygrad.doctor.fitted_estimator import FittedEstimator
from policygrad.gradients.forms import LambdaReturn, ResetAtRewards
from policygrad.gradients.weights import EstimatorState
from policygrad.policies import FullyConnected, network_policy
from policygrad.runs import RunDirectory
from tests.worlds import TINY, Chain, Endless


def names(found):
    return [finding.name for finding in found.findings]


def test_the_examination_is_of_the_run(trained):
    found = doctor.examine(trained.path, episodes=8)
    sample = found.sample
    assert sample is not None
    assert (found.env, found.time_limit) == ("CartPole-v1", 500)
    assert found.updates == len(trained.metrics)
    assert found.env_steps == trained.summary["env_steps"]
    assert sample.rewards == Spread(1.0, 0.0, 1.0, 1.0)
    assert sample.returns.mean == sample.lengths.mean == sample.steps / 8
    assert sample.observation_components == 4
    assert (sample.constant_components, sample.unfinished, sample.truncated) == (0, 0, 0.0)
    assert 0.6 < sample.entropy <= sample.greatest_entropy == np.log(2)
    # of rewards of 1, a discounted sum to go of n steps is (1 - 0.99^n)/0.01
    assert 1 < sample.discounted_size < 1 / 0.01
    assert found.noise is not None
    assert found.comparison is not None
    assert {"in use", "with baseline", "--gae-lambda 0.95"} <= set(found.comparison.estimators)
    again = doctor.examine(trained.path, episodes=8, gradients=False)
    assert to_json(again.sample) == to_json(sample)


def test_another_environment_has_to_have_the_same_spaces(trained):
    with pytest.raises(UserError, match="observation space"):
        doctor.examine(trained.path, "Pendulum-v1", episodes=8)


def test_a_run_without_metrics_is_not_called_healthy_in_silence(trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "a")
    (tmp_path / "a" / "metrics.jsonl").write_text("")
    with pytest.warns(UserWarning, match="holds no metrics of updates from 1 on"):
        found = doctor.examine(tmp_path / "a", episodes=8, gradients=False)
    assert any("no metrics" in note for note in found.notes)


def test_the_critic_is_that_of_the_checkpoint(tmp_path):
    """A constant fitted to rewards of 1 in episodes of 3: the mean of 3, 2 and 1, scaled."""
    run = policygrad.train(
        Chain, out=tmp_path / "a", estimator=estimators.reward_to_go(baseline=baselines.constant()),
        num_envs=2, batch_episodes=8, total_steps=48, hidden=(8,), scale_rewards=False,
    )  # fmt: skip
    found = policygrad.diagnose(
        run.path,
        Chain,
        estimator=estimators.reward_to_go(baseline=baselines.constant()),
        episodes=8,
    )
    assert found.examination.passed_as_objects == ("estimator", "env")
    assert found.examination.sample is not None
    assert found.examination.sample.critic_explains == pytest.approx(0.0, abs=1e-6)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Plain(Algorithm):
    """A gradient step of fixed size."""

    step_size: float = 0.1

    def start(self, differentiated):
        return ()

    def improve(self, key, policy, improver, batch):
        gradient, before = self.ascent(policy, batch)
        step = jax.tree.map(lambda g: self.step_size * g, gradient)
        norm = optax.tree.norm(gradient)
        return Improved(take_step(policy, step), (), before, norm, jnp.asarray(0.1), {})


@dataclass(frozen=True)
class Narrow:
    """One layer of three units."""

    def build(self, key, example, outputs, *, last_scale=1.0):
        return FullyConnected((3,)).build(key, example, outputs, last_scale=last_scale)

    def to_json(self):
        return {}


def test_an_algorithm_and_a_network_of_ones_own_are_diagnosed(tmp_path):
    settings = {"num_envs": 2, "batch_steps": 32, "total_steps": 64}
    own = {"algorithm": Plain(step_size=0.5), "network": Narrow()}
    run = policygrad.train("CartPole-v1", out=tmp_path / "a", **own, **settings)
    found = policygrad.diagnose(run.path, episodes=8, gradients=False, **own).examination
    assert found.algorithm == Plain(step_size=0.5)
    assert found.passed_as_objects == ("algorithm", "network")
    assert found.sample is not None
    assert found.sample.critic_explains < 1  # by the run's own network
    without = policygrad.diagnose(run.path, network=Narrow(), episodes=8, gradients=False)
    assert without.examination.algorithm is None
    assert "algorithm=…" in without.examination.notes[0]
    nothing = policygrad.diagnose(run.path, algorithm=own["algorithm"], episodes=8)
    assert nothing.examination.sample is None
    assert "network=…" in nothing.examination.notes[0]


@pytest.mark.slow
def test_a_policy_and_a_network_beside_it_are_diagnosed(tmp_path):
    """The policy is of its own architecture then, and the network is the critic's."""
    env = gymnasium.make("CartPole-v1")
    policy = network_policy(jax.random.key(0), env.observation_space, env.action_space, hidden=(4,))
    own = {"policy": policy, "network": Narrow()}
    settings = {"num_envs": 2, "batch_steps": 32, "total_steps": 64}
    run = policygrad.train("CartPole-v1", out=tmp_path / "a", **own, **settings)
    found = policygrad.diagnose(run.path, episodes=8, gradients=False, **own).examination
    assert found.sample.critic_explains < 1


@pytest.mark.slow
def test_a_built_in_value_is_diagnosed_as_the_settings_that_it_becomes():
    config = policygrad.TrainConfig(num_envs=2, batch_steps=32, total_steps=32)
    found = policygrad.diagnose(
        env=Chain, config=config, algorithm=Natural(target_kl=0.02), episodes=8, gradients=False
    )
    assert found.examination.algorithm == Natural(target_kl=0.02)
    assert found.examination.passed_as_objects == ("env",)


@pytest.mark.parametrize(
    "make", [estimators.gae, estimators.td, estimators.n_step, estimators.reward_to_go]
)
def test_a_run_that_resets_at_rewards_is_compared_with_what_resets_too(make):
    critic = baselines.linear_features()
    plain, resets = (
        FittedEstimator(
            make(critic=critic, normalise_advantages=True, resets_at_rewards=x),
            EstimatorState((), ()),
            1.0,
        )
        for x in (False, True)
    )
    known, found = plain.candidates(wide=True), resets.candidates(wide=True)
    assert known.keys() - found.keys() == {"--estimator total-return"}
    for name, (estimator, _) in found.items():
        assert isinstance(estimator.form, ResetAtRewards), name
        assert replace(estimator, form=estimator.form.form) == known[name][0]
    assert resets.rewards_to_go(critic).form == ResetAtRewards(LambdaReturn(1.0))


@pytest.mark.parametrize(
    ("baseline", "subtracted"),
    [(None, "critic"), (baselines.constant(), "baseline"), (baselines.none(), None)],
    ids=repr,
)
def test_other_returns_are_compared_less_the_baseline_of_the_run(baseline, subtracted):
    critic, state = baselines.linear_features(), EstimatorState("baseline", "critic")
    fitted = FittedEstimator(estimators.gae(critic=critic, baseline=baseline), state, 1.0)
    assert fitted.subtracted[1] == (subtracted or ())
    found = fitted.candidates(wide=True)
    assert ("with baseline" in found) == (subtracted is not None)
    for name in ("--gae-lambda 0.5", "--estimator n-step --n 5", "in use, --discounted-states"):
        estimator, own = found[name]
        assert (estimator.baseline, estimator.critic, own) == (baseline, critic, state)


@pytest.mark.slow
def test_a_run_that_resets_at_rewards_is_diagnosed(tmp_path):
    settings = TINY | {"resets_at_rewards": True, "discount": 0.5}
    run = policygrad.train(Chain, out=tmp_path / "a", **settings)
    found = policygrad.diagnose(run.path, Chain, episodes=16)
    assert found.examination.comparison.reference == "with baseline"
    # every reward of this task ends a return: λ and n change nothing
    compared = found.examination.comparison.estimators
    for name in ("--gae-lambda 0.5", "--gae-lambda 1"):
        assert compared[name].squared_bias.value == pytest.approx(0.0, abs=1e-9)
    assert "discount-too-low" not in names(found)  # which the length of episodes would say


@pytest.mark.slow
def test_what_was_an_object_must_be_passed_again(tmp_path):
    run = policygrad.train(Chain, out=tmp_path / "a", **TINY)
    without = policygrad.diagnose(run.path)
    assert without.examination.sample is None
    assert "env=…" in without.examination.notes[0]
    found = policygrad.diagnose(run.path, Chain, episodes=8, gradients=False)
    assert found.examination.sample is not None
    assert found.examination.sample.lengths.most == 3


@pytest.mark.slow
def test_an_episode_without_end_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "LONGEST", 20)
    run = policygrad.train(Endless, out=tmp_path / "a", **TINY)
    found = policygrad.diagnose(run.path, Endless, episodes=8, gradients=False)
    sample = found.examination.sample
    assert sample is not None
    assert (sample.unfinished, sample.lengths.mean, sample.truncated) == (8, 20, 1.0)
    assert names(found)[0] == "observations-constant"


def test_an_episode_as_long_as_those_of_training_is_not_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "LONGEST", 2)
    run = policygrad.train(Chain, out=tmp_path / "a", **TINY)
    found = policygrad.diagnose(run.path, Chain, episodes=8, gradients=False)
    sample = found.examination.sample
    assert sample is not None
    assert (sample.unfinished, sample.lengths.most) == (0, 3)
    assert "no-episode-ends" not in names(found)


@pytest.mark.parametrize(
    ("lengths", "cap"),
    [([], 2_000), ([np.nan], 2_000), ([100.0], 2_000), ([1_500.0, 900.0], 4_500), ([9e9], 10_000)],
)
def test_where_a_fresh_episode_is_stopped(lengths, cap):
    found = Examination(None, {}, (), {"length_mean": np.array(lengths)})
    assert doctor._cap(found) == cap


class Wrong(gymnasium.Wrapper):
    """CartPole with a reward and an observation of somebody's own."""

    def __init__(self, reward=lambda r: r, observation=lambda o: o):
        super().__init__(gymnasium.make("CartPole-v1"))
        self.reward, self.seen = reward, observation

    def reset(self, **kwargs):
        observation, info = self.env.reset(**kwargs)
        return self.seen(observation), info

    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        return self.seen(observation), self.reward(reward), *rest


@pytest.mark.parametrize(
    ("first", "settings", "env"),
    [
        ("rewards-zero", {}, partial(Wrong, reward=lambda r: 0.0)),
        ("rewards-unscaled", {}, partial(Wrong, reward=lambda r: 1e6 * r)),
        ("rewards-not-finite", {}, partial(Wrong, reward=lambda r: np.nan)),
        ("observations-constant", {}, partial(Wrong, observation=np.zeros_like)),
        ("discount-too-low", {"discount": 0.5}, Wrong),
        ("step-size-too-large", {"step_size": 10.0}, Wrong),
        ("critic-not-trained", {"critic_step_size": 1e-12}, Wrong),
    ],
)
def test_what_is_broken_is_named_first(first, settings, env):
    config = policygrad.TrainConfig(**{**TINY, "total_steps": 256, "step_size": 0.03, **settings})
    found = policygrad.diagnose(env=env, config=config, episodes=32, gradients=False)
    assert names(found)[0] == first


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["vanilla", "ppo", "natural"])
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_a_healthy_run_gets_a_clean_bill(env, algorithm):
    config = policygrad.TrainConfig(algorithm=algorithm, total_steps=20_480)
    assert names(policygrad.diagnose(env=env, config=config)) == []


def test_an_object_in_place_of_what_the_settings_describe_is_refused(trained):
    with pytest.raises(UserError, match=r"trained with the estimator of its settings.*leave it"):
        policygrad.diagnose(trained.path, estimator=estimators.td())


def test_an_estimator_of_another_structure_is_refused(tmp_path):
    run = policygrad.train(
        Chain, out=tmp_path / "a", estimator=estimators.reward_to_go(), num_envs=2,
        batch_episodes=4, total_steps=12, hidden=(8,),
    )  # fmt: skip
    other = estimators.reward_to_go(baseline=baselines.constant())
    with pytest.raises(RunError, match="lacks state/estimator"):
        policygrad.diagnose(run.path, Chain, estimator=other, episodes=8)


def test_mistakes():
    with pytest.raises(UserError, match="nothing to diagnose"):
        policygrad.diagnose()
    with pytest.raises(UserError, match="at least 8, got 2"):
        policygrad.diagnose(env="CartPole-v1", episodes=2)
    with pytest.raises(UserError, match="at least 0, got -1"):
        policygrad.diagnose(env="CartPole-v1", seed=-1)
    with pytest.raises(UserError, match="diagnose takes no 'teacher'; it takes env, engine"):
        policygrad.diagnose(env="CartPole-v1", teacher=1)
    with pytest.raises(UserError, match="not both"):
        policygrad.diagnose("a", config=policygrad.TrainConfig())


def test_a_failure_is_forgotten_where_the_run_goes_on(trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "a")
    directory = RunDirectory(tmp_path / "a")
    directory.write_failure("nan in the reward", 64, "reward")
    found = doctor.examine(directory.path, episodes=8, gradients=False)
    assert found.failure == Failure("nan in the reward", 64, "reward")
    policygrad.resume(directory.path, total_steps=150)
    assert directory.read_failure() is None

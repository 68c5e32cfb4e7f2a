"""Random actions and the mode beside a run: what they return, and why it is not known."""

from typing import Any

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad
from policygrad.core.errors import UserError
from policygrad.doctor import diagnosis as doctor
from policygrad.doctor.playing import SAME, play_at_random, play_by_mode
from policygrad.maths.distributions import Categorical
from policygrad.rollout.engines import open_source
from tests.worlds import TINY, Chain, GymnaxChain


@pytest.mark.parametrize("env", [Chain, GymnaxChain()])
def test_random_actions_return_what_is_expected_of_them(env):
    """x' = x/2 ± 1 is zero on average; the rewards t/4 of three steps add up to 3/4."""
    source = open_source(env, 8)
    found = play_at_random(source, 0, 64, 100)
    again = play_at_random(source, 0, 64, 100)
    source.close()
    assert not isinstance(found, str)
    assert (found.episodes, found.unfinished, found.lengths.mean) == (64, 0, 3.0)
    # the sum is 1.75 s₀ + 1.5 s₁ + s₂ of three signs, of variance 6.3
    assert found.returns.mean == pytest.approx(0.75, abs=4 * np.sqrt(6.3 / 64))
    assert found == again


def test_episodes_are_stopped_at_the_limit_and_are_64_at_most():
    source = open_source(Chain, 8)
    found = play_at_random(source, 0, 1000, 2)
    source.close()
    assert not isinstance(found, str)
    assert (found.episodes, found.unfinished, found.lengths.most) == (64, 64, 2)


class Fragile(Chain):
    """Breaks under an action that a trained policy does not take."""

    def step(self, action):
        if action == 1:
            raise RuntimeError("the arm is broken")
        return super().step(action)


def test_why_random_actions_are_not_known_is_said():
    source = open_source(Fragile, 2)
    said = play_at_random(source, 0, 8, 10)
    assert isinstance(said, str)
    assert said.startswith("random actions, which the return is compared with: environment ")
    assert "the arm is broken" in said
    assert "\n" not in said


class Biased(eqx.Module):
    """Goes up with a probability of 1/(1 + e^−x)."""

    log_odds: jax.Array

    def __call__(self, observation):
        return Categorical(jnp.stack([jnp.zeros(()), self.log_odds]))


@pytest.mark.parametrize("env", [Chain, GymnaxChain()])
def test_the_mode_is_what_is_played(env):
    """Always up: x = 1, 3/2, 7/4 and rewards of x + t/4, which add up to 5."""
    source = open_source(env, 8)
    found = play_by_mode(source, Biased(jnp.float32(0.4)), 0, 1000, 100)
    source.close()
    assert not isinstance(found, str)
    assert (found.episodes, found.unfinished, found.lengths.mean) == (64, 0, 3.0)
    assert (found.returns.least, found.returns.mean, found.returns.most) == (5.0, 5.0, 5.0)


def test_a_source_that_cannot_play_the_mode_says_so():
    class Sampling:
        def play(self, policy: Any, key: Any, *, greedy: bool, **_: Any) -> Any:
            raise UserError("this engine only samples\nTraceback")

    source: Any = Sampling()
    said = play_by_mode(source, Biased(jnp.float32(0.4)), 0, 8, 100)
    assert said == (
        "the policy's mode, which the return is compared with: this engine only samples"
    )


class Costly(gymnasium.Env):
    """Eight actions that cost their squares; standing still pays 1 a step, for four steps."""

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (8,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.time = 0
        return self.observe(), {}

    def observe(self) -> np.ndarray:
        return np.array([self.time / 4], np.float32)

    def step(self, action: Any) -> Any:
        self.time += 1
        return self.observe(), 1.0 - float(np.sum(action**2)), self.time == 4, False, {}


@pytest.fixture(scope="module")
def costly(tmp_path_factory):
    """A run of 20 updates that narrows the noise too slowly to end it soon."""
    path = tmp_path_factory.mktemp("runs") / "costly"
    policygrad.train(
        Costly, out=path, estimator="reward-to-go", baseline="constant", batch_episodes=64,
        total_steps=20 * 64 * 4, hidden=(8,), target_kl=5e-4,
    )  # fmt: skip
    return path


@pytest.mark.slow
def test_noise_that_costs_most_is_found(costly):
    found = policygrad.diagnose(costly, Costly, episodes=32, gradients=False)
    at = found.standing
    assert at is not None
    assert at.by_mode is not None
    assert at.above_samples is not None
    assert found.examination.sample is not None
    assert found.examination.sample.off_mode == 1.0
    assert found.examination.sample.action_components == 8
    assert 3 < at.by_mode.value <= 4  # it nearly stands still
    assert at.above_samples.value == pytest.approx(at.by_mode.value - at.now.value)
    assert "noise-costs-most" in [finding.name for finding in found.findings]
    assert found.healthy is False
    told = " ".join(str(found).split())
    assert "32 episodes of random actions, 32 by the mode" in told
    assert f"by the mode: {at.by_mode.value:.4g} [" in told
    assert "--log-std shared" in told
    data = found.to_json()
    assert data["standing"]["by_mode"]["value"] == at.by_mode.value
    assert data["examination"]["by_mode"]["episodes"] == 32


@pytest.mark.slow
def test_a_policy_that_plays_its_mode_alone_is_not_compared_with_it(tmp_path):
    sure = Biased(jnp.float32(200))  # its other choice has a probability of 1e-87
    policygrad.train(Chain, out=tmp_path / "sure", policy=sure, **TINY)
    found = policygrad.diagnose(tmp_path / "sure", Chain, policy=sure, episodes=8, gradients=False)
    assert found.examination.sample is not None
    assert found.examination.sample.off_mode == 0.0
    assert found.examination.by_mode is None
    assert SAME in found.examination.notes
    assert {"noise-costs-most", "mode-loses-most"} <= {x.name for x in found.not_looked_at}
    assert "   by the mode" not in str(found)


def test_a_run_is_told_beside_random_actions(trained):
    found = policygrad.diagnose(trained.path, episodes=8, gradients=False)
    at = found.standing
    assert at is not None
    assert found.examination.at_random is not None
    assert found.examination.at_random.episodes == 8
    assert at.at_random is not None
    assert 10 < at.at_random.value < 40  # CartPole's is 22
    assert found.healthy is not True  # two updates
    assert any("too short to judge: it has 2 updates" in doubt for doubt in found.doubts)
    told = str(found)
    assert "8 episodes of random actions" in " ".join(told.split())
    assert "   of random actions: " in told
    assert "Healthy" not in told
    data = found.to_json()
    assert data["standing"]["at_random"]["value"] == at.at_random.value
    assert data["doubts"] == list(found.doubts)
    assert "step-size-too-small" in {each["name"] for each in data["not_looked_at"]}


def test_what_could_not_be_played_is_a_doubt(trained, monkeypatch):
    monkeypatch.setattr(doctor, "play_at_random", lambda *_: "random actions: no")
    found = policygrad.diagnose(trained.path, episodes=8, gradients=False)
    assert "random actions: no" in found.examination.notes
    assert any("not known what random actions return" in doubt for doubt in found.doubts)

"""Random actions beside a run: what they return, and why it is not known."""

import numpy as np
import pytest

import policygrad
from policygrad.doctor import diagnosis as doctor
from policygrad.doctor.random_play import play_at_random
from policygrad.rollout.engines import open_source
from tests.worlds import Chain, GymnaxChain


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

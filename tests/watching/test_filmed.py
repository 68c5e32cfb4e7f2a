"""Lanes on film: what is shown of every step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from policygrad import environments
from policygrad.core.errors import EnvironmentFailure
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.maths.distributions import Categorical
from policygrad.rollout import HostSource
from policygrad.watching import FilmedLanes, Told, filmed
from policygrad.watching.compiled_lane import CompiledLane
from tests.worlds import DUCK, Chain, Remembering, StockGymnaxChain, chain_vector


class Film:
    """In place of a file."""

    fps = 10.0

    def __init__(self):
        self.added, self.closed, self.discarded = [], 0, 0

    def add(self, picture, times=1):
        self.added.append(times)

    def close(self):
        self.closed += 1

    def discard(self):
        self.discarded += 1


@pytest.fixture
def seen(monkeypatch):
    """What the strip was given, step by step."""
    found = []

    class Strip:
        def __init__(self, episodes):
            self.episodes = episodes

        def beside(self, picture, shown):
            found.append(shown)
            return picture

    monkeypatch.setattr(filmed, "Strip", Strip)
    return found


def policy(observation):
    return Categorical(jnp.array([0.0, 1.0]))


def played(lanes, policy, film_of, **how):
    told = []
    lanes = FilmedLanes(
        lanes, lambda: np.zeros((4, 4, 3), np.uint8), policy, film_of, 3, told.append
    )
    how = {"episodes": 3, "max_steps": 100, "greedy": True, **how}
    result = HostSource(lanes).play(policy, jax.random.key(0), **how)
    lanes.close()
    return result, told


LANES = {
    "disabled": lambda: environments.make(Chain, 1),
    "next step": lambda: GymnasiumLanes(chain_vector(AutoresetMode.NEXT_STEP, 1)),
    "same step": lambda: GymnasiumLanes(chain_vector(AutoresetMode.SAME_STEP, 1)),
    "compiled": lambda: CompiledLane(environments.make(DUCK, 1)),
}


@pytest.mark.parametrize("make", LANES.values(), ids=LANES)
def test_every_step_is_shown_whatever_steps_it(seen, make):
    film = Film()
    result, told = played(make(), policy, lambda _: film)
    assert result.returns.tolist() == [5.0] * 3
    rows = [(s.episode, s.step, s.reward, s.paid, s.action) for s in seen]
    one = [(0, 1.0, 1.0, 1), (1, 1.75, 2.75, 1), (2, 2.25, 5.0, 1)]  # x + t/4, by hand
    assert rows == [(episode, *row) for episode in range(3) for row in one]
    assert film.added == [1, 1, 8] * 3  # the last picture stays for 0.7 seconds
    assert (film.closed, film.discarded) == (1, 0)
    assert told[4] == Told(1, 2, 2.75)
    entropy = -sum(p * np.log(p) for p in (1 / (1 + np.e), np.e / (1 + np.e)))
    assert all(float(s.sureness.entropy) == pytest.approx(entropy) for s in seen)


def test_episodes_without_a_film(seen):
    films = {0: Film(), 2: Film()}
    result, _ = played(LANES["disabled"](), policy, films.get)
    assert result.lengths.tolist() == [3, 3, 3]
    assert [s.episode for s in seen] == [0, 0, 0, 2, 2, 2]
    assert [f.closed for f in films.values()] == [1, 1]


def test_an_episode_that_is_stopped_at_the_cap(seen):
    film = Film()
    result, _ = played(LANES["disabled"](), policy, lambda _: film, max_steps=2)
    assert result.unfinished.all()
    assert [(s.episode, s.step) for s in seen] == [(e, t) for e in range(3) for t in range(2)]
    assert [s.paid for s in seen] == [1.0, 2.75] * 3


@pytest.mark.parametrize("greedy", [True, False])
def test_a_policy_with_memory_is_shown_as_it_acts(seen, greedy):
    weight = jnp.array([[0.5, -0.1], [-0.4, 0.3]])
    own = Remembering(weight)
    result, _ = played(LANES["disabled"](), own, lambda _: Film(), greedy=greedy)
    carry, x = np.zeros(2), 0.0
    for shown in seen:  # the memory by hand
        if shown.step == 0:
            carry, x = np.zeros(2), 0.0
        carry = carry / 2 + np.array([x, shown.step])
        logits = np.asarray(weight) @ carry
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(shown.sureness.probabilities, expected, rtol=1e-5)
        x = x / 2 + 2 * shown.action - 1
    if greedy:
        assert all(s.action == np.argmax(s.sureness.probabilities) for s in seen)
    assert len(result.returns) == 3


def test_what_raises_when_it_is_drawn_is_named():
    lanes = FilmedLanes(LANES["disabled"](), lambda: 1 / 0, policy, lambda _: Film(), 1)
    with pytest.raises(EnvironmentFailure, match=r"raised ZeroDivisionError when it was drawn, at"):
        HostSource(lanes).play(policy, jax.random.key(0), episodes=1, max_steps=9, greedy=True)
    lanes.close()


@pytest.mark.parametrize("terminates", [True, False])
def test_a_compiled_lane_ends_as_its_environment_does(terminates):
    lane = CompiledLane(environments.make(StockGymnaxChain(terminates=terminates), 1))
    lane.start(3)
    steps = [lane.step(np.ones(1, np.int64)) for _ in range(3)]
    assert [bool(s.terminated[0]) for s in steps] == [False, False, terminates]
    assert [bool(s.truncated[0]) for s in steps] == [False, False, not terminates]
    assert [float(s.rewards[0]) for s in steps] == [1.0, 1.75, 2.25]
    assert steps[-1].successors.tolist() == [[1.75, 3.0]]  # not the first of the next episode
    assert lane.times.tolist() == [0]
    assert lane.observations.tolist() == [[0.0, 0.0]]

"""Units of fresh episodes: their sums are those of all episodes, and nothing is left out."""

import tracemalloc
from functools import partial

import gymnasium
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import policygrad
from policygrad.core.errors import NonFiniteError, UserError
from policygrad.core.trajectories import Trajectories
from policygrad.diagnostics import to_json
from policygrad.diagnostics.intervals import GROUPS, GroupSums
from policygrad.diagnostics.sample_sums import measure
from policygrad.doctor import diagnosis as doctor
from policygrad.doctor import units as units_module
from policygrad.doctor.collecting import collect
from policygrad.doctor.units import EPISODES, units_of
from policygrad.rollout.engines import open_source


@given(st.integers(8, 100_000))
def test_units_are_equal_and_hold_every_episode(episodes):
    units = units_of(episodes)
    sizes = [unit.episodes for unit in units]
    assert sum(sizes) == episodes
    assert max(sizes) <= EPISODES
    assert max(sizes) - min(sizes) <= 1
    assert all(unit.first_group + unit.groups <= GROUPS for unit in units)
    used = {unit.first_group + i for unit in units for i in range(unit.groups)}
    assert len(used) > GROUPS / 2
    assert (len(used) == GROUPS) or (len(units) < GROUPS)


def test_one_unit_has_all_groups():
    assert units_of(EPISODES) == [(0, EPISODES, GROUPS, 0)]
    assert [unit.groups for unit in units_of(EPISODES + 1)] == [GROUPS // 2] * 2


def test_sums_of_units_are_placed_beside_each_other():
    one = GroupSums(np.array([2.0, 1.0]), {"a": np.ones((2, 3))}, {"c": np.ones((4, 3))})
    both = one.placed(0, 4) + one.placed(2, 4)
    np.testing.assert_array_equal(both.counts, [2, 1, 2, 1])
    np.testing.assert_array_equal(both.sums["a"], np.ones((4, 3)))
    np.testing.assert_array_equal(both.classes["c"], 2 * np.ones((4, 3)))
    assert both.episodes == 6


def columns(record: Trajectories, which: slice) -> Trajectories:
    return jax.tree.map(lambda x: x[:, which], record)


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_samples_of_parts_add_up_to_that_of_the_whole(env):
    made = gymnasium.make(env)
    spaces = made.observation_space, made.action_space
    policy = policygrad.network_policy(jax.random.key(0), *spaces, hidden=(4,))
    source = open_source(env, 4)
    record, unfinished = collect(source, policy, jax.random.key(1), 12, 30)
    judged = np.asarray(record.rewards), np.asarray(record.rewards) * 0.5 - 1

    def of(which):
        return measure(
            policy, *spaces, columns(record, which), unfinished[which], discount=0.9,
            judged=(judged[0][:, which], judged[1][:, which]),
        )  # fmt: skip

    parts = of(slice(0, 5)) + of(slice(5, 6)) + of(slice(6, 12))
    whole = of(slice(0, 12)).sample()
    assert whole.unfinished == unfinished.sum()
    rounded = ("discounted_size", "entropy")  # of numbers that are computed in 32 bits
    for name, expected in to_json(whole).items():
        found, error = to_json(parts.sample())[name], 1e-6 if name in rounded else 1e-12
        for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert x == pytest.approx(y, rel=error, abs=error), name


@pytest.fixture
def small_units(monkeypatch):
    monkeypatch.setattr(units_module, "EPISODES", 9)


@pytest.mark.slow
def test_nothing_of_many_units_is_left_out(trained, small_units):
    said = []
    env = partial(gymnasium.make, "CartPole-v1", max_episode_steps=12)
    found = doctor.examine(trained.path, env, episodes=25, pictures=True, say=said.append)
    assert found.sample is not None
    assert found.noise is not None
    assert found.comparison is not None
    assert found.decomposition is not None
    assert found.sample.episodes == found.noise.episodes == 25
    assert found.comparison.episodes == found.decomposition.episodes == 25
    assert found.sample.steps == 25 * found.sample.lengths.mean
    # CartPole's reward is 1 a step, which no unit's share changes
    assert found.sample.returns == found.sample.lengths
    assert found.decomposition.total.variance.value == pytest.approx(
        found.noise.total.variance.value, rel=1e-5
    )
    assert len(found.decomposition.alive) >= found.sample.lengths.most
    assert found.decomposition.alive.sum() == pytest.approx(found.sample.lengths.mean)
    assert said == [
        "running 25 episodes",
        *(f"{n} of 25 episodes are examined" for n in (9, 17, 25)),
    ]
    assert found.notes == ("the picture of predicted returns: it shows the first 9 of 25 episodes",)


@pytest.mark.slow
def test_units_are_other_episodes_each(trained, small_units):
    one = doctor.examine(trained.path, episodes=9, gradients=False).sample
    three = doctor.examine(trained.path, episodes=27, gradients=False).sample
    assert one is not None
    assert three is not None
    assert three.returns.mean != one.returns.mean
    again = doctor.examine(trained.path, episodes=27, gradients=False).sample
    assert to_json(again) == to_json(three)


class Rarely(gymnasium.Wrapper):
    """CartPole with a NaN as the reward of one late step of all that this process makes."""

    made = 0

    def __init__(self):
        super().__init__(gymnasium.make("CartPole-v1"))

    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        Rarely.made += 1
        return observation, np.nan if Rarely.made == 400 else reward, *rest


@pytest.mark.slow
def test_one_reward_that_is_nan_makes_the_whole_unsound(trained, small_units, monkeypatch):
    monkeypatch.setattr(Rarely, "made", 0)
    found = doctor.examine(trained.path, Rarely, episodes=27)
    assert found.sample is not None
    assert found.sample.rewards_not_finite == 1
    assert found.sample.episodes == 27
    assert found.noise is None


def test_a_gradient_that_is_not_finite_is_told_of_the_unit_that_has_it(
    trained, small_units, monkeypatch
):
    real, calls = units_module.sums_of_batch, []

    def second_fails(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:  # of two for each unit
            raise NonFiniteError("the sum of gradient is NaN")
        return real(*args, **kwargs)

    monkeypatch.setattr(units_module, "sums_of_batch", second_fails)
    found = doctor.examine(trained.path, episodes=18)
    assert found.noise is None
    assert found.notes == ("gradients: the sum of gradient is NaN",)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"workers": 4}, r"policygrad.remote\(workers=N\), or None for this process, got 4"),
        ({"workers": "2"}, "got '2'"),
        (
            {"workers": policygrad.remote(workers=2), "processes": True, "episodes": 2000},
            "--processes and --workers 2 exclude each other",
        ),
        (
            {"workers": policygrad.remote(workers=2)},
            "--workers 2 are more than the 1 unit that --episodes 64 are collected in, each of "
            "up to 512; leave --workers out",
        ),
        (
            {"workers": policygrad.remote(workers=4), "episodes": 1025},
            "more than the 3 units .* ask for at most 3 workers, or ask for more episodes",
        ),
    ],
)
def test_workers_that_cannot_be_used_are_refused(trained, given, told):
    with pytest.raises(UserError, match=told):
        policygrad.diagnose(trained.path, **given)


def test_processes_of_the_settings_exclude_workers_too():
    config = policygrad.TrainConfig(processes=True)
    with pytest.raises(UserError, match="--processes and --workers 1 exclude each other"):
        policygrad.diagnose(env="CartPole-v1", config=config, workers=policygrad.remote(workers=1))


def test_what_is_open_already_is_not_sent_to_workers(trained):
    workers = policygrad.remote(workers=1)
    with pytest.raises(UserError, match="SyncVectorEnv is open already"):
        policygrad.diagnose(
            trained.path, gymnasium.make_vec("CartPole-v1", 2, "sync"), workers=workers
        )
    with pytest.raises(UserError, match="NamedEngine opens environments in this process alone"):
        policygrad.diagnose(
            trained.path, "CartPole-v1", workers=workers,
            engine=policygrad.rollout.engines.ENGINES["gymnax"],
        )  # fmt: skip


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_episodes(trained_compiled):
    """What this process allocates at its peak, for 1,000 and for 4,000 episodes.

    By Python and NumPy, which is where records and sums are.
    """

    def peak(episodes):
        tracemalloc.start()
        doctor.examine(trained_compiled.path, episodes=episodes)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(4000)  # compiles, which takes memory too
    few, many = peak(1000), peak(4000)
    assert many < 1.5 * few  # the longest of more episodes pads its unit to a greater height

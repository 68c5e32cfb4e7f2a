"""Batches and updates that training refuses."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad
from policygrad.algorithms.learner import UpdateInfo
from policygrad.core.counting import LongCount
from policygrad.core.errors import EnvironmentFailure, NonFiniteError
from policygrad.environments.gymnax import GymnaxEnvironment
from policygrad.maths.distributions import Categorical
from policygrad.policies import ObservationNormaliser
from policygrad.rollout import make_collector
from policygrad.runs import RunDirectory
from policygrad.spaces import action_space_of
from policygrad.training.report import Refit, UpdateReport
from policygrad.training.soundness import check_finite, first_unsound, is_sound, refuse_update
from tests.records import random_episodes, random_segments
from tests.slow import slow
from tests.worlds import TINY, Chain, DuckChain


def declaring(time_limit):
    """Episodes of 3 steps, all truncated, under a time limit that somebody declared."""
    environment = GymnaxEnvironment(DuckChain(3, terminates=False))
    environment.time_limit = time_limit
    return environment


@pytest.mark.slow
def test_training_refuses_an_environment_that_truncates_before_its_time_limit():
    """A lane has no room for the successors then, and would bootstrap from another step's."""
    with pytest.raises(
        EnvironmentFailure, match=r"truncated 2 episodes in 8 steps.* after 3: more"
    ):
        policygrad.train(declaring(20), **TINY)


@pytest.mark.parametrize("time_limit", [3, None])
def test_true_time_limits_leave_room_for_all_successors(time_limit):
    environment, policy = declaring(time_limit), lambda x: policygrad.distributions.Categorical(x)
    collector = make_collector(environment, policy, jax.random.key(0), num_envs=2, steps=8)
    record = collector.collect(policy, jax.random.key(1))
    assert is_sound(record)
    check_finite(record, 0, 0)
    np.testing.assert_array_equal(record.cut_times[:3], [[3, 3], [3, 3], [2, 2]])


# ----- rewards that are finite, and too large for 32 bits


class Huge(Chain):
    """One reward of this size, for the second step of every episode of one copy."""

    def __init__(self, reward, *, lane=2):
        super().__init__()
        self.huge, self.bad, Huge.made = reward, Huge.made == lane, Huge.made + 1

    made = 0

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, self.huge if self.bad and self.time == 2 else reward, *rest


class DuckHuge(DuckChain):
    """The same, for every lane."""

    def __init__(self, reward):
        super().__init__()
        self.huge = reward

    def step(self, key, state, action, params):
        observation, following, reward, *rest = super().step(key, state, action, params)
        return observation, following, jnp.where(state.time == 1, self.huge, reward), *rest


KINDS = {"segments": TINY, "episodes": TINY | {"batch_steps": None, "batch_episodes": 4}}
every_kind = pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)


@every_kind
@pytest.mark.parametrize("reward", [1e19, -1e20])
def test_a_finite_reward_that_overflows_is_refused_with_its_value_and_its_place(
    reward, settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(Huge, "made", 0)
    path = tmp_path / "a"
    with pytest.raises(NonFiniteError) as caught:
        policygrad.train(lambda: Huge(reward), out=path, **settings)
    place = "episode 2" if "batch_episodes" in settings else "environment 2"
    assert (
        f"{reward:g} in the reward (above 1e+15, squares of it do not fit in 32 bits) of {place} "
        "at step 2 of its episode, in update 1"
    ) in str(caught.value)
    failure = RunDirectory(path).read_failure()
    assert failure is not None
    assert failure.kind == "reward"


@every_kind
def test_a_finite_reward_that_overflows_is_refused_in_compiled_programs(settings):
    place = "episode 0" if "batch_episodes" in settings else "environment 0"
    with pytest.raises(NonFiniteError, match=rf"1e\+19 in the reward .* of {place} at step 2 of"):
        policygrad.train(DuckHuge(1e19), **settings)


def test_large_rewards_that_fit_are_trained_on():
    run = policygrad.train(DuckHuge(1e14), **TINY)
    for row in run.metrics:
        assert all(value is None or np.isfinite(value) for value in row.values())


# ----- observations that are finite, and too large for 32 bits


class Far(Chain):
    """One number of this size in the second observation of every episode."""

    def step(self, action):
        observation, *rest = super().step(action)
        observation[0] = 1e20 if self.time == 1 else observation[0]
        return observation, *rest


def test_an_observation_that_overflows_is_refused_with_its_value_and_its_place():
    """The variance of what the policy has seen would be infinite, and every later observation would
    be normalised to zero."""
    with pytest.raises(NonFiniteError) as caught:
        policygrad.train(Far, **TINY)
    assert (
        "1e+20 in the observation (above 1e+15, squares of it do not fit in 32 bits) of "
        "environment 0 at step 1 of its episode, in update 1"
    ) in str(caught.value)
    assert caught.value.kind == "observation"


@pytest.mark.parametrize("type_", [np.float16, np.float32])
def test_observations_of_every_type_are_looked_at(type_):
    record = random_segments()
    record = replace(record, cut_observations={}, observations=record.observations.astype(type_))
    assert is_sound(record)
    for bad in (np.inf, np.nan):
        assert not is_sound(replace(record, observations=record.observations.at[2, 1].set(bad)))
    largest = record.observations.at[2, 1].set(1e15)
    assert bool(is_sound(replace(record, observations=largest))) is (type_ == np.float32)


class Stretched(eqx.Module):
    """Observations that fit, which the policy stretches before it measures them."""

    normaliser: ObservationNormaliser
    weights: jax.Array

    def __call__(self, observation):
        return Categorical(self.normaliser(observation) @ self.weights)


def test_infinite_statistics_of_the_policy_are_named_and_not_the_critic():
    normaliser = ObservationNormaliser.of(np.zeros(2, np.float32), lambda x: 1e25 * x)
    policy = Stretched(normaliser, jnp.zeros((2, 2)))
    with pytest.raises(NonFiniteError, match="in what the policy measures of observations") as told:
        policygrad.train(Chain, policy=policy, **{k: x for k, x in TINY.items() if k != "hidden"})
    assert told.value.kind == "observation"


# ----- what is refused is an error, whatever the batch says


def report(**changes):
    """Of an update that is sound, but for what is changed."""
    numbers = dict.fromkeys(UpdateInfo._fields, np.float32(1)) | {"more": {}}
    sound = UpdateReport(
        UpdateInfo(**numbers), np.float32(0), np.bool_(True), np.bool_(True), np.int32(15),
        LongCount.of(0), np.zeros(100), np.zeros(100), Refit(np.float32(1), np.bool_(True)),
    )  # fmt: skip
    info = {name: value for name, value in changes.items() if name in UpdateInfo._fields}
    rest = {name: value for name, value in changes.items() if name not in info}
    return sound._replace(info=sound.info._replace(**info), **rest)


UNSOUND = {
    "batch": ({"sound": np.bool_(False)}, "in a batch that was finite when it was collected again"),
    "gradient": ({"gradient_norm": np.float32(np.nan)}, "nan in the gradient norm at update 5"),
    "kl": ({"kl": np.float32(np.inf)}, "inf in the kl at update 5"),
    "entropy": ({"entropy": np.float32(-np.inf)}, "-inf in the entropy at update 5"),
    "statistics": (
        {"carried_sound": np.bool_(False)}, "in what the policy measures of observations at upd",
    ),
    "critic": (
        {"refit": Refit(np.float32(0), np.bool_(False))}, "in the critic or the baseline at upd",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), UNSOUND.values(), ids=UNSOUND)
@pytest.mark.parametrize("batch", [random_segments(), random_episodes(), None])
def test_refusing_always_raises(batch, changes, words):
    unsound = report(**changes)
    assert first_unsound([report(), unsound]) == 1
    with pytest.raises(NonFiniteError, match=words):
        refuse_update(unsound, batch, 4, 120)


def test_sound_updates_are_not_refused():
    assert first_unsound([report(), report(refit=None)]) is None


# ----- masks


@pytest.mark.parametrize(
    ("flags", "sound"), [([1, 1, 1, 1, 1], True), ([0, 1, 0, 0, 1], True), ([1, 1, 0, 0, 0], False)]
)
def test_a_mask_must_leave_something_of_every_choice(flags, sound):
    record = random_segments(steps=3, lanes=2)
    mask = np.broadcast_to(np.int8(flags), (*record.valid.shape, 5))
    record = replace(record, observations={"a": ({"action_mask": mask},)}, cut_observations={})
    space = action_space_of(spaces.MultiDiscrete([2, 3]))
    assert bool(is_sound(record, space)) is sound
    if not sound:
        with pytest.raises(NonFiniteError, match="permits no action"):
            check_finite(record, 0, 0, space)


# ----- rewards of any size


class Endless:
    """A constant reward, and no end."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)
    time_limit = None

    def __init__(self, reward):
        self.reward = jnp.float32(reward)

    def reset(self, key):
        return jnp.zeros(()), jnp.zeros(1)

    def step(self, key, state, action):
        return state, jnp.zeros(1), self.reward, jnp.bool_(False), jnp.bool_(False)


@pytest.mark.parametrize(
    ("reward", "discount", "steps", "sound"),
    [
        pytest.param(1e20, 0.99, 64, False, marks=slow),
        (9e14, 1.0, 4096, False),
        pytest.param(-9e14, 1.0, 4096, False, marks=slow),
        (9e14, 0.99999, 4096, False),
        (9e14, 0.5, 4096, True),
        pytest.param(1e10, 1.0, 4096, True, marks=slow),
        (1e-10, 1.0, 4096, True),
    ],
)
def test_fault_10_rewards_whose_scale_does_not_fit_never_stop_learning_silently(
    reward, discount, steps, sound, tmp_path
):
    settings = TINY | {"batch_steps": steps, "total_steps": 2 * steps, "num_envs": 1}
    settings |= {"discount": discount, "out": tmp_path / "a"}
    if sound:
        run = policygrad.train(Endless(reward), **settings)
        assert all(0 < m["reward_scale"] < np.inf for m in run.metrics)
        return
    with pytest.raises(NonFiniteError, match=r"do(es)? not fit in 32 bits"):
        policygrad.train(Endless(reward), **settings)

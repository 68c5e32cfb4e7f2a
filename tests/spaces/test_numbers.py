"""Numbers that do not fit in 32 bits: the value as a float, an offset, or an error."""

import json
import warnings

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad
from policygrad.core.errors import UnsupportedSpaceError
from policygrad.policies.agent import Agent
from policygrad.policies.space_policy import network_policy
from policygrad.spaces import ObservationEncoder, action_space_of, flat, space_from_json, space_of
from policygrad.spaces.reading import NotOfSpace, reader_of
from policygrad.spaces.resolution import unresolved, warn_of_unresolved
from tests.worlds import TINY

BIG = 2**40
NOW = 1_700_000_000_000  # milliseconds

# space, what the environment returns, and what a network reads
READ = {
    "case 03: milliseconds": (
        spaces.Box(0, 2**62, (1,), np.int64), np.int64([3_005_000_000]), [3.005e9],
    ),
    "money in cents": (
        spaces.Box(-(2**62), 2**62, (1,), np.int64), np.int64([-9_000_000_000]), [-9e9],
    ),
    "unsigned": (spaces.Box(0, 2**64 - 1, (1,), np.uint64), np.uint64([2**63]), [2.0**63]),
    "unsigned of 32 bits": (
        spaces.Box(0, 2**32 - 1, (1,), np.uint32), np.uint32([4_000_000_000]), [4e9],
    ),
    "in a Dict": (
        spaces.Dict({"t": spaces.Box(0, 2**62, (), np.int64)}), {"t": np.int64(NOW)}, [1.7e12],
    ),
    "in a Tuple in a Dict": (
        spaces.Dict({"t": spaces.Tuple([spaces.Box(0, 2**62, (), np.int64)])}),
        {"t": (np.int64(NOW),)},
        [1.7e12],
    ),
    "declared float, given whole": (spaces.Box(0, np.inf, (1,)), np.int64([2**33]), [2.0**33]),
    "one choice from a large start": (spaces.Discrete(3, start=BIG), np.int64(BIG + 1), [0, 1, 0]),
    "one choice from a negative start": (
        spaces.Discrete(3, start=-BIG), np.int64(-BIG + 2), [0, 0, 1],
    ),
    "one choice at the edge": (
        spaces.Discrete(3, start=2**31 - 2), np.int64(2**31), [0, 0, 1],
    ),
    "choices from large starts": (
        spaces.MultiDiscrete([2, 3], start=[0, BIG]), np.int64([1, BIG]), [0, 1, 1, 0, 0],
    ),
    "small whole numbers": (spaces.Box(0, 100, (1,), np.int64), np.int64([7]), [7]),
}  # fmt: skip


def recorded(space, value):
    return reader_of(space).map(lambda leaf, x: leaf.record(leaf.read(x)), value)


@pytest.mark.parametrize(("space", "value", "expected"), READ.values(), ids=READ)
def test_further_numbers_reach_the_network_as_they_are(space, value, expected):
    record = space_of(space)
    read = recorded(record, value)
    features = flat(ObservationEncoder(record)(read))
    np.testing.assert_allclose(features, np.float32(expected), rtol=1e-7)
    kept = jax.tree.map(lambda x, like: x.dtype == like.dtype, read, record.example())
    assert jax.tree.all(kept)


@pytest.mark.parametrize(("space", "value", "expected"), READ.values(), ids=READ)
def test_further_numbers_reach_an_agent_s_policy_as_they_are(space, value, expected):
    policy = network_policy(
        jax.random.key(0), space, spaces.Box(-1, 1, (1,)), hidden=(), normalise_observations=False
    )
    mean = policy.network.weights[-1] @ jnp.float32(expected)
    agent = Agent(policy, space, spaces.Box(-1, 1, (1,)))
    np.testing.assert_allclose(agent(value).mean, mean, rtol=1e-6)


class Clock(gymnasium.Env):
    """Sees the time in milliseconds, and acts in whole numbers from a large start on."""

    observation_space = spaces.Dict(
        {"now": spaces.Box(0, 2**62, (1,), np.int64), "shift": spaces.Discrete(2, start=BIG)}
    )
    action_space = spaces.Discrete(2, start=BIG)

    def see(self):
        return {"now": np.int64([NOW + self.time]), "shift": BIG + self.time % 2}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.see(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.time += 1
        return self.see(), float(action == BIG), False, self.time >= 5, {}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["vanilla", "ppo"])
def test_case_03_a_run_with_numbers_of_64_bits(algorithm):
    settings = {**TINY, "normalise_observations": False}
    run = policygrad.train(Clock, algorithm=algorithm, **settings)
    assert run.agent.act({"now": [NOW], "shift": BIG + 1}) in (BIG, BIG + 1)
    evaluation = policygrad.evaluate(run, episodes=2)
    assert 0 <= evaluation.deterministic.mean <= 5


@pytest.mark.filterwarnings("ignore:float32 cannot tell")
def test_the_mean_of_large_whole_numbers_is_theirs():
    run = policygrad.train(Clock, **TINY)
    mean = run.policy.normaliser.statistics.value.mean["now"]
    np.testing.assert_allclose(mean, [NOW], rtol=1e-6)


def test_a_number_outside_its_space_that_does_not_fit_is_refused():
    record = space_of(spaces.Box(0, 10, (2,), np.int64))
    with pytest.raises(NotOfSpace, match="5000000000 in the observation, which does not fit in in"):
        recorded(record, np.int64([1, 5_000_000_000]))


@pytest.mark.parametrize(
    ("space", "action", "expected"),
    [
        (spaces.Discrete(3, start=BIG), np.int32(2), BIG + 2),
        (spaces.Discrete(3, start=-BIG), np.int32(1), -BIG + 1),
        (spaces.Discrete(3, dtype=np.uint64), np.int32(1), 1),
        (spaces.Discrete(3, dtype=np.int8), np.int32(2), 2),
        (spaces.MultiDiscrete([2, 3], start=[BIG, 0]), np.int32([1, 2]), np.int64([BIG + 1, 2])),
        (spaces.Tuple([spaces.Discrete(3, start=BIG)]), (np.int32(2),), (BIG + 2,)),
    ],
    ids=str,
)
def test_further_large_actions_come_out_right(space, action, expected):
    record = action_space_of(space)
    given = record.to_environment(action)
    assert jax.tree.all(jax.tree.map(np.array_equal, given, expected))
    assert space.contains(given)
    types = jax.tree.map(lambda x: x.dtype, given), jax.tree.map(lambda x: x.dtype, space.sample())
    assert types[0] == types[1]


@pytest.mark.parametrize(
    "space", [spaces.Discrete(2, start=BIG), spaces.MultiDiscrete([2], start=[BIG])], ids=str
)
def test_compiled_environments_refuse_actions_beyond_32_bits(space):
    with pytest.raises(UnsupportedSpaceError, match="do not fit in 32 bits"):
        action_space_of(space).to_environment(jnp.zeros((1,), jnp.int32), jnp)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(2**33),
        spaces.Dict({"a": spaces.Discrete(200_000)}),
        spaces.MultiDiscrete([60_000, 60_000]),
    ],
    ids=str,
)
def test_choices_among_too_many_are_refused_as_observations(space):
    with pytest.raises(UnsupportedSpaceError, match=r"observation.*at most 100,000"):
        network_policy(jax.random.key(0), space, spaces.Discrete(2))


LOST = {
    "seconds, one apart": (spaces.Box(1_700_000_000, 1_700_000_001, (1,), np.int64), 1),
    "seconds of 32 bits": (spaces.Box(1_700_000_000, 1_700_000_001, (1,), np.int32), 1),
    "float seconds": (spaces.Box(1.7e9, 1.7e9 + 10, (2,), np.float64), 2),
    "a price with cents": (
        spaces.Box(np.array([0, 1e9]), np.array([1, 1e9 + 1e3]), dtype=np.float64), 1,
    ),
    "in a Dict": (
        spaces.Dict({"t": spaces.Box(1e12, 1e12 + 1, (), np.float64), "x": spaces.Box(-1, 1)}), 1,
    ),
    "negative": (spaces.Box(-1.7e9 - 10, -1.7e9, (1,), np.float64), 1),
}  # fmt: skip


@pytest.mark.parametrize(("space", "count"), LOST.values(), ids=LOST)
def test_further_bounds_that_32_bits_merge_are_warned_of(space, count):
    assert len(list(unresolved(space_of(space)))) == count
    with pytest.warns(UserWarning, match=r"observation.*where numbers of 32 bits are .* apart"):
        warn_of_unresolved(space_of(space))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 2**62, (1,), np.int64),
        spaces.Box(0, 255, (3,), np.uint8),
        spaces.Box(-1, 1, (3,), np.float64),
        spaces.Box(-np.inf, np.inf, (3,), np.float64),
        spaces.Box(5.0, 5.0, (1,), np.float64),
        spaces.Box(1.7e9, 1.8e9, (1,), np.float64),
        spaces.Box(0, 0.1, (0,), np.float64),
        spaces.Discrete(3, start=BIG),
    ],
    ids=str,
)
def test_other_bounds_are_not_warned_of(space):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unresolved(space_of(space))


HUGE = {
    "63 bits": spaces.Box(0, 2**63 - 1, (2,), np.int64),
    "both ends": spaces.Box(-(2**63), 2**63 - 1, (), np.int64),
    "64 bits": spaces.Box(0, 2**64 - 1, (1,), np.uint64),
    "unequal": spaces.Box(np.uint64([0, 2**53 + 1]), np.uint64([9, 2**64 - 1]), dtype=np.uint64),
    "more than 53 bits": spaces.Box(-(2**53) - 1, 2**53 + 1, (1,), np.int64),
    "bytes": spaces.Box(0, 255, (2, 2), np.uint8),
    "empty": spaces.Box(0, 2**63 - 1, (0,), np.int64),
}


@pytest.mark.parametrize("space", HUGE.values(), ids=HUGE)
def test_bounds_of_integers_are_kept_exactly(space):
    record = space_of(space)
    assert record.to_gymnasium() == space
    assert space_from_json(record.to_json()) == record


def test_bounds_without_an_end_are_those_of_the_type():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium's own, of the infinite bounds
        space = spaces.Box(-np.inf, np.inf, (), np.int64)
    assert space_from_json(space_of(space).to_json()).to_gymnasium() == space


@pytest.mark.parametrize(
    ("dtype", "low", "high", "expected"),
    [
        ("int64", 0.0, float(2**63), (0, 2**63 - 1)),
        ("uint64", 0.0, float(2**64), (0, 2**64 - 1)),
        ("int64", "-inf", "inf", (-(2**63), 2**63 - 1)),
        ("uint8", 0.0, 255.0, (0, 255)),
        ("int64", [0.0, -3.0], [5.0, float(2**63)], ((0, -3), (5, 2**63 - 1))),
        ("float32", "-inf", 2.5, (-np.inf, 2.5)),
    ],
)
def test_bounds_that_earlier_versions_wrote_as_floats_are_read(dtype, low, high, expected):
    shape = [len(low)] if isinstance(low, list) else []
    text = json.dumps({"kind": "Box", "shape": shape, "dtype": dtype, "low": low, "high": high})
    record = space_from_json(text)
    assert (record.low, record.high) == expected
    assert space_of(record.to_gymnasium()) == record


def test_a_run_with_huge_bounds_is_saved_and_loaded(tmp_path):
    class Huge(gymnasium.Env):
        observation_space = spaces.Box(0, 2**63 - 1, (1,), np.int64)
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.int64([5]), {}

        def step(self, action):
            return np.int64([2**40]), 1.0, True, False, {}

    policygrad.train(Huge, out=tmp_path / "run", **TINY)
    assert policygrad.load(tmp_path / "run").observation_space == Huge.observation_space

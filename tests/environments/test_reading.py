"""What environments hand over: taken as it is meant, or refused with the value named."""

import datetime
from decimal import Decimal
from fractions import Fraction
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import policygrad
from policygrad import environments
from policygrad.core.errors import EnvironmentFailure, NonFiniteError, PolicygradError, UserError
from policygrad.policies.agent import Agent
from policygrad.rollout import host
from policygrad.spaces import action_space_of, observation_space_of
from tests.worlds import TINY, Chain, MLPPolicy

BOX = spaces.Box(-1, 1, (3,), np.float32)
ACTIONS = spaces.Discrete(2)


class Handing(gymnasium.Env):
    """Hands over what it is told, from its second step on."""

    action_space = ACTIONS

    def __init__(self, space=BOX, **given):
        self.observation_space, self.given = space, given

    def observe(self):
        return self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.given.get("first", self.observe()), {}

    def step(self, action):
        self.time += 1
        row = {
            "observation": self.observe(), "reward": 1.0, "terminated": self.time == 5,
            "truncated": False, "info": {},
        }  # fmt: skip
        if self.time >= 2:
            row |= {k: v for k, v in self.given.items() if k in row}
        return tuple(row.values())


def steps(count=6, space=BOX, **given):
    """Records of some steps of two environments."""
    lanes = environments.make(partial(Handing, space, **given), 2)
    lanes.start(0)
    draw = lambda t, o, times: (np.zeros(2, np.int32), np.zeros(2, np.float32))  # noqa: E731
    actions = action_space_of(lanes.action_space)
    return [host.step_lanes(lanes, actions, draw, t) for t in range(count)]


# ----- rewards


TAKEN = {
    "(1,)": np.ones(1), "0d": np.array(1.0), "int": 1, "bool": True, "float16": np.float16(1),
    "object": np.array(1.0, object), "(1, 1)": np.ones((1, 1)), "list of one": [1],
    "jax": jnp.float32(1), "Decimal": Decimal(1), "Fraction": Fraction(1), "uint8": np.uint8(1),
    "bool_": np.bool_(True), "large int": 10**3,
}  # fmt: skip


@pytest.mark.parametrize("reward", TAKEN.values(), ids=TAKEN.keys())
def test_case_18_one_number_is_taken_whatever_its_wrapping(reward):
    assert steps(2, reward=reward)[1].step.rewards.tolist() == [float(np.ravel(reward)[0])] * 2


REFUSED = {
    "(2,)": np.ones(2), "None": None, "text": "1.5", "bytes": b"1", "empty": np.ones(0),
    "complex": 1j, "dict": {"reward": 1}, "object of text": np.array("1", object),
    "time": datetime.timedelta(seconds=1),
}  # fmt: skip


@pytest.mark.parametrize("reward", REFUSED.values(), ids=REFUSED.keys())
def test_case_18_and_fault_15_what_is_not_one_number_is_refused(reward):
    found = r"environment 0 returned reward .*, expected one real number \(at step 2 of its episod"
    with pytest.raises(EnvironmentFailure, match=found):
        steps(2, reward=reward)


@pytest.mark.parametrize("flag", [True, 1, 1.0, np.bool_(True), np.array(True), np.ones(1, int)])
def test_flags_are_taken_whatever_their_wrapping(flag):
    assert steps(2, terminated=flag)[1].step.terminated.tolist() == [True, True]


@pytest.mark.parametrize("flag", ["False", None, np.nan, 0.5, 2, [True, False], {}, np.zeros(2)])
@pytest.mark.parametrize("name", ["terminated", "truncated"])
def test_fault_15_what_is_neither_true_nor_false_is_refused(name, flag):
    with pytest.raises(EnvironmentFailure, match=f"{name} .*, expected True or False"):
        steps(2, **{name: flag})


# ----- observations


NESTED = spaces.Dict(a=spaces.Box(-1, 1, (2,), np.float32), b=spaces.Tuple([spaces.Discrete(3)]))
BAD = {
    "shape (4,)": (BOX, np.zeros(4), r"observation of shape \(4,\), expected \(3,\)"),
    "shape (1, 3)": (BOX, np.zeros((1, 3)), r"of shape \(1, 3\), expected \(3,\)"),
    "a number": (BOX, 0.0, r"of shape \(\), expected \(3,\)"),
    "None": (BOX, None, r"of type NoneType: None, expected Box\(.*, \(3,\), float32"),
    "text": (BOX, ["a", "b", "c"], "expected numbers of type float32"),
    "ragged": (BOX, [[1], [1, 2], 3], "that is no array"),
    "a dict": (BOX, {"x": 1}, r"of type dict: {'x': 1}, expected Box\(.*, \(3,\), float32"),
    "an observation and an info": (BOX, (np.zeros(3), {}), "that is no array"),
    "a part missing": (NESTED, {"a": np.zeros(2)}, r"with \['a'\], expected a dict with \['a',"),
    "a part too much": (NESTED, {"a": np.zeros(2), "b": (0,), "c": 1}, r"'c'\], expected"),
    "a list": (NESTED, [0, 1], "of type list: .*, expected a dict"),
    "a tuple's length": (NESTED, {"a": np.zeros(2), "b": (0, 1)}, r"\['b'\] .* tuple of 1"),
    "a part's shape": (NESTED, {"a": np.zeros(3), "b": (0,)}, r"observation\['a'\] of shape"),
    "a choice": (NESTED, {"a": np.zeros(2), "b": (3,)}, r"3 in the .*\['b'\]\[0\].*of 0 to 2"),
    "a choice, too low": (spaces.Discrete(3, start=1), 0, "0 in the observation.*of 1 to 3"),
    "a choice, no whole number": (spaces.Discrete(5), 1.5, "1.5 in the observation"),
    "a choice that is NaN": (spaces.Discrete(5), np.nan, "nan in the observation"),
    "choices": (spaces.MultiDiscrete([2, 3]), np.array([0, 3]), "3 in the observation"),
    "flags": (spaces.MultiBinary(2), np.array([0, 2]), "2 in the observation.*of 0 to 1"),
    "uint8": (spaces.Box(0, 255, (1,), np.uint8), np.array([300]), "300 .* fit in uint8"),
    "uint8 below": (spaces.Box(0, 255, (1,), np.uint8), np.array([-1]), "-1 .* fit in uint8"),
    "uint8 of floats": (spaces.Box(0, 255, (1,), np.uint8), np.array([0.5]), "0.5 .* fit in"),
    "dates": (BOX, np.zeros(3, "datetime64[s]"), "of type datetime64"),
}


@pytest.mark.parametrize("first", [True, False], ids=["reset", "step"])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_case_17_and_fault_15_what_is_not_of_the_space_is_refused(bad, first):
    space, observation, found = bad
    given = {"first": observation} if first else {"observation": observation}
    where = "at reset of its episode 1" if first else "at step 2 of its episode 1"
    with pytest.raises(EnvironmentFailure, match=found) as caught:
        steps(3, space, **given)
    assert str(caught.value).startswith("environment 0 returned ")
    assert where in str(caught.value)


GOOD = {
    "list": (BOX, [0, 0.5, 1]),
    "float64": (BOX, np.array([0.25, 0.5, 1])),
    "whole numbers": (BOX, np.array([0, 0, 1])),
    "jax": (BOX, jnp.ones(3)),
    "outside of the box": (BOX, np.full(3, 7.0)),
    "a whole float as a choice": (spaces.Discrete(5), 3.0),
    "a choice in 0d": (spaces.Discrete(5), np.array(3, np.int8)),
    "flags of bool": (spaces.MultiBinary(2), np.array([True, False])),
    "whole floats as uint8": (spaces.Box(0, 255, (1,), np.uint8), np.array([7.0])),
    "decimals": (BOX, np.array([Decimal("0.5")] * 3)),
}


@pytest.mark.parametrize(("space", "observation"), GOOD.values(), ids=GOOD.keys())
def test_observations_that_mean_the_same_are_taken(space, observation):
    row = steps(3, space, observation=observation)[1]
    expected = np.asarray(observation, float)
    np.testing.assert_array_equal(row.step.successors, np.stack([expected] * 2))
    assert row.step.successors.dtype == observation_space_of(space).example().dtype


WIDE = spaces.Box(-(2**62), 2**62, (2,), np.int64)
LARGE = {
    "milliseconds": [1_700_000_000_123, 0],
    "beyond 2^31": [2**31, -(2**31) - 1],
    "money in cents": [3_005_000_000, 7],
    "near the bound": [2**62, -(2**62)],
}


@pytest.mark.parametrize("values", LARGE.values(), ids=LARGE.keys())
@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a Dict"])
def test_case_03_and_further_large_numbers_are_the_value_or_an_error(values, nested):
    space = spaces.Dict(x=WIDE) if nested else WIDE
    observation = np.array(values, np.int64)
    try:
        row = steps(3, space, observation={"x": observation} if nested else observation)[1]
    except EnvironmentFailure as error:
        assert "does not fit in" in str(error)
        return
    found = row.step.successors["x"] if nested else row.step.successors
    np.testing.assert_allclose(found[0], observation.astype(np.float64), rtol=1e-7)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Box(0, 100, (1,), np.int64), 2**31),
        (spaces.Box(0, 100, (1,), np.int64), 2**40),
        (spaces.Box(0, 100, (1,), np.int64), -(2**31) - 1),
        (spaces.Box(0, 100, (1,), np.uint64), 2**63),
        (spaces.Box(0, 100, (1,), np.int16), 2**15),
        (spaces.Box(0, 100, (1,), np.int64), 2**70),
    ],
)
def test_case_03_further_numbers_beyond_a_declared_range_never_wrap(space, value):
    with pytest.raises(EnvironmentFailure, match="does not fit in"):
        steps(3, space, observation=np.array([value]))


# ----- the API of earlier versions, and slips


class Old(Chain):
    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info


class NoInfo(Chain):
    def reset(self, *, seed=None, options=None):
        return super().reset()[0]


class NoSeed(Chain):
    def reset(self):
        return super().reset()


class NoSpaces(Chain):
    def __init__(self):
        super().__init__()
        self.observation_space = None


class LateSpaces(gymnasium.Env):
    def reset(self, *, seed=None, options=None):
        self.observation_space, self.action_space = BOX, ACTIONS
        return np.zeros(3, np.float32), {}


class ForeignSpaces(Chain):
    def __init__(self):
        super().__init__()
        self.observation_space = (3,)


class Raising(Chain):
    def __init__(self):
        raise OSError("no such simulator")


class Exiting(Chain):
    def step(self, action):
        raise SystemExit(3)


class SB3Like:
    num_envs, observation_space, action_space = 4, BOX, ACTIONS
    step_async = step_wait = reset = step = close = lambda self, *args: None


class NotAnEnvironment:
    observation_space, action_space = BOX, ACTIONS

    def reset(self):
        return np.zeros(3)

    def step(self, action):
        return np.zeros(3), 1.0, False, {}


class Own(gymnasium.RewardWrapper):
    """A wrapper that Gymnasium cannot make again."""

    def __init__(self, env, factor):
        super().__init__(env)
        self.factor = factor

    def reward(self, reward):
        return reward * self.factor


class OneValue(Chain):
    def reset(self, **kwargs):
        return super().reset(**kwargs)[:1]


class ListAsInfo(Chain):
    def reset(self, **kwargs):
        return super().reset(**kwargs)[0], [1]


SLIPS = {
    "4 values": (Old, EnvironmentFailure, "returned 4 values; expected .observation, reward, term"),
    "1 value": (
        OneValue, EnvironmentFailure, "returned 1 value; expected .observation, info",
    ),
    "an info that is a list": (
        ListAsInfo, EnvironmentFailure, r"returned an info of type list, \[1\], expected a dict",
    ),
    "no info": (NoInfo, EnvironmentFailure, "one value of type ndarray; expected .observation, in"),
    "no seed": (NoSeed, EnvironmentFailure, "reset must take a seed: def reset"),
    "no spaces": (NoSpaces, UserError, "NoSpaces has no observation_space; set it in the class"),
    "spaces in reset": (LateSpaces, UserError, "LateSpaces has no observation_space; set it in"),
    "foreign spaces": (ForeignSpaces, UserError, r"is \(3,\) \(builtins\), not one of gymnasium"),
    "constructor": (Raising, EnvironmentFailure, "environment 0 raised OSError: no such simulator"),
    "sys.exit": (Exiting, EnvironmentFailure, "environment 0 raised SystemExit at step 1"),
    "int": (int, UserError, "int made 0, which is not an environment; it has no reset"),
    "None": (None, UserError, "no environment to train in; name one, such as CartPole-v1"),
    "a function of None": (lambda: None, UserError, "made None, .* does it lack a return"),
    "a function of a vector": (
        lambda: SyncVectorEnv([Chain]), UserError, "made a vector environment of 1, SyncVectorEnv",
    ),
    "SB3": (SB3Like(), UserError, "SB3Like looks like a vector environment of Stable-Baselines3"),
    "a function of SB3's": (
        lambda: SB3Like(), UserError,
        "<lambda> made SB3Like, which looks like a vector environment of Stable-Baselines3",
    ),
    "one object": (
        Own(gymnasium.make("Chain-v0"), 2), UserError, "one environment, but 4 copies are needed",
    ),
    "no Gymnasium class": (NotAnEnvironment, EnvironmentFailure, "reset must take a seed"),
    "an instance of it": (NotAnEnvironment(), UserError, "is not an environment; pass an id"),
    "an own wrapper": (Own(gymnasium.make("Chain-v0"), 2), UserError, "pass a function that makes"),
    "a dict": ({"a": 1}, UserError, "is not an environment; pass an id"),
}  # fmt: skip


@pytest.mark.parametrize(("env", "kind", "found"), SLIPS.values(), ids=SLIPS.keys())
def test_case_17_case_25_and_fault_14_slips_are_named(env, kind, found):
    with pytest.raises(kind, match=found):
        policygrad.train(env, **TINY)


def test_one_object_for_one_copy_is_refused_with_the_reason():
    one = Own(gymnasium.make("Chain-v0"), 2)
    with pytest.raises(UserError, match=r"others of its kind are needed besides: to evaluate"):
        policygrad.train(one, **TINY | {"num_envs": 1})


class Grows(gymnasium.Env):
    """Shows a number that a record cannot hold, in one step."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, value=1e300, at=2, dtype=np.float32, nested=False, ends=5):
        self.value, self.at, self.nested, self.ends = value, at, nested, ends
        box = gymnasium.spaces.Box(-np.inf, np.inf, (2,), dtype)
        self.observation_space = gymnasium.spaces.Dict(x=box) if nested else box

    def observe(self):
        row = [0.0, self.value if self.time == self.at else 0.0]
        return {"x": np.array(row)} if self.nested else np.array(row)

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return self.observe(), {}

    def step(self, action):
        self.time += 1
        return self.observe(), 1.0, self.time == self.ends, False, {}


LARGE = {
    "in a step": (Grows, r"1e\+300 in the observation, which does not fit in float32 \(at step 2"),
    "in reset": (lambda: Grows(at=0), r"1e\+300 in the observation.*at reset of its episode 1"),
    "negative": (lambda: Grows(-2e77), r"-2e\+77 in the observation"),
    "of 64 bits": (lambda: Grows(dtype=np.float64), r"1e\+300 in the observation.*float32"),
    "in a Dict": (lambda: Grows(nested=True), r"1e\+300 in the observation\['x'\]"),
    "just beyond": (lambda: Grows(3.5e38), r"3\.5e\+38 in the observation"),
}


@pytest.mark.parametrize(("make", "found"), LARGE.values(), ids=LARGE)
def test_further_numbers_that_are_too_large_are_named_as_they_were_returned(make, found):
    with pytest.raises(EnvironmentFailure, match=found):
        policygrad.train(make, **TINY)


def test_a_number_that_is_too_large_is_harmless_where_no_action_follows():
    run = policygrad.train(lambda: Grows(at=9), **TINY)
    result = policygrad.evaluate(run, lambda: Grows(ends=2), episodes=2)
    assert result.stochastic.mean == 2


def test_fault_14_a_close_that_raises_costs_no_result():
    class Sticky(Chain):
        def close(self):
            raise ValueError("it sticks")

    with pytest.warns(RuntimeWarning, match="raised ValueError: it sticks in close"):
        run = policygrad.train(Sticky, **TINY)
    assert run.summary["length_mean"] == 3


@pytest.mark.parametrize("what", ["nan observation", "nan reward"])
def test_evaluation_is_not_silent_about_nan(what):
    class Sick(Chain):
        def step(self, action):
            observation, reward, *rest = super().step(action)
            if what == "nan reward" and self.time == 2:
                reward = np.nan
            if what == "nan observation" and self.time == 2:
                observation[1] = np.nan
            return observation, reward, *rest

    agent = Agent(MLPPolicy(2, 2), Chain().observation_space, ACTIONS)
    kind = what.partition(" ")[2]
    with pytest.raises(NonFiniteError, match=f"nan in the {kind} of environment 0 at step"):
        policygrad.evaluate(agent, Sick, episodes=3)


@pytest.mark.parametrize("name", ["observations", "rewards"])
def test_vector_environments_of_the_users_own_are_checked_too(name):
    class Wrong(gymnasium.vector.VectorWrapper):
        def step(self, actions):
            observations, rewards, *rest = self.env.step(actions)
            if name == "observations":
                return observations[:, :1], rewards, *rest
            return observations, np.array([None, 1.0]), *rest

    vector = Wrong(SyncVectorEnv([Chain] * 2, autoreset_mode=AutoresetMode.NEXT_STEP))
    with pytest.raises(PolicygradError, match=name[:-1]):
        policygrad.train(vector, **{**TINY, "num_envs": 2})


def test_buffers_that_are_written_over_are_copied():
    class Buffered(Chain):
        buffer = np.zeros(2, np.float32)

        def observe(self):
            self.buffer[:] = super().observe()
            return self.buffer

    def record(make):
        lanes = environments.make(make, 3)
        lanes.start(0)
        draw = lambda t, o, times: (np.ones(3, np.int32), np.zeros(3, np.float32))  # noqa: E731
        return host.collect_segment(lanes, draw, 7)

    jax.tree.map(np.testing.assert_array_equal, record(Buffered), record(Chain))


# ----- starts that need 64 bits


BIG = 2**40


class Far(Chain):
    """Counts its steps from a start that needs 64 bits."""

    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Dict(
            one=spaces.Discrete(9, start=BIG), two=spaces.MultiDiscrete([9, 9], start=[BIG, 0])
        )

    def observe(self):
        return {"one": np.int64(BIG + self.time), "two": np.int64([BIG + self.time, self.time])}


@pytest.mark.parametrize("mode", [None, *AutoresetMode], ids=str)
def test_a_start_is_left_out_once(mode):
    made = Far if mode is None else SyncVectorEnv([Far] * 2, autoreset_mode=mode)
    lanes = environments.make(made, 2)
    lanes.start(0)
    actions = action_space_of(lanes.action_space)
    draw = lambda t, o, times: (np.ones(2, np.int32), np.zeros(2, np.float32))  # noqa: E731
    for t in range(8):
        row = host.step_lanes(lanes, actions, draw, t)
        if not row.step.valid.all():
            continue
        for times, found in (row.times, row.observations), (row.times + 1, row.step.successors):
            expected = {"one": times, "two": np.stack([times, times], axis=1)}
            jax.tree.map(np.testing.assert_array_equal, found, expected)
            assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype(np.int32)}
    assert lanes.restore(lanes.snapshot())

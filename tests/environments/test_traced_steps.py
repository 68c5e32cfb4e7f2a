"""What JAX-native environments return: taken as on the host, or refused with the class named."""

import warnings
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad
from policygrad.core.errors import EnvironmentFailure, PolicygradError, UserError
from policygrad.environments.traced_steps import reset_of, step_of
from policygrad.rollout import open_source
from policygrad.spaces import observation_space_of
from policygrad.training.soundness import check_finite, is_sound
from tests.slow import params, slow
from tests.worlds import TINY, DuckChain, GymnaxChain, MLPPolicy

BOX = spaces.Box(-1, 1, (2,), np.float32)
EPISODES = TINY | {"batch_steps": None, "batch_episodes": 4}
BATCHES = {"segments": TINY, "episodes": EPISODES}
KINDS = pytest.mark.parametrize("settings", params(BATCHES, ()))


class Handing:
    """Hands over what it is told; its state counts the steps, and episodes have three."""

    action_space, time_limit = spaces.Discrete(2), None

    def __init__(self, space=BOX, **given):
        self.observation_space, self.given = space, given

    def observe(self, time):
        return jax.tree.map(lambda x: jnp.asarray(x), self.observation_space.sample())

    def reset(self, key):
        observation = self.given.get("observation", self.observe(0))
        return self.given.get("begins", jnp.int32(0)), self.given.get("first", observation)

    def step(self, key, state, action):
        time = state + 1 if "state" not in self.given else state
        row = {
            "state": time, "observation": self.observe(time), "reward": 1.0,
            "terminated": jnp.any(jnp.ravel(time) >= 3) if "begins" not in self.given else False,
            "truncated": False,
        }  # fmt: skip
        given = {k: x(state) if k == "state" else x for k, x in self.given.items() if k in row}
        return tuple((row | given).values())


def stepped(env):
    """One step, inside a program."""
    key = jax.random.key(0)
    return jax.jit(lambda: step_of(env, key, reset_of(env, key)[0], jnp.int32(0)))()


# ----- rewards and flags

ONE = {
    "float": 2.0, "int": 2, "bool": True, "()": jnp.float32(2), "(1,)": jnp.full(1, 2.0),
    "int8": jnp.int8(2), "NumPy": np.float64(2), "bfloat16": jnp.bfloat16(2),
    "(1,) of ints": jnp.ones(1, int),
}  # fmt: skip


@pytest.mark.parametrize("reward", ONE.values(), ids=ONE)
def test_one_real_number_is_a_reward(reward):
    env = Handing(reward=reward)
    open_source(env, 2)
    found = stepped(env).reward
    assert (found.shape, found.dtype) == ((), jnp.float32)
    assert found == float(np.ravel(np.asarray(reward, float))[0])


NO_REWARD = {
    "(2,)": jnp.ones(2), "(1, 1)": jnp.ones((1, 1)), "empty": jnp.ones(0), "None": None,
    "text": "1", "complex": jnp.complex64(1), "key": jax.random.key(0), "dict": {"r": 1.0},
    "list": [1.0],
}  # fmt: skip


@pytest.mark.parametrize("reward", NO_REWARD.values(), ids=NO_REWARD)
def test_further_what_is_not_one_number_is_no_reward(reward):
    with pytest.raises(
        EnvironmentFailure, match=r"Handing.step returned reward .* one real number"
    ):
        open_source(Handing(reward=reward), 2)


FLAGS = {
    "bool": True, "int": 1, "(1,)": jnp.ones(1, bool), "int32": jnp.int32(1),
    "uint8 of (1,)": jnp.ones(1, jnp.uint8), "NumPy": np.bool_(True),
}  # fmt: skip


@pytest.mark.parametrize("name", ["terminated", "truncated"])
@pytest.mark.parametrize("flag", FLAGS.values(), ids=FLAGS)
def test_bools_and_whole_numbers_are_flags(flag, name):
    env = Handing(**{name: flag})
    open_source(env, 2)
    found = getattr(stepped(env), name)
    assert (found.shape, found.dtype, bool(found)) == ((), jnp.bool_, True)


NO_FLAG = {
    "float": 1.0, "float32": jnp.float32(0), "(2,)": jnp.zeros(2, bool), "None": None,
    "text": "False", "(1, 1)": jnp.zeros((1, 1), bool), "complex": jnp.complex64(0),
}  # fmt: skip


@pytest.mark.parametrize("name", ["terminated", "truncated"])
@pytest.mark.parametrize("flag", NO_FLAG.values(), ids=NO_FLAG)
def test_further_floats_and_arrays_are_no_flags(flag, name):
    with pytest.raises(EnvironmentFailure, match=f"Handing.step returned {name} .*expected True"):
        open_source(Handing(**{name: flag}), 2)


@pytest.mark.parametrize("settings", params(BATCHES, {"episodes"}))
def test_rewards_and_flags_of_one_entry_train(settings):
    over = jnp.zeros(1, jnp.int32)
    run = policygrad.train(Handing(reward=jnp.ones(1, int), truncated=over), **settings)
    assert run.metrics[-1]["return_mean"] == 3


# ----- observations

NESTED = spaces.Dict(a=BOX, b=spaces.Tuple([spaces.Discrete(3)]))
IMAGE = spaces.Box(0, 255, (2,), np.uint8)
BAD = {
    "shape (3,)": (BOX, jnp.zeros(3), r"of shape \(3,\), expected \(2,\)"),
    "shape (1, 2)": (BOX, jnp.zeros((1, 2)), r"of shape \(1, 2\), expected \(2,\)"),
    "a number": (BOX, 0.0, r"of shape \(\), expected \(2,\)"),
    "a number for a Box of (1,)": (
        spaces.Box(-1, 1, (1,)), jnp.float32(0), r"of shape \(\), expected \(1,\)",
    ),
    "an array for a Discrete": (spaces.Discrete(3), jnp.zeros(1, int), r"\(1,\), expected \(\)"),
    "one-hot": (spaces.Discrete(3), jnp.zeros(3), r"of shape \(3,\), expected \(\)"),
    "None": (BOX, None, r"of type NoneType: None, expected Box"),
    "text": (BOX, "ab", "of type str: 'ab', expected Box"),
    "a dict": (BOX, {"a": jnp.zeros(2)}, "of type dict: .*, expected Box"),
    "ragged": (BOX, [[1.0], [1.0, 2.0]], "that is no array"),
    "complex": (BOX, jnp.zeros(2, jnp.complex64), "of type complex64, which holds no real"),
    "a key": (spaces.Discrete(2), jax.random.key(0), "holds no real numbers"),
    "no dict": (NESTED, jnp.zeros(2), r"expected a dict with \['a', 'b'\]"),
    "a part missing": (NESTED, {"a": jnp.zeros(2)}, r"with \['a'\], expected a dict"),
    "a tuple's length": (NESTED, {"a": jnp.zeros(2), "b": (0, 1)}, r"\['b'\] .* tuple of 1"),
    "a part's shape": (NESTED, {"a": jnp.zeros(3), "b": (0,)}, r"\['a'\] of shape \(3,\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["first", "observation"])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_further_observations_of_another_space_are_refused(bad, name):
    space, observation, found = bad
    sample = jax.tree.map(jnp.asarray, space.sample())
    method = "reset" if name == "first" else "step"
    with pytest.raises(EnvironmentFailure, match=f"Handing.{method} returned observation.*{found}"):
        open_source(Handing(space, **{"first": sample, name: observation}), 2)


def test_choices_that_need_64_bits_are_refused_where_there_are_32():
    with pytest.raises(EnvironmentFailure, match="int32, which cannot hold the numbers of Discre"):
        open_source(Handing(spaces.Discrete(2, start=2**40), first=jnp.int32(0)), 2)


GOOD = {
    "a list": (BOX, [0.0, 0.5], jnp.float32),
    "whole numbers for floats": (BOX, jnp.array([0, 1]), jnp.float32),
    "flags for floats": (BOX, jnp.array([True, False]), jnp.float32),
    "float16": (BOX, jnp.ones(2, jnp.float16), jnp.float32),
    "a narrow choice": (spaces.Discrete(3), jnp.int8(2), jnp.int32),
    "a Python choice": (spaces.Discrete(3), 2, jnp.int32),
    "an unsigned choice": (spaces.Discrete(3), jnp.uint32(2), jnp.uint32),
    "a whole float as a choice": (spaces.Discrete(3), jnp.float32(2), jnp.float32),
    "choices": (spaces.MultiDiscrete([2, 3]), jnp.array([1, 2], jnp.uint8), jnp.int32),
    "flags": (spaces.MultiBinary(2), jnp.array([True, False]), jnp.int8),
    "flags of floats": (spaces.MultiBinary(2), jnp.array([1.0, 0.0]), jnp.float32),
    "wide pixels": (IMAGE, jnp.array([0, 255]), jnp.int32),
    "whole pixels": (IMAGE, jnp.array([0.0, 255.0]), jnp.float32),
}


@pytest.mark.parametrize(("space", "observation", "dtype"), GOOD.values(), ids=GOOD)
def test_observations_that_mean_the_same_are_taken(space, observation, dtype):
    env = Handing(space, observation=observation)
    source = open_source(env, 2)
    found = stepped(env).observation
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.asarray(observation, float))
    policy = policygrad.policies.network_policy(
        jax.random.key(0), env.observation_space, env.action_space, hidden=(4,)
    )
    played = source.play(policy, jax.random.key(0), episodes=2, max_steps=9, greedy=False)
    assert played.returns.tolist() == [3, 3]


# ----- states, counts and errors of their own

STATES = {
    "a lost fraction": ({"begins": jnp.int32(0), "state": lambda s: s + 0.5}, "type float32, and"),
    "a flag that counts": ({"begins": False, "state": lambda s: s + 1}, "type int32, and"),
    "another shape": ({"begins": jnp.zeros(()), "state": lambda s: jnp.zeros(1)}, r"shape \(1,\)"),
    "a part more": ({"begins": (0,), "state": lambda s: (0, 1)}, "a state of the structure"),
    "text": ({"begins": "start", "state": lambda s: s}, "state of type str: 'start', expected arr"),
    "text of a step": ({"begins": 0, "state": lambda s: "on"}, "state of type str: 'on', expected"),
    "another place": (
        {"begins": {"a": jnp.ones(2)}, "state": lambda s: {"a": jnp.ones(3)}}, r"state\['a'\] of",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "found"), STATES.values(), ids=STATES)
def test_further_states_of_another_type_are_refused(given, found):
    method = "reset" if given["begins"] == "start" else "step"
    with pytest.raises(EnvironmentFailure, match=f"Handing.{method} returned .*{found}"):
        open_source(Handing(**given), 2)


def test_whole_numbers_are_taken_into_a_state_of_floats():
    env = Handing(begins=jnp.float32(0), state=lambda s: jnp.int32(1))
    open_source(env, 2)
    state = stepped(env).state
    assert (state.dtype, float(state)) == (jnp.float32, 1.0)


class Slips(Handing):
    def __init__(self, method, returned):
        super().__init__()
        self.method, self.returned = method, returned

    def reset(self, key):
        return self.returned() if self.method == "reset" else super().reset(key)

    def step(self, key, state, action):
        return self.returned() if self.method == "step" else super().step(key, state, action)


def test_observations_of_two_types_are_refused_where_one_loses_the_other():
    with pytest.raises(EnvironmentFailure, match=r"observation of shape .* float32, and reset one"):
        open_source(Handing(spaces.Discrete(3), first=0, observation=jnp.float32(1)), 2)


@pytest.mark.parametrize(
    ("method", "returned", "kind", "found"),
    [
        ("reset", lambda: jnp.zeros(2), EnvironmentFailure, "one value of type .*, expected .stat"),
        ("reset", lambda: (0, jnp.zeros(2), {}), EnvironmentFailure, "3 values, expected .state, "),
        ("step", lambda: None, UserError, "one value of type NoneType, expected .state, obs"),
        ("step", lambda: (0, 1, 2, 3), UserError, "4 values, expected .state, observation"),
        ("step", lambda: 1 // 0, EnvironmentFailure, "Slips.step raised ZeroDivisionError: "),
        ("reset", lambda: bool(jax.random.normal(jax.random.key(0)) > 0), EnvironmentFailure,
         "Slips.reset raised TracerBoolConversionError"),
    ],
)  # fmt: skip
def test_slips_name_the_class_and_the_method(method, returned, kind, found):
    with pytest.raises(kind, match=found) as caught:
        open_source(Slips(method, returned), 2)
    assert f"Slips.{method}" in str(caught.value)


def test_the_class_of_an_adapted_object_is_named():
    class Wrong(DuckChain):
        def step(self, key, state, action, params):
            observation, state, reward, *rest = super().step(key, state, action, params)
            return observation, state, jnp.stack([reward, reward]), *rest

    with pytest.raises(EnvironmentFailure, match=r"^Wrong.step returned reward of shape \(2,\)"):
        open_source(Wrong(), 2)


# ----- values out of range


class Counting(Handing):
    """Observes what `given` makes of the time."""

    def __init__(self, space, make, limit=None):
        super().__init__(space)
        self.make, self.time_limit = make, limit

    def observe(self, time):
        return self.make(jnp.asarray(time))

    def step(self, key, state, action):
        return state + 1, self.observe(state + 1), 1.0, state >= 4, False


OUT = {
    "Discrete": (spaces.Discrete(3), lambda t: t, "3 in the observation, .* 0 to 2"),
    "Discrete, below": (spaces.Discrete(9, start=-2), lambda t: -t, "-3 in .* -2 to 6"),
    "Discrete of uint8": (spaces.Discrete(3), lambda t: t.astype(jnp.uint8), "3 in .* 0 to 2"),
    "Discrete of floats": (spaces.Discrete(9), lambda t: t / 3 * (t > 2) + 0.0 * t + (t > 3) * 0.5,
                           r"1.8333.* in the observation"),
    "Discrete of uint32": (
        spaces.Discrete(9), lambda t: jnp.where(t == 3, 4e9, 0).astype(jnp.uint32), "4000000000",
    ),
    "MultiDiscrete": (
        spaces.MultiDiscrete([9, 4]), lambda t: jnp.stack([t, t + 1]), "4 in the observation",
    ),
    "MultiBinary": (spaces.MultiBinary(2), lambda t: jnp.stack([t // 3 * 2, t // 9]), "2 in .*"),
    "a part": (
        spaces.Dict(x=BOX, y=spaces.Tuple([BOX, spaces.Discrete(3)])),
        lambda t: {"x": jnp.zeros(2), "y": (jnp.zeros(2), t)}, r"3 in the observation\['y'\]\[1\]",
    ),
    "a start above 0": (spaces.Discrete(3, start=5), lambda t: t + 5, "8 in .* 5 to 7"),
    "pixels": (IMAGE, lambda t: jnp.stack([t * 100, t]), "300 in .*, which does not fit in uint8"),
    "pixels of floats": (
        IMAGE, lambda t: jnp.stack([t // 3 * 0.5, 0.0]), "0.5 in .*, which does not fit in uint8",
    ),
    "an unused mask": (
        spaces.Dict(x=BOX, action_mask=spaces.MultiBinary(2)),
        lambda t: {"x": jnp.zeros(2), "action_mask": jnp.ones(2, int) + (t == 3)},
        r"2 in the observation\['action_mask'\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("space", "make", "found"), OUT.values(), ids=OUT)
def test_further_values_out_of_range_are_found_in_records_and_in_evaluation(space, make, found):
    env = Counting(space, make)
    step = 4 if "1.83" in found else 3
    policy = policygrad.policies.network_policy(
        jax.random.key(0), env.observation_space, env.action_space, hidden=(4,)
    )
    source = open_source(env, 2)
    record = source.segments(policy, jax.random.key(0), 8).collect(policy, jax.random.key(1))
    read = observation_space_of(space)
    assert is_sound(record)
    assert not is_sound(record, observations=read)
    where = f"environment 0 at step {step} of its episode, in update 1"
    with pytest.raises(EnvironmentFailure, match=f"{found}.* of {where}"):
        check_finite(record, 0, 0, observations=read)
    where = rf"environment 0 \(Counting\) at step {step} of its episode, in evaluation"
    with pytest.raises(EnvironmentFailure, match=f"{found}.* of {where}"):
        source.play(policy, jax.random.key(0), episodes=2, max_steps=9, greedy=True)


@KINDS
def test_values_out_of_range_end_a_run(settings):
    place = "episode" if "batch_episodes" in settings else "environment"
    with pytest.raises(EnvironmentFailure, match=rf"3 in the observation, .* {place} 0 at step 3"):
        policygrad.train(Counting(*OUT["Discrete"][:2]), **settings)


@pytest.mark.slow
def test_a_cut_successor_out_of_range_ends_a_run():
    """At the time limit, where only the critic would read it."""
    env = Counting(spaces.Discrete(3), lambda t: t, limit=3)
    with pytest.raises(EnvironmentFailure, match=r"3 in the observation, .* at step 3 of"):
        policygrad.train(env, **TINY)


@pytest.mark.slow
@pytest.mark.parametrize("settings", params(BATCHES, {"segments"}))
def test_choices_in_range_train_also_where_records_hold_unused_rows(settings):
    """A Discrete that starts above 0: the rows that are not used hold zeros."""
    env = Counting(spaces.Discrete(6, start=5), lambda t: t + 5, limit=4)
    run = policygrad.train(env, **settings)
    assert run.metrics[-1]["return_mean"] == 4
    assert policygrad.evaluate(run, env, episodes=2).stochastic.mean == 4


# ----- time limits


class Unlimited(Handing):
    """Declares a limit, and never truncates."""

    def __init__(self, limit, ends=2**30):
        super().__init__()
        self.time_limit, self.ends = limit, ends

    def step(self, key, state, action):
        return state + 1, self.observe(state), 1.0, state + 1 >= self.ends, False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "limit", "ends", "length"),
    [
        pytest.param(TINY, 5, 2**30, 5, id="segments-never ends"),
        pytest.param(TINY, 5, 3, 3, id="segments-ends before", marks=slow),
        pytest.param(TINY, 5, 5, 5, id="segments-ends there", marks=slow),
        pytest.param(EPISODES, 5, 2**30, 5, id="episodes-never ends", marks=slow),
        pytest.param(EPISODES, 5, 3, 3, id="episodes-ends before"),
        pytest.param(EPISODES, 5, 5, 5, id="episodes-ends there"),
    ],
)
def test_episodes_are_truncated_at_the_declared_limit(settings, limit, ends, length):
    env = Unlimited(limit, ends)
    run = policygrad.train(env, **settings)
    assert run.metrics[-1]["return_mean"] == run.metrics[-1]["length_mean"] == length
    found = policygrad.evaluate(run, env, episodes=3).stochastic
    assert (found.mean, found.unfinished) == (length, 0)


@pytest.mark.parametrize("ends", [3, 2**30])
def test_a_step_that_terminates_at_the_limit_is_not_truncated(ends):
    source, policy = open_source(Unlimited(3, ends), 2), MLPPolicy(2, 2)
    record = source.segments(policy, jax.random.key(0), 8).collect(policy, jax.random.key(1))
    over = np.arange(8) % 3 == 2
    np.testing.assert_array_equal(record.terminated[:, 0], over & (ends == 3))
    np.testing.assert_array_equal(record.truncated[:, 0], over & (ends != 3))
    assert record.cut_times[:, 0].tolist()[: 1 if ends == 3 else 3] == (
        [2] if ends == 3 else [3, 3, 2]
    )


@pytest.mark.parametrize("limit", [0, -1, 2.5, "20", True, [3]])
def test_further_time_limits_that_are_no_number_of_steps_are_refused(limit):
    with pytest.raises(UserError, match=r"the time_limit of Unlimited is .*; it must be a whole"):
        open_source(Unlimited(limit), 2)


# ----- classes and functions in place of objects


class WithSize(Handing):
    def __init__(self, size):
        super().__init__()


class Static(Handing):
    @staticmethod
    def step(key, state, action):
        return state, jnp.zeros(2), 0.0, True, False

    @partial(jax.jit, static_argnums=0)
    def reset(self, key):
        return 0, jnp.zeros(2)


class NoLimit:
    observation_space, action_space = BOX, spaces.Discrete(2)
    reset, step = Handing.reset, Handing.step


@pytest.mark.parametrize(
    ("env", "kwargs", "found"),
    [
        (Handing, None, r"Handing is a class of a JAX-native environment; pass Handing\(\)"),
        (WithSize, {"size": 3}, r"WithSize is a class of .*; pass WithSize\(size=3\)"),
        (WithSize, None, "WithSize is a class of a JAX-native"),
        (Static, None, "Static is a class of a JAX-native"),
        (DuckChain, None, "DuckChain is a class of a JAX-native"),
        (GymnaxChain, None, "GymnaxChain is a class of a JAX-native"),
        (lambda: Handing(), None, "made Handing, a JAX-native environment; pass the object itself"),
        (partial(WithSize, 3), None, "WithSize made WithSize, a JAX-native environment; pass the"),
        (lambda: DuckChain(), None, "made DuckChain, a JAX-native environment; pass the object"),
        (NoLimit(), None, "the JAX-native environment NoLimit has no time_limit; set it"),
    ],
)
def test_further_classes_and_functions_of_jax_native_environments_are_named(env, kwargs, found):
    with pytest.raises(UserError, match=found):
        policygrad.train(env, env_kwargs=kwargs, **TINY)


def test_classes_of_gymnasium_are_not_taken_for_jax_native_ones():
    class Odd(gymnasium.Env):
        observation_space, action_space = BOX, spaces.Discrete(2)

        def reset(self, seed, options=None):
            return np.zeros(2, np.float32), {}

        def step(self, action, more=0, others=0):
            return np.zeros(2, np.float32), 1.0, True, False, {}

    with warnings.catch_warnings(), pytest.raises(PolicygradError) as caught:
        warnings.simplefilter("ignore")
        policygrad.train(Odd, total_steps=0)
    assert "JAX-native" not in str(caught.value)


# ----- actions


class Acting:
    """Tells in its info whether the action is one of its space."""

    observation_space = spaces.Box(-1, 1, (1,))
    time_limit = 3

    def __init__(self, action_space):
        self.action_space = action_space

    def reset(self, key):
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key, state, action):
        parts = [self.action_space]
        if isinstance(self.action_space, spaces.Dict):
            parts = [self.action_space[name] for name in sorted(action)]
        inside = jnp.bool_(True)
        for space, part in zip(parts, jax.tree.leaves(action), strict=True):
            assert part.shape == (space.shape or ())
            low, high = limits(space)
            inside &= jnp.all((part >= low) & (part <= high))
        return state + 1, jnp.zeros(1), 0.0, False, False, {"inside": inside}


def limits(space):
    if isinstance(space, spaces.Discrete):
        return int(space.start), int(space.start + space.n - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return np.int32(space.start), np.int32(space.start + space.nvec - 1)
    return getattr(space, "low", 0), getattr(space, "high", 1)


ACTED = [
    spaces.Box(30, 40, (1,)),
    spaces.Box(np.float32([-3, 5]), np.float32([-2, 9])),
    spaces.Box(100, 200, (2, 2)),
    spaces.Discrete(3, start=5),
    spaces.MultiDiscrete([2, 3], start=[4, -7]),
    spaces.MultiDiscrete([[2, 3], [4, 5]]),
    spaces.MultiBinary((2, 2)),
    spaces.Dict(a=spaces.Discrete(2, start=9), b=spaces.Box(7, 8, (3,))),
]


@pytest.mark.parametrize("space", ACTED, ids=str)
def test_further_actions_are_drawn_from_the_space_as_on_the_host(space):
    env, key = Acting(space), jax.random.key(0)
    source = open_source(env, 2)
    policy = policygrad.policies.network_policy(key, env.observation_space, space, hidden=(4,))
    record = source.segments(policy, key, 8).collect(policy, key)
    assert source.info_names == ("inside",)
    assert np.all(record.infos == 1)
    played = source.play(policy, key, episodes=2, max_steps=9, greedy=True)
    assert played.infos["inside"].tolist() == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "space", [*(pytest.param(x, marks=slow) for x in ACTED[:-1]), ACTED[-1]], ids=str
)
def test_further_actions_are_those_of_the_space_in_training(space):
    run = policygrad.train(Acting(space), **TINY | {"total_steps": 32})
    assert run.metrics[-1]["info/inside"] == 1.0
    found = policygrad.evaluate(run, episodes=4)
    assert found.stochastic.infos["inside"].mean == 1.0

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policygrad import returns
from policygrad.maths.returns import segment_ends
from tests import naive
from tests.records import STEPS, Segment, random_segment, segments_of

RELATIVE = {np.float32: 1e-6, np.float64: 1e-12}
few = settings(derandomize=True, deadline=None, max_examples=40)


def arguments(s):
    return s.rewards, s.next_values, s.terminated, s.truncated


def discounted_return(s):
    return returns.discounted_return(s.rewards, s.discount)


def returns_to_go(s):
    return returns.returns_to_go(*arguments(s), discount=s.discount)


def n_step_returns(s, n=3):
    return returns.n_step_returns(*arguments(s), discount=s.discount, n=n)


def lambda_returns(s):
    return returns.lambda_returns(*arguments(s), discount=s.discount, gae_lambda=s.gae_lambda)


RECURSIONS = {
    discounted_return: lambda s: naive.discounted_return(s.rewards, s.discount),
    returns_to_go: lambda s: naive.returns_to_go(*arguments(s), s.discount),
    n_step_returns: lambda s: naive.n_step_returns(*arguments(s), s.discount, 3),
    lambda_returns: lambda s: naive.lambda_returns(*arguments(s), s.discount, s.gae_lambda),
}
JITTED = {function: jax.jit(function) for function in RECURSIONS}
every_recursion = pytest.mark.parametrize("function", RECURSIONS, ids=lambda f: f.__name__)


def assert_takes_whole_numbers_and_lists(function):
    rewards, values = np.array([1, 2, 3]), np.array([4, 5, 6])
    given = Segment(rewards, values, values + 1, [0, 0, 1], [0, 1, 0], 1, 0.5)
    flags = {"terminated": np.array([0, 0, 1], bool), "truncated": np.array([0, 1, 0], bool)}
    found = function(given)
    assert found.dtype == np.float32
    expected = given._replace(
        rewards=rewards.astype(np.float32), values=values.astype(np.float32),
        next_values=(values + 1).astype(np.float32), discount=np.float32(1), **flags,
    )  # fmt: skip
    np.testing.assert_array_equal(found, function(expected))


def assert_equals_definition(function, definition, segment, dtype):
    segment = segment.astype(dtype)
    with jax.enable_x64(dtype is np.float64):
        actual = function(segment)
    assert actual.dtype == dtype
    exact = segment.astype(np.float64)
    error = abs(np.asarray(actual, np.float64) - definition(exact))
    assert np.all(error <= RELATIVE[dtype] * definition(exact.magnitudes()))


@every_recursion
@pytest.mark.parametrize("dtype", RELATIVE, ids=["float32", "float64"])
@pytest.mark.parametrize("vector_discount", [False, True], ids=["scalar", "vector"])
def test_equals_the_double_sum(function, dtype, vector_discount):
    @few
    @given(segments_of(vector_discount))
    def check(segment):
        assert_equals_definition(JITTED[function], RECURSIONS[function], segment, dtype)

    check()


@few
@given(segments_of(), st.sampled_from([1, 2, 5, STEPS]))
def test_n_step_returns_of_every_n(segment, n):
    assert_equals_definition(
        partial(jax.jit(n_step_returns, static_argnames="n"), n=n),
        lambda s: naive.n_step_returns(*arguments(s), s.discount, n),
        segment,
        np.float32,
    )


@pytest.mark.parametrize("n", [STEPS, STEPS + 1, 10 * STEPS])
def test_n_beyond_the_segment_is_returns_to_go(n):
    segment = random_segment(truncated=np.arange(STEPS) == 4)
    np.testing.assert_allclose(n_step_returns(segment, n), returns_to_go(segment), rtol=1e-6)


@pytest.mark.parametrize("n", [0, -1])
def test_n_below_one_is_refused(n):
    with pytest.raises(ValueError, match=f"n={n}"):
        n_step_returns(random_segment(), n)


def test_lambda_zero_is_one_step_and_lambda_one_is_to_go():
    segment = random_segment(terminated=np.arange(STEPS) == 2)
    zero, one = (lambda_returns(segment._replace(gae_lambda=np.float32(x))) for x in (0, 1))
    np.testing.assert_allclose(zero, n_step_returns(segment, 1), rtol=1e-6)
    np.testing.assert_allclose(one, returns_to_go(segment), rtol=1e-6)


@pytest.mark.parametrize("terminated", [False, True])
@pytest.mark.parametrize("truncated", [False, True])
def test_one_step_record(terminated, truncated):
    segment = random_segment(steps=1, terminated=[terminated], truncated=[truncated])
    r, v = segment.rewards[0], segment.next_values[0]
    expected = r if terminated else r + np.float32(0.9) * v  # termination wins over truncation
    for function in (returns_to_go, n_step_returns, lambda_returns):
        np.testing.assert_allclose(function(segment), [expected], rtol=1e-6)


@pytest.mark.parametrize("flag", ["terminated", "truncated"])
@pytest.mark.parametrize("function", [returns_to_go, n_step_returns, lambda_returns])
def test_nothing_leaks_across_a_cut(flag, function):
    halves = [
        random_segment(seed, next_values=np.full(STEPS, v), **{flag: np.arange(STEPS) == STEPS - 1})
        for seed, v in ((1, 1.0), (2, 100.0))
    ]
    joined = halves[0]._replace(
        **{
            name: np.concatenate([getattr(half, name) for half in halves])
            for name in ("rewards", "values", "next_values", "terminated", "truncated")
        }
    )
    apart = np.concatenate([function(half) for half in halves])
    np.testing.assert_allclose(function(joined), apart, rtol=1e-6)


@every_recursion
def test_integer_rewards_are_read_as_floats(function):
    rewards = np.arange(STEPS)
    segment = random_segment(rewards=rewards, discount=0.5)
    actual = function(segment._replace(rewards=jnp.asarray(rewards)))
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, function(segment), rtol=1e-6)


@every_recursion
def test_jit_equals_eager_and_vmap_equals_loop(function):
    lanes = [random_segment(seed, truncated=np.arange(STEPS) == seed) for seed in range(3)]
    looped = np.stack([function(lane) for lane in lanes])
    jitted = np.stack([JITTED[function](lane) for lane in lanes])
    batched = jax.vmap(function)(jax.tree.map(lambda *x: np.stack(x), *lanes))
    np.testing.assert_allclose(jitted, looped, rtol=1e-6)
    np.testing.assert_allclose(batched, looped, rtol=1e-6)


def test_a_grid_of_lambda_and_discount_compiles_once():
    traces = []

    @jax.jit
    def traced(segment):
        traces.append(None)
        return lambda_returns(segment)

    results = {
        float(traced(random_segment(discount=x, gae_lambda=y))[0])
        for x in (0.5, 1.0)
        for y in (0.0, 0.3, 1.0)
    }
    assert len(results) == 6
    assert len(traces) == 1


@every_recursion
def test_whole_numbers_and_flags_in_lists_are_taken(function):
    assert_takes_whole_numbers_and_lists(function)


def test_a_step_with_both_flags_ends_the_task_and_bootstraps_nothing():
    terminated, bootstraps = segment_ends(np.array([0, 1, 1], bool), np.array([1, 1, 0], bool))
    assert terminated.tolist() == [False, True, True]
    assert bootstraps.tolist() == [True, False, False]
    _, bootstraps = segment_ends(np.zeros(2, bool), np.zeros(2, bool))
    assert bootstraps.tolist() == [False, True]  # the record ends, the episode goes on


ROW, NO = jnp.ones(3), jnp.zeros(3, bool)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"discount": 2}, "discount must be between 0 and 1, got discount=2"),
        ({"discount": float("nan")}, "discount must be between 0 and 1, got discount=nan"),
        ({"discount": -0.1}, "discount must be between 0 and 1"),
        ({"discount": jnp.array([0.5, 1.5, 0.5])}, "discount must be between 0 and 1"),
        ({"discount": "0.9"}, "discount must be a number"),
        ({"gae_lambda": 2}, "gae_lambda must be between 0 and 1, got gae_lambda=2"),
        ({"next_values": jnp.ones(1)}, r"shape of the rewards, \[3\], got \[1\]"),
        ({"terminated": NO[:1]}, r"shape of the rewards, \[3\], got \[1\]"),
        ({"truncated": NO[:2]}, r"shape of the rewards, \[3\], got \[2\]"),
        ({"discount": jnp.ones(2)}, r"shape of the rewards, \[3\], got \[2\]"),
    ],
)
def test_fault_19_arguments_out_of_range_and_arrays_that_would_broadcast(change, words):
    arguments = {"rewards": ROW, "next_values": ROW, "terminated": NO, "truncated": NO}
    arguments |= {"discount": 0.9, "gae_lambda": 0.9} | change
    with pytest.raises(ValueError, match=words):
        returns.lambda_returns(**arguments)
    decay = arguments.pop("gae_lambda")
    if decay == 0.9:
        with pytest.raises(ValueError, match=words):
            returns.returns_to_go(**arguments)
        with pytest.raises(ValueError, match=words):
            returns.n_step_returns(**arguments, n=2)


@pytest.mark.parametrize("make", [returns_to_go, partial(n_step_returns, n=9)])
def test_values_that_are_not_read_may_be_nan(make):
    segment = random_segment(steps=4, rewards=np.ones(4), discount=0.5)
    segment = segment._replace(next_values=np.array([np.nan, np.inf, np.nan, 8], np.float32))
    np.testing.assert_array_equal(make(segment), [2.375, 2.75, 3.5, 5.0])
    np.testing.assert_array_equal(jax.jit(make)(segment), [2.375, 2.75, 3.5, 5.0])


def test_one_step_reads_no_return_beyond_it():
    segment = random_segment(steps=4, rewards=np.ones(4), discount=0.5, gae_lambda=0.0)
    segment = segment._replace(next_values=np.array([8, 6, np.nan, 8], np.float32))
    np.testing.assert_array_equal(lambda_returns(segment), [5.0, 4.0, np.nan, 5.0])

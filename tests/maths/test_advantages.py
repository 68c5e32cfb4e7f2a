import jax
import numpy as np
import pytest
from hypothesis import given, settings

from policygrad import advantages
from policygrad.maths.returns import lambda_returns
from tests import naive
from tests.maths.test_returns import (
    RELATIVE,
    assert_equals_definition,
    assert_takes_whole_numbers_and_lists,
)
from tests.records import STEPS, Segment, random_segment, segments_of

few = settings(derandomize=True, deadline=None, max_examples=40)


def td_residuals(s):
    return advantages.td_residuals(
        s.rewards, s.values, s.next_values, s.terminated, discount=s.discount
    )


def gae(s):
    return advantages.gae(
        *(s.rewards, s.values, s.next_values, s.terminated, s.truncated),
        discount=s.discount,
        gae_lambda=s.gae_lambda,
    )


RECURSIONS = {
    td_residuals: lambda s: naive.td_residuals(
        s.rewards, s.values, s.next_values, s.terminated, s.discount
    ),
    gae: lambda s: naive.gae(*s),
}
JITTED = {function: jax.jit(function) for function in RECURSIONS}
every_recursion = pytest.mark.parametrize("function", RECURSIONS, ids=lambda f: f.__name__)


@every_recursion
@pytest.mark.parametrize("dtype", RELATIVE, ids=["float32", "float64"])
@pytest.mark.parametrize("vector_discount", [False, True], ids=["scalar", "vector"])
def test_equals_the_double_sum(function, dtype, vector_discount):
    @few
    @given(segments_of(vector_discount))
    def check(segment):
        assert_equals_definition(JITTED[function], RECURSIONS[function], segment, dtype)

    check()


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_gae_is_the_lambda_return_less_the_value(gae_lambda):
    s = random_segment(gae_lambda=gae_lambda, terminated=np.arange(STEPS) == 3)
    # where the next row is the successor, its value is the next row's
    s = s._replace(next_values=np.append(s.values[1:], np.float32(5)))
    returns = lambda_returns(
        *(s.rewards, s.next_values, s.terminated, s.truncated),
        discount=s.discount,
        gae_lambda=s.gae_lambda,
    )
    np.testing.assert_allclose(gae(s) + s.values, returns, rtol=1e-5, atol=1e-6)


def test_lambda_zero_is_the_td_residual():
    segment = random_segment(gae_lambda=0.0, truncated=np.arange(STEPS) == 3)
    np.testing.assert_allclose(gae(segment), td_residuals(segment), rtol=1e-6)


def test_termination_wins_over_truncation():
    ends = np.arange(STEPS) == 3
    both = random_segment(terminated=ends, truncated=ends)
    only_terminated = random_segment(terminated=ends)
    only_truncated = random_segment(truncated=ends)
    np.testing.assert_array_equal(gae(both), gae(only_terminated))
    assert not np.allclose(gae(both), gae(only_truncated))


@pytest.mark.parametrize("flag", ["terminated", "truncated"])
def test_nothing_leaks_across_a_cut(flag):
    ends = {flag: np.arange(STEPS) == STEPS - 1}
    halves = [
        random_segment(seed, values=np.full(STEPS, v), next_values=np.full(STEPS, v), **ends)
        for seed, v in ((1, 1.0), (2, 100.0))
    ]
    rows = ("rewards", "values", "next_values", "terminated", "truncated")
    joined = halves[0]._replace(
        **{name: np.concatenate([getattr(half, name) for half in halves]) for name in rows}
    )
    np.testing.assert_allclose(gae(joined), np.concatenate([gae(h) for h in halves]), rtol=1e-5)


@every_recursion
def test_one_step_and_integer_rewards(function):
    integers = random_segment(steps=1, rewards=[3])
    actual = function(integers._replace(rewards=np.array([3])))
    assert actual.dtype == np.float32
    expected = 3 + np.float32(0.9) * integers.next_values - integers.values
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@every_recursion
def test_jit_equals_eager_and_vmap_equals_loop(function):
    lanes = [random_segment(seed, truncated=np.arange(STEPS) == seed) for seed in range(3)]
    looped = np.stack([function(lane) for lane in lanes])
    jitted = np.stack([JITTED[function](lane) for lane in lanes])
    batched = jax.vmap(function)(jax.tree.map(lambda *x: np.stack(x), *lanes))
    np.testing.assert_allclose(jitted, looped, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(batched, looped, rtol=1e-5, atol=1e-6)


def test_a_grid_of_lambda_compiles_once():
    traces = []

    @jax.jit
    def traced(segment):
        traces.append(None)
        return gae(segment)

    results = {float(traced(random_segment(gae_lambda=x))[0]) for x in (0.0, 0.3, 0.9, 1.0)}
    assert len(results) == 4
    assert len(traces) == 1


@every_recursion
def test_whole_numbers_and_flags_in_lists_are_taken(function):
    assert_takes_whole_numbers_and_lists(function)


@every_recursion
def test_another_shape_is_refused_and_not_broadcast(function):
    segment = random_segment(np.random.default_rng(0), 3)
    with pytest.raises(ValueError, match="broadcast"):
        function(segment._replace(values=segment.values[:, None]))


ROW, NO = np.ones(3, np.float32), np.zeros(3, bool)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"discount": 1.5}, "discount must be between 0 and 1, got discount=1.5"),
        ({"gae_lambda": 2}, "gae_lambda must be between 0 and 1, got gae_lambda=2"),
        ({"terminated": NO[:1]}, r"shape of the rewards, \[3\], got \[1\]"),
        ({"terminated": NO[:, None]}, r"shape of the rewards, \[3\], got \[3, 1\]"),
        ({"truncated": NO[:, None]}, r"shape of the rewards, \[3\], got \[3, 1\]"),
    ],
)
def test_arguments_out_of_range_and_flags_of_another_shape_are_refused(change, words):
    segment = Segment(ROW, ROW, ROW, NO, NO, np.array(0.9), np.array(0.9))._replace(**change)
    with pytest.raises(ValueError, match=words):
        gae(segment)
    if change.keys() <= {"discount", "terminated"}:
        with pytest.raises(ValueError, match=words):
            td_residuals(segment)


@pytest.mark.parametrize("flag", ["terminated", "truncated"])
def test_what_follows_the_end_of_an_episode_may_be_nan(flag):
    """As the values of a diverged critic, or of a row on which an environment resets itself."""
    ended = random_segment(steps=5, **{flag: np.arange(5) == 2})
    values = np.where(np.arange(5) > 2, np.float32(np.nan), ended.values)
    spoiled = gae(ended._replace(values=values))
    np.testing.assert_array_equal(spoiled[:3], gae(ended)[:3])
    assert np.all(np.isnan(spoiled[3:]))

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.core.modules import Carried, combine, split
from policygrad.core.trajectories import cut_mask, gradient_denominator, successor_values
from tests.records import insert_reset_rows, random_episodes, random_segments, trajectories


def values_of(record, seed=0):
    """Values `[T, B]` of the states and `[K, B]` of the cut states, all of them different."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=record.rewards.shape), rng.normal(size=record.cut_times.shape)


def naive_successor_values(values, cut_values, record):
    """Lane by lane: the next row's value, or the next cut's. NaN behind a termination."""
    result = np.full(values.shape, np.nan)
    steps, lanes = values.shape
    for lane in range(lanes):
        unused = iter(cut_values[:, lane])
        for t in range(steps):
            last = t == steps - 1 and not record.whole_episodes
            ended = record.terminated[t, lane]
            if (record.truncated[t, lane] and not ended) or last:
                following = next(unused)
            else:
                following = values[t + 1, lane] if t + 1 < steps else np.nan
            if record.valid[t, lane] and not ended:
                result[t, lane] = following
    return result


@pytest.mark.parametrize("record", [random_segments(1), random_segments(2), random_episodes()])
def test_successors_are_the_next_row_or_the_next_cut(record):
    values, cut_values = values_of(record)
    actual = successor_values(jnp.asarray(values), jnp.asarray(cut_values), record)
    expected = naive_successor_values(values, cut_values, record)
    assert np.isfinite(expected).any()
    matters = np.isfinite(expected)
    np.testing.assert_allclose(np.asarray(actual)[matters], expected[matters], rtol=1e-6)


def test_successors_around_reset_rows():
    no, ends = np.zeros((6, 1), bool), np.arange(6)[:, None] == 2
    rng = np.random.default_rng(0)
    record = trajectories(rng, no, ends, ~no, whole_episodes=False)
    widened = insert_reset_rows(record, rng, [2])
    values, cut_values = values_of(record)
    expected = successor_values(jnp.asarray(values), jnp.asarray(cut_values), record)
    with_reset = jnp.asarray(np.insert(values, 3, 1e6, axis=0))
    actual = successor_values(with_reset, jnp.asarray(cut_values), widened)
    np.testing.assert_array_equal(actual[np.asarray(widened.valid)[:, 0]], expected)


def test_cuts_are_truncations_that_did_not_terminate_and_a_segments_last_row():
    record = random_segments(3)
    both = np.asarray(record.terminated & record.truncated)
    assert both.any()
    assert not cut_mask(record)[:-1][both[:-1]].any()
    assert cut_mask(record)[-1].all()
    episodes = random_episodes(lengths=(2, 3))  # the first terminates, the second is truncated
    assert np.argwhere(cut_mask(episodes)).tolist() == [[2, 1]]


def test_flags_behind_the_end_of_an_episode_cut_nothing():
    record = random_episodes(lengths=(2, 3))
    assert not cut_mask(replace(record, truncated=~record.valid)).any()


def test_denominator_is_episodes_or_valid_steps():
    assert float(gradient_denominator(random_episodes(lengths=(3, 5)))) == 2
    record = random_segments(steps=5, lanes=3)
    assert float(gradient_denominator(record)) == 15
    assert float(gradient_denominator(replace(record, valid=record.valid.at[0].set(False)))) == 12
    assert float(gradient_denominator(replace(record, valid=record.valid & False))) == 1


MODULE = {
    "weights": jnp.arange(3.0),
    "steps": jnp.arange(3),
    "statistics": Carried({"mean": jnp.ones(2), "count": jnp.zeros(())}),
    "activation": jnp.tanh,
    "name": "a module",
    "nothing": None,
    "layers": [np.ones(2), (jnp.zeros(1),)],
}


def test_split_and_combine_are_inverse():
    assert eqx.tree_equal(combine(*split(MODULE)), MODULE)
    assert eqx.tree_equal(combine(*reversed(split(MODULE))), MODULE)


def test_only_floating_point_arrays_outside_carried_are_differentiated():
    differentiated, rest = split(MODULE)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(differentiated)]
    assert paths == ["['layers'][0]", "['layers'][1][0]", "['weights']"]
    assert rest["weights"] is None
    assert rest["activation"] is jnp.tanh
    assert len(jax.tree.leaves(rest["statistics"])) == 2


def test_gradient_of_a_module_leaves_its_other_parts_alone():
    differentiated, rest = split(MODULE)

    def loss(differentiated):
        module = combine(differentiated, rest)
        scale = module["statistics"].value["mean"].sum() * module["steps"].sum()
        return scale * module["activation"](module["weights"]).sum()

    gradient = jax.grad(loss)(differentiated)
    np.testing.assert_allclose(gradient["weights"], 6 / np.cosh(np.arange(3)) ** 2, rtol=1e-5)
    assert gradient["statistics"] == Carried({"mean": None, "count": None})

import json
import math
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from policygrad.errors import NonFiniteError
from policygrad.statistics import WINDOW, EpisodeCounter, check_finite, mean_interval
from tests.records import insert_reset_rows, random_episodes, random_segments


def naive_episodes(records):
    """Returns and lengths of the episodes that ended, in the order of rows, then columns."""
    columns = records[0].rewards.shape[1]
    totals, lengths, found, steps = np.zeros(columns), np.zeros(columns, int), [], 0
    for record in records:
        for t, b in np.ndindex(*record.rewards.shape):
            if not record.valid[t, b]:
                continue
            steps += 1
            totals[b] += float(record.rewards[t, b])
            lengths[b] += 1
            if record.terminated[t, b] or record.truncated[t, b]:
                found.append((totals[b], lengths[b]))
                totals[b] = lengths[b] = 0
    return steps, found


def test_episodes_across_segments():
    records = [random_segments(seed) for seed in range(6)]
    counter = EpisodeCounter(records[0].rewards.shape[1])
    assert counter.return_mean is None
    assert counter.length_mean is None
    steps = sum(counter.take(r) for r in records)
    expected_steps, expected = naive_episodes(records)
    assert steps == expected_steps
    assert counter.episodes == len(expected) > 5
    np.testing.assert_allclose(sorted(counter.recent), sorted(expected), rtol=1e-5)
    assert counter.return_mean == pytest.approx(np.mean([r for r, _ in expected]), rel=1e-5)
    assert counter.length_mean == pytest.approx(np.mean([n for _, n in expected]))


def test_rows_that_are_no_transition_do_not_count():
    rng = np.random.default_rng(0)
    record = random_segments(lanes=1)
    ends = np.flatnonzero(np.asarray(record.terminated | record.truncated))
    padded = insert_reset_rows(record, rng, ends)
    assert not bool(padded.valid.all())
    counters = EpisodeCounter(1), EpisodeCounter(1)
    assert [c.take(r) for c, r in zip(counters, (record, padded), strict=True)] == [10, 10]
    assert counters[0].finished() == counters[1].finished()
    assert counters[0].episodes == len(ends) > 1


def test_whole_episodes():
    record = random_episodes(lengths=(3, 5, 1, 4))
    counter = EpisodeCounter(4)
    assert counter.take(record) == 13
    assert counter.take(record) == 13
    assert counter.episodes == 8
    assert [n for _, n in counter.recent] == [3, 5, 1, 4] * 2
    assert counter.return_mean == pytest.approx(float(record.rewards.sum()) / 4, rel=1e-5)


def test_means_are_over_the_last_hundred():
    record = random_episodes(lengths=(1,) * 30)
    counter = EpisodeCounter(30)
    for value in range(5):
        counter.take(replace(record, rewards=jnp.where(record.valid, float(value), 0.0)))
    assert counter.episodes == 150
    assert len(counter.recent) == WINDOW == 100
    assert counter.return_mean == pytest.approx((1 * 10 + (2 + 3 + 4) * 30) / 100)


def test_counter_survives_json():
    records = [random_segments(seed) for seed in range(6)]
    whole, first = (EpisodeCounter(records[0].rewards.shape[1]) for _ in range(2))
    for record in records:
        whole.take(record)
    for record in records[:3]:
        first.take(record)
    second = EpisodeCounter(records[0].rewards.shape[1])
    second.restore(first.running(), json.loads(json.dumps(first.finished())))
    for record in records[3:]:
        second.take(record)
    assert second.finished() == whole.finished()
    for name, value in whole.running().items():
        np.testing.assert_array_equal(second.running()[name], value)


# ----- numbers that are not finite


def put(array, row, lane, value):
    array = np.array(array)
    array[row, lane] = value
    return jnp.asarray(array)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("source", ["reward", "observation"])
def test_not_finite_names_source_environment_and_step(source, value):
    record = random_segments()
    name = source + "s"
    bad = replace(record, **{name: put(getattr(record, name), 4, 2, value)})
    with pytest.raises(NonFiniteError) as caught:
        check_finite(bad, 6, 120)
    message = str(caught.value)
    assert f"{value} in the {source} of environment 2" in message
    assert f"at step {int(record.times[4, 2])} of its episode" in message
    assert "update 7" in message


def test_finite_batches_pass():
    check_finite(random_segments(), 0, 0)
    check_finite(random_episodes(), 0, 0)


def test_episode_is_named_where_columns_are_episodes():
    record = random_episodes()
    bad = replace(record, rewards=put(record.rewards, 2, 1, np.nan))
    with pytest.raises(NonFiniteError, match="of episode 1 at step 2"):
        check_finite(bad, 0, 0)


def test_rows_that_are_no_transition_may_hold_anything():
    record = random_episodes(lengths=(2, 5))
    noise = jnp.where(record.valid, 0.0, jnp.nan)
    check_finite(replace(record, observations=record.observations + noise[..., None]), 0, 0)


def test_successors_that_a_critic_reads_are_looked_at():
    record = random_segments()
    cuts = put(record.cut_observations, 0, 1, np.nan)
    with pytest.raises(NonFiniteError, match="observation of environment 1"):
        check_finite(replace(record, cut_observations=cuts), 0, 0)


def test_nested_observations_are_looked_at():
    record = random_segments()
    parts = {"a": record.observations, "b": put(record.observations, 3, 1, np.inf)}
    with pytest.raises(NonFiniteError, match="inf in the observation of environment 1"):
        check_finite(replace(record, observations=parts, cut_observations={}), 0, 0)


def test_mask_without_a_valid_action():
    record = random_segments()
    mask = put(np.ones((*record.rewards.shape, 3), np.int8), 5, 1, 0)
    parts = {"x": record.observations, "action_mask": mask}
    with pytest.raises(
        NonFiniteError, match="permits no action in the observation of environment 1"
    ):
        check_finite(replace(record, observations=parts, cut_observations={}), 0, 0)


# ----- intervals


def test_interval_is_students():
    values = np.random.default_rng(0).normal(size=12)
    mean, (low, high) = mean_interval(values)
    expected = scipy.stats.t.interval(0.95, 11, values.mean(), scipy.stats.sem(values))
    assert mean == pytest.approx(values.mean())
    np.testing.assert_allclose((low, high), expected, rtol=1e-9)


def test_interval_of_one_value_and_of_equal_values():
    assert mean_interval(np.array([3.0])) == (3.0, (-math.inf, math.inf))
    assert mean_interval(np.full(5, 2.0)) == (2.0, (2.0, 2.0))


def test_interval_covers_as_often_as_it_says():
    """2,000 intervals of 8 draws; outside these bounds in one of 10⁵ runs (z = 4.4)."""
    draws = np.random.default_rng(1).normal(5.0, 2.0, (2000, 8))
    covered = np.mean([low <= 5 <= high for _, (low, high) in map(mean_interval, draws)])
    assert abs(covered - 0.95) < 4.4 * math.sqrt(0.95 * 0.05 / 2000)

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from policygrad.core.errors import NonFiniteError, moment
from policygrad.maths.intervals import mean_interval
from policygrad.rollout.info_tally import InfoTally
from policygrad.training.soundness import check_finite, is_sound
from policygrad.training.tally import WINDOW, EpisodeTally, recent_mean
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


def tallied(records, tally=None):
    tally = tally or EpisodeTally.init(records[0].rewards.shape[1])
    for record in records:
        tally = tally.update(record)
    return tally


def means(tally):
    return tuple(recent_mean(x, int(tally.episodes)) for x in tally[1:3])


def test_episodes_across_segments():
    records = [random_segments(seed) for seed in range(6)]
    assert means(EpisodeTally.init(3)) == (None, None)
    tally = tallied(records)
    _, expected = naive_episodes(records)
    assert int(tally.episodes) == len(expected) > 5
    returns, lengths = zip(*expected, strict=True)
    np.testing.assert_allclose(tally.recent_returns[: len(expected)], returns, rtol=1e-5)
    np.testing.assert_array_equal(tally.recent_lengths[: len(expected)], lengths)
    assert means(tally) == pytest.approx((np.mean(returns), np.mean(lengths)), rel=1e-5)


def test_rows_that_are_no_transition_do_not_count():
    rng = np.random.default_rng(0)
    record = random_segments(lanes=1)
    ends = np.flatnonzero(np.asarray(record.terminated | record.truncated))
    padded = insert_reset_rows(record, rng, ends)
    assert not bool(padded.valid.all())
    ours, theirs = tallied([record]), tallied([padded])
    assert int(ours.episodes) == len(ends) > 1
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_whole_episodes():
    record = random_episodes(lengths=(3, 5, 1, 4))
    tally = tallied([record, record])
    assert int(tally.episodes) == 8
    assert tally.recent_lengths[:8].tolist() == [3, 5, 1, 4] * 2
    assert means(tally)[0] == pytest.approx(float(record.rewards.sum()) / 4, rel=1e-5)


def test_returns_of_long_episodes_are_right_to_six_digits():
    tally, record = EpisodeTally.init(2), random_segments(steps=100, lanes=2)
    never = jnp.zeros_like(record.terminated)
    record = replace(
        record, rewards=jnp.full_like(record.rewards, 0.1), valid=~never, terminated=never,
        truncated=never,
    )  # fmt: skip
    update = jax.jit(EpisodeTally.update)
    for _ in range(999):
        tally = update(tally, record)
    tally = update(tally, replace(record, terminated=never.at[-1].set(True)))
    exact = 100_000 * np.float64(np.float32(0.1))
    np.testing.assert_allclose(tally.recent_returns[:2], exact, rtol=2e-6)
    assert tally.recent_lengths[:2].tolist() == [100_000] * 2


def test_means_are_over_the_last_hundred():
    record = random_episodes(lengths=(1,) * 30)
    of_value = [
        replace(record, rewards=jnp.where(record.valid, float(value), 0.0)) for value in range(5)
    ]
    tally = tallied(of_value)
    assert int(tally.episodes) == 150
    assert len(tally.recent_returns) == WINDOW == 100
    assert means(tally)[0] == pytest.approx((1 * 10 + (2 + 3 + 4) * 30) / 100)


def test_more_episodes_than_the_window_in_one_batch():
    record = random_episodes(lengths=(1,) * 230)
    rewards = jnp.where(record.valid, jnp.arange(230.0), 0.0)
    tally = tallied([replace(record, rewards=rewards)])
    assert sorted(tally.recent_returns.tolist()) == list(range(130, 230))


def test_tally_forgets_what_is_running():
    records = [random_segments(seed) for seed in range(2)]
    tally = tallied(records)
    tally = tally.forget_running(jnp.ones(tally.running_returns.shape, bool))
    assert not tally.running_returns.any()
    assert not tally.running_lengths.any()
    assert int(tally.episodes) == int(tallied(records).episodes)


def test_tally_forgets_what_is_running_in_some_lanes_alone():
    tally = tallied([random_segments(seed) for seed in range(2)])
    lanes = jnp.arange(tally.running_lengths.size) == 1
    after = tally.forget_running(lanes)
    np.testing.assert_array_equal(after.running_lengths[~lanes], tally.running_lengths[~lanes])
    assert tally.running_lengths.any()
    assert not after.running_lengths[lanes].any()


# ----- numbers of infos, with the tally of lanes on the host as the reference


def with_infos(record, seed):
    """Three numbers: one at every step, one here and there, and one at the ends alone."""
    rng = np.random.default_rng(seed)
    infos = rng.normal(size=(*record.rewards.shape, 3)).astype(np.float32)
    infos[rng.random(record.rewards.shape) < 0.6, 1] = np.inf
    infos[~np.asarray(record.terminated | record.truncated), 2] = np.nan
    return replace(record, infos=jnp.asarray(infos))


def host_means(records, lanes):
    tally = InfoTally(lanes)
    for record in records:
        if record.whole_episodes:
            tally.begin()
        infos, valid = np.asarray(record.infos, float), np.asarray(record.valid)
        ended = np.asarray(record.terminated | record.truncated) & valid
        for row in range(len(infos)):
            numbers = {str(i): (infos[row, :, i], np.isfinite(infos[row, :, i])) for i in range(3)}
            tally.add(numbers, valid[row], ended[row])
    return tally.means()


def check_means(tally, expected):
    assert expected.keys() >= {"info/0", "info/1", "info/2", "info_sum/0", "info_sum/1"}
    for kind, means in zip(("info", "info_sum"), np.asarray(tally.infos.means()), strict=True):
        for i, mean in enumerate(means):
            wanted = expected.get(f"{kind}/{i}", np.nan)
            np.testing.assert_allclose(mean, wanted, rtol=1e-4, atol=1e-5)


def test_infos_across_segments():
    records = [with_infos(random_segments(seed), seed) for seed in range(6)]
    tally = tallied(records, EpisodeTally.init(4, 3))
    check_means(tally, host_means(records, 4))
    assert np.isnan(EpisodeTally.init(4, 3).infos.means()).all()


def test_infos_of_rows_that_are_no_transition_do_not_count():
    record = random_segments(lanes=1)
    ends = np.flatnonzero(np.asarray(record.terminated | record.truncated))
    padded = insert_reset_rows(record, np.random.default_rng(0), ends)
    padded = with_infos(padded, 3)
    check_means(tallied([padded], EpisodeTally.init(1, 3)), host_means([padded], 1))


@pytest.mark.parametrize("lengths", [(3, 5, 1, 4, 2) * 9, (2,) * 70], ids=["few", "many"])
def test_infos_of_whole_episodes(lengths):
    records = [with_infos(random_episodes(seed, lengths), seed) for seed in range(2)]
    tally = tallied(records, EpisodeTally.init(len(lengths), 3))
    check_means(tally, host_means(records, len(lengths)))


def test_infos_of_running_episodes_are_forgotten_or_not_known():
    records = [with_infos(random_segments(seed), seed) for seed in range(2)]
    tally = tallied(records[:1], EpisodeTally.init(4, 3))
    forgotten = tally.forget_running(jnp.ones(tally.running_returns.shape, bool)).infos
    assert np.isnan(forgotten.last).all()
    assert not forgotten.sums.any()
    late = tallied(records[1:], tally._replace(infos=tally.infos.begun_before())).infos
    early = tallied(records[1:], tally).infos
    np.testing.assert_array_equal(late.recent_last, early.recent_last)
    unknown = np.isnan(late.recent_sums) & ~np.isnan(early.recent_sums)
    assert 0 < unknown.any(axis=1).sum() <= 4
    np.testing.assert_array_equal(late.recent_sums[~unknown], early.recent_sums[~unknown])


# ----- numbers that are not finite


def put(array, row, lane, value):
    array = np.array(array)
    array[row, lane] = value
    return jnp.asarray(array)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20, -2e15])
@pytest.mark.parametrize("source", ["reward", "observation"])
def test_not_finite_names_source_environment_and_step(source, value):
    record = random_segments()
    name = source + "s"
    bad = replace(record, **{name: put(getattr(record, name), 4, 2, value)})
    assert not is_sound(bad)
    with pytest.raises(NonFiniteError) as caught:
        check_finite(bad, 6, 120)
    message = str(caught.value)
    why = " (above 1e+15, squares of it do not fit in 32 bits)" if np.isfinite(value) else ""
    assert f"{value:g} in the {source}{why} of environment 2" in message
    step = int(record.times[4, 2]) + (source == "reward")
    assert f"{moment(step)} of its episode" in message
    assert "update 7" in message


def test_finite_batches_pass():
    for record in (random_segments(), random_episodes()):
        check_finite(record, 0, 0)
        assert is_sound(record)


def test_episode_is_named_where_columns_are_episodes():
    record = random_episodes()
    bad = replace(record, rewards=put(record.rewards, 2, 1, np.nan))
    with pytest.raises(NonFiniteError, match="of episode 1 at step 3"):
        check_finite(bad, 0, 0)


def test_rows_that_are_no_transition_may_hold_anything():
    record = random_episodes(lengths=(2, 5))
    noise = jnp.where(record.valid, 0.0, jnp.nan)
    check_finite(replace(record, observations=record.observations + noise[..., None]), 0, 0)


def test_successors_that_a_critic_reads_are_looked_at():
    record = random_segments()
    for value in np.nan, 1e20:
        cuts = put(record.cut_observations, 0, 1, value)
        with pytest.raises(NonFiniteError, match=r"observation .*of environment 1"):
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

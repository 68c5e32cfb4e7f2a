"""The noise between and within groups, against sums written out and against exact components."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.group_calibration import Drawn, OfTask, coverage
from policygrad import baselines, diagnostics, estimators
from policygrad.core.errors import UserError
from policygrad.core.trajectories import Greedy, join_lanes
from policygrad.diagnostics import best_group_size, gradient_noise, noise_in_groups
from policygrad.diagnostics.batch_plan import BatchPlan, best_plan
from policygrad.diagnostics.groups import noise_in_groups_of_sums
from policygrad.diagnostics.groups_shown import lines_of
from policygrad.diagnostics.intervals import GroupSums, Measured
from policygrad.gradients import groups
from policygrad.gradients.groups import Groups
from tests.records import random_episodes
from tests.toy import Softmax

SIZE = 4


def record_in_groups(count=6):
    parts = []
    for seed in range(20):
        record = random_episodes(seed)
        rng = np.random.default_rng(seed)
        states, actions = rng.integers([3, 2], size=(*record.rewards.shape, 2)).transpose(2, 0, 1)
        parts.append(replace(record, observations=states, actions=actions))
        if sum(x.rewards.shape[1] for x in parts) >= count * SIZE:
            break
    whole = join_lanes(parts)
    cut = jax.tree.map(lambda x: x[:, : count * SIZE], whole)
    return replace(cut, group_size=SIZE)


@pytest.fixture(scope="module")
def known():
    """A record in groups, a policy, and the score of every episode, by a loop."""
    with jax.enable_x64(True):
        record = record_in_groups()
        policy = Softmax(jnp.asarray(np.random.default_rng(1).normal(size=(3, 2))))
        pi = np.asarray(jax.nn.softmax(policy.logits))
    valid, rewards = np.asarray(record.valid), np.asarray(record.rewards, float)
    scores = np.zeros((rewards.shape[1], 3, 2))
    for t, n in np.argwhere(valid):
        s, a = int(record.observations[t, n]), int(record.actions[t, n])
        scores[n, s] += np.eye(2)[a] - pi[s]
    returns = np.where(valid, rewards, 0.0).sum(axis=0)
    return record, policy, scores.reshape(len(scores), -1), returns, valid.sum(axis=0)


def split(each):
    """Between and within of `[m, r, d]`, by the textbook's mean squares."""
    m, r, _ = each.shape
    means = each.mean(axis=1)
    of_groups = r * np.sum((means - means.mean(axis=0)) ** 2) / (m - 1)
    of_episodes = np.sum((each - means[:, None]) ** 2) / (m * (r - 1))
    return (of_groups - of_episodes) / r, of_episodes


def measured(known, estimator, **options):
    record, policy, *_ = known
    with jax.enable_x64(True):
        state = estimator.init(jax.random.key(0), None)
        return noise_in_groups(policy, estimator, state, record, **options)


def test_single_episodes_are_split_as_the_textbook_says(known):
    *_, scores, returns, _ = known
    between, within = split((returns[:, None] * scores).reshape(6, SIZE, -1))
    found = measured(known, estimators.total_return())
    assert (found.starts, found.group_size, found.weighed_together) == (6, SIZE, 1)
    assert found.between.value == pytest.approx(between, rel=1e-6)
    assert found.within.value == pytest.approx(within, rel=1e-6)
    share = between / (between + within)
    assert found.share_between.value == pytest.approx(np.clip(share, 0, 1), rel=1e-6)


def test_a_group_estimator_is_measured_in_parts_that_weigh_themselves(known):
    *_, scores, returns, lengths = known
    parts = Groups(returns.reshape(-1, 2), 1.0 * lengths.reshape(-1, 2))
    weights = groups.grpo().weights(parts).ravel()
    each = (weights[:, None] * scores).reshape(6, 2, 2, -1).mean(axis=2)
    between, within = split(each)
    found = measured(known, estimators.in_groups(groups.grpo()))
    assert found.weighed_together == 2
    assert found.between.value == pytest.approx(between, rel=1e-6)
    assert found.within.value == pytest.approx(2 * within, rel=1e-6)
    assert found.variance(3, 2) == pytest.approx((max(between, 0) + within) / 3, rel=1e-6)


def test_less_a_greedy_return_each_episode_is_an_estimate(known):
    record, policy, scores, returns, _ = known
    alike = np.arange(len(returns)) // SIZE * SIZE
    shifted = np.asarray(record.rewards)[:, alike] + 1.0
    greedy = Greedy(shifted, np.asarray(record.valid)[:, alike])
    less = shifted.sum(axis=0)
    between, within = split(((returns - less)[:, None] * scores).reshape(6, SIZE, -1))
    remax, given = estimators.in_groups(groups.remax()), replace(record, greedy=greedy)
    found = measured((given, policy), remax, weighed_together=1)
    assert found.between.value == pytest.approx(between, rel=1e-6)
    assert found.within.value == pytest.approx(within, rel=1e-6)
    assert measured((given, policy), remax).weighed_together == 2
    assert measured((replace(given, group_size=3), policy), remax).weighed_together == 1


def test_a_group_is_one_unit_of_the_noise(known):
    record, policy, scores, returns, _ = known
    weights = groups.rloo().weights(Groups(returns.reshape(-1, SIZE))).ravel()
    each = (weights[:, None] * scores).reshape(6, SIZE, -1).mean(axis=1)
    variance = np.sum((each - each.mean(axis=0)) ** 2) / 5
    estimator = estimators.in_groups(groups.rloo())
    with jax.enable_x64(True):
        found = gradient_noise(policy, estimator, estimator.init(jax.random.key(0), None), record)
    assert found.episodes == 6 * SIZE
    assert found.total.variance.value == pytest.approx(SIZE * variance, rel=1e-6)
    norm2 = np.sum(each.mean(axis=0) ** 2) - variance / 6
    assert found.total.squared_norm.value == pytest.approx(norm2, rel=1e-6, abs=1e-9)


def test_batches_add_up_to_one_record(known):
    record, policy, *_ = known
    estimator = estimators.total_return()
    halves = [jax.tree.map(lambda x, at=at: x[:, at], record) for at in (slice(0, 8), slice(8, 24))]
    with jax.enable_x64(True):
        state = estimator.init(jax.random.key(0), None)
        found = [noise_in_groups(policy, estimator, state, x) for x in (record, halves)]
    for name in ("between", "within"):
        a, b = (getattr(x, name) for x in found)
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), rel=1e-9)


@pytest.mark.parametrize(
    ("estimator", "options", "message"),
    {
        "leave-one-out": (
            estimators.total_return(baseline=baselines.leave_one_out()), {}, "couples all episodes"
        ),
        "normalised": (estimators.total_return(normalise_advantages=True), {}, "couples all"),
        "too large a part": (
            estimators.in_groups(groups.rloo()), {"weighed_together": 4},
            "weighed_together=4 cannot be measured from groups of 4; choose one of 2",
        ),
    }.values(),
)  # fmt: skip
def test_what_cannot_be_split_is_refused(known, estimator, options, message):
    with pytest.raises(UserError, match=message):
        measured(known, estimator, **options)


def test_groups_that_cannot_be_cut_name_what_to_do(known):
    record, *rest = known
    for size, message in ((1, "start one by one"), (3, "cannot be cut into equal parts")):
        with pytest.raises(UserError, match=message):
            estimator = estimators.in_groups(groups.rloo())
            measured((replace(record, group_size=size), *rest), estimator)


def test_returns_less_the_other_groups_can_be_split_at_any_size(known):
    record, policy, scores, returns, _ = known
    means = returns.reshape(12, 2).mean(axis=1)
    other = (means.sum() - means) / 11
    each = ((returns.reshape(12, 2) - other[:, None]).ravel()[:, None] * scores).reshape(12, 2, -1)
    between, within = split(each)
    estimator = diagnostics.less_the_other_groups()
    found = measured((replace(record, group_size=2), policy), estimator)
    assert found.between.value == pytest.approx(between, rel=1e-6)
    assert found.within.value == pytest.approx(within, rel=1e-6)


@pytest.mark.parametrize("start", [0.5, 4.0, 30.0])
@pytest.mark.parametrize("between", [0.1, 1.0, 20.0])
def test_no_other_size_is_better_for_its_cost(start, between):
    best = best_group_size(between, 16.0, start=start)
    cost = [(between + 16 / k) * (start + k) for k in range(1, 400)]
    assert best == 1 + int(np.argmin(cost))


@pytest.mark.parametrize(("budget", "start", "least", "best"), [
    (20, 4.0, 1, (2, 6)), (7, 0.0, 4, (1, 7)), (32, 4.0, 4, (2, 12)),
])  # fmt: skip
def test_no_other_batch_that_a_small_budget_pays_has_less_noise(budget, start, least, best):
    found = best_plan(1.0, 16.0, budget, start=start, episode=1.0, least=least)
    assert (found.groups, found.episodes_a_group) == best


def test_no_other_batch_that_a_budget_pays_has_less_noise():
    rng = np.random.default_rng(0)
    for _ in range(200):
        between, within = rng.exponential([1.0, 16.0])
        start, episode, least = rng.choice([0.0, 0.5, 4.0]), rng.choice([0.5, 1, 3]), rng.choice(4)
        least, budget = int(least) + 1, float(rng.integers(30, 300))
        found = best_plan(between, within, budget, start=start, episode=episode, least=least)
        assert found.groups * (start + episode * found.episodes_a_group) <= budget
        assert found.episodes_a_group >= least
        every = [
            (between + within / k) / (budget // (start + episode * k))
            for k in range(least, int((budget - start) / episode) + 1)
        ]
        assert found.variance == pytest.approx(min(every), rel=1e-9)


def test_a_plan_keeps_to_its_budget(known):
    found = measured(known, estimators.in_groups(groups.grpo()))
    found = replace(
        found, between=replace(found.between, value=1.0), within=replace(found.within, value=64.0)
    )
    few = found.plan(100)
    assert (few.groups, few.episodes_a_group) == (50, 2)  # an estimator of at least two
    dear = found.plan(1000, start=4.0)
    assert dear.episodes_a_group == 16
    assert dear.groups == 50
    assert dear.variance == pytest.approx((1 + 64 / 16) / 50)
    with pytest.raises(UserError, match="does not pay one group of 2 episodes, which costs 6"):
        found.plan(5, start=4.0)
    with pytest.raises(UserError, match="the budget must be a finite number, got inf"):
        found.plan(np.inf)
    with pytest.raises(UserError, match="the cost of a start must be 0 or more, got -1"):
        best_group_size(1.0, 1.0, start=-1)
    with pytest.raises(UserError, match="no group is too large"):
        best_group_size(0.0, 1.0, start=1)


def test_an_estimate_below_zero_is_told_and_counts_as_zero(known):
    found = measured(known, estimators.total_return())
    below = replace(found, between=Measured(-15.0, 0.0, 14.0), within=Measured(8.0, 6.0, 9.0))
    assert below.variance(2, 4) == 8 / 4 / 2
    assert below.plan(100) == BatchPlan(100, 1, 8 / 100)
    with pytest.raises(UserError, match=r"its estimate is not above zero.*choose a size"):
        below.plan(100, start=2.0)
    assert "   between groups: -15, below zero by chance (0 to 14)" in lines_of(below)


def test_the_interval_of_an_estimate_below_zero_begins_at_zero():
    # the means of groups are spread less than their episodes: σ²_b is estimated below zero
    each = np.random.default_rng(0).normal(size=(64, SIZE, 3))
    each -= 0.9 * each.mean(axis=1, keepdims=True)
    rows = {
        "gradient": each.mean(axis=1),
        "square": np.sum(each.mean(axis=1) ** 2, axis=1),
        "own square": np.mean(np.sum(each**2, axis=2), axis=1),
    }
    found = noise_in_groups_of_sums(GroupSums(np.ones(64), rows, size=SIZE), 1)
    assert found.between.value == pytest.approx(split(each)[0])
    assert found.between.value < 0 == found.between.low <= found.between.high


def test_what_is_said_of_a_batch(known):
    found = measured(known, estimators.in_groups(groups.grpo()))
    between, within = replace(found.between, value=1.0), replace(found.within, value=2.0)
    found = replace(found, between=between, within=within)
    told = lines_of(found, 16.0)
    assert told[-2:] == [
        "   4 groups of 4, as in use: variance 0.375",  # (1 + 2/4) / 4
        "   8 groups of 2, the least for as many episodes: variance 0.25",  # (1 + 2/2) / 8
    ]
    assert lines_of(found) == told[:-2]
    greedy = replace(found, greedy=True)  # 4 × (4 + 1) episodes pay for 6 × (2 + 1)
    assert lines_of(greedy, 16.0)[-1] == (
        "   6 groups of 2, the least for the same steps: variance 0.3333"
    )
    assert lines_of(replace(found, group_size=2), 16.0)[-1] == (
        "   8 groups of 2, as in use: variance 0.25, the least for as many episodes"
    )
    none = replace(greedy, between=replace(between, value=-1.0))
    assert lines_of(none, 16.0)[-1].endswith("larger groups cost fewer steps")


@pytest.mark.parametrize("heavy", [False, True])
def test_intervals_of_known_components_cover(heavy):
    # of 60 at 95 %, fewer than 51 cover with probability 0.4 %
    found = coverage(Drawn(heavy, 96, 3), 60)
    for name in ("between", "within"):
        assert found[name]["covers"] >= 51 / 60, found
        assert found[name]["mean"] == pytest.approx(found[name]["true"], rel=0.35)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random", "chain", "gridworld"])
def test_intervals_of_exact_components_cover(name):
    found = coverage(OfTask(name, 128, 4), 200)
    for quantity in ("between", "within"):
        assert 0.9 <= found[quantity]["covers"] <= 0.99, found

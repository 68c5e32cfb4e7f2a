"""Exact moments of group estimators, against every group of whole trajectories and closed forms."""

import math

import numpy as np
import pytest

from policygrad.gradients import groups
from policygrad.gradients.groups import ESTIMATORS
from policygrad.tabular import (
    FiniteMDP,
    SoftmaxPolicy,
    gallery,
    group_moments,
    outcomes_of,
    solve,
)
from policygrad.tabular.multisets import multisets
from tests.tabular.groups_oracle import Oracle, by_start, random_task

TOLERANCE = 1e-10
QUICK, ALL = 10, 120
# by k: the largest number of trajectories from a state, so that every ordered group can be listed
FEW, MANY = {2: 16, 3: 9, 4: 5, 5: 4}, {2: 60, 3: 25, 4: 12, 5: 8}
# (k, G) of estimators whose weights read the whole batch
BATCHES = ((2, 2), (3, 2), (2, 3), (2, 2))


def relative(found, want):
    return np.max(np.abs(found - want)) / max(1.0, np.max(np.abs(want)))


def check(seed, trajectories):
    """Every estimator on one random MDP; the largest relative error."""
    k, discount = 2 + seed % 4, (1.0, 0.8)[seed % 3 == 0]
    task, small = random_task(seed, trajectories[k]), random_task(seed, 4)
    exact, oracle = outcomes_of(*task, discount=discount), Oracle(*task, k, discount=discount)
    np.testing.assert_allclose(
        exact.gradient, solve(*task, discount=discount).gradient, rtol=1e-10, atol=1e-12
    )
    of_batches = outcomes_of(*small, discount=discount)
    size, count = BATCHES[seed % 4]
    if count == 3:
        of_batches = outcomes_of(*small, discount=discount, start=0)
        small = only_start(small, 0)
    if max(len(x.p) for x in by_start(*small)) > 4:
        size = 2
    batches = Oracle(*small, size, discount=discount)
    worst = 0.0
    for name, make in ESTIMATORS.items():
        estimator = make()
        if estimator.batch_wide:
            found = group_moments(of_batches, estimator, group_size=size, groups=count)
            want = batches.moments(estimator, count)
        else:
            found = group_moments(exact, estimator, group_size=k)
            want = oracle.moments(estimator, 1)
        numbers = found.mean, found.covariance, found.power
        error = max(relative(*pair) for pair in zip(numbers, want, strict=True))
        assert error <= TOLERANCE, (seed, name, error)
        worst = max(worst, error)
    return worst


def only_start(task, start):
    """The same task, where every episode starts in one state."""
    mdp, policy = task
    initial = np.eye(mdp.states)[start]
    rewards, variances = mdp.edges.rewards, mdp.edges.variances
    p = np.zeros((mdp.states, mdp.actions, mdp.states))
    p += np.asarray(mdp.transitions)
    return FiniteMDP(p, rewards, initial, mdp.horizon, variances), policy


@pytest.mark.parametrize("seed", range(QUICK))
def test_moments_are_those_of_every_group_of_trajectories(seed):
    check(seed, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_moments_are_those_of_every_group_on_every_random_mdp(part):
    errors = [check(seed, MANY) for seed in range(part, ALL, 4)]
    print(f"{len(errors)} random MDPs, k = {2 + part}, largest relative error {max(errors):.1e}")


@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_outcomes_are_those_of_every_trajectory(discount):
    task = random_task(1, 60)
    exact = outcomes_of(*task, discount=discount)
    for s, own in enumerate(by_start(*task, discount=discount)):
        here = exact.starts == s
        found = {}
        for p, paid, length, score in zip(*own, strict=True):
            total = found.setdefault((round(paid, 9), length), [0.0, 0.0, 0.0])
            for i, x in enumerate((p, p * score, p * np.outer(score, score))):
                total[i] = total[i] + x
        keys = zip(exact.returns[here].round(9), exact.lengths[here], strict=True)
        p = exact.probabilities[here]
        sums = p[:, None] * exact.scores[here], p[:, None, None] * exact.squared_scores[here]
        assert here.sum() == len(found)
        for key, *numbers in zip(keys, p, *sums, strict=True):
            for number, want in zip(numbers, found[key], strict=True):
                np.testing.assert_allclose(number, want, rtol=1e-12, atol=1e-14)
    v = solve(*task, discount=discount).values[0]
    np.testing.assert_allclose(exact.values, v[task[0].initial_support], rtol=1e-12)


def choice(p):
    """One choice between an answer that is right, with probability p, and one that is wrong."""
    features = np.zeros((2, 2, 1))
    features[:, 0] = 1.0
    mdp = gallery.two_armed_bandit().mdp
    return outcomes_of(mdp, SoftmaxPolicy(np.array([math.log(p / (1 - p))]), features))


def successes(p, k):
    """(j, probability that j of k answers are right)."""
    return [(j, math.comb(k, j) * p**j * (1 - p) ** (k - j)) for j in range(k + 1)]


@pytest.mark.parametrize("k", [2, 3, 8, 32])
@pytest.mark.parametrize("p", [0.03, 0.5, 0.9])
def test_the_direction_of_grpo_with_two_answers(p, k):
    """With j of k right, R̄ = j/k: Σ_i (R_i − R̄) s_i / k = j (k−j) / k², as the scores are 1−p, −p.

    E ĝ = Σ_j Bin(j; k, p) [j (k−j) / k²] / (√(j (k−j) / (k (k−1))) + ε), and ∇J = p (1−p).
    """
    exact, epsilon = choice(p), 1e-4
    found = group_moments(exact, groups.grpo(own_length=False), group_size=k)
    want = sum(
        share * j * (k - j) / k**2 / (math.sqrt(j * (k - j) / (k * (k - 1))) + epsilon)
        for j, share in successes(p, k)
    )
    np.testing.assert_allclose(found.gradient, p * (1 - p), rtol=1e-12)
    np.testing.assert_allclose(found.mean, want, rtol=1e-12)
    mean = group_moments(exact, groups.group_mean(), group_size=k).mean
    np.testing.assert_allclose(mean, p * (1 - p) * (1 - 1 / k), rtol=1e-12)
    np.testing.assert_allclose(
        group_moments(exact, groups.rloo(), group_size=k).mean, p * (1 - p), rtol=1e-12
    )


def test_leave_one_out_over_the_deviation_of_the_others_blows_up():
    """NeMo-RL, issue 1518: four answers of which one in ten is right, ε = 10⁻⁶.

    With j right: w = [1 − (j−1)/3] / (d(j−1) + ε) for each that is right and −(j/3) / (d(j) + ε)
    for each that is wrong, where d(i) is the deviation of three returns with i ones.
    """
    p, k, epsilon = 0.1, 4, 1e-6

    def spread(i):
        return math.sqrt(i / 3 * (1 - i / 3) * 3 / 2)

    mean = square = 0.0
    for j, share in successes(p, k):
        right = (1 - (j - 1) / 3) / (spread(j - 1) + epsilon) if j else 0.0
        wrong = -(j / 3) / (spread(j) + epsilon) if j < k else 0.0
        estimate = (j * right * (1 - p) + (k - j) * wrong * -p) / k
        mean, square = mean + share * estimate, square + share * estimate**2
    exact = choice(p)
    blown = groups.leave_one_out_over_deviation_of_others(epsilon=epsilon)
    found = group_moments(exact, blown, group_size=k)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(found.variance, square - mean**2, rtol=1e-12)
    assert found.variance > 1e10
    # instead: no division, or the deviation of the whole group
    for instead in (groups.rloo(), groups.grpo(own_length=False)):
        assert group_moments(exact, instead, group_size=k).variance < 1


def test_groups_of_one_batch_are_independent():
    exact = outcomes_of(*random_task(3, 8))
    one, four = (group_moments(exact, groups.grpo(), group_size=3, groups=g) for g in (1, 4))
    np.testing.assert_allclose(four.covariance, one.covariance / 4, rtol=1e-12)
    np.testing.assert_allclose(four.mean, one.mean, rtol=1e-12)
    assert one.between is not None
    assert one.between > 0
    assert four.between == pytest.approx(one.between / 4, rel=1e-12)


def test_between_and_within_are_those_of_each_start():
    task = random_task(3, 8)
    exact = outcomes_of(*task)
    whole = group_moments(exact, groups.rloo(), group_size=2)
    starts = np.flatnonzero(task[0].initial_support)
    parts = [
        group_moments(outcomes_of(*task, start=int(s)), groups.rloo(), group_size=2) for s in starts
    ]
    p = exact.start_probabilities
    within = p @ [part.variance for part in parts]
    np.testing.assert_allclose(whole.within, within, rtol=1e-10)
    means = np.stack([part.mean for part in parts])
    np.testing.assert_allclose(p @ means, whole.mean, rtol=1e-10)


def sums_of_tenths(last):
    """From state 0 returns of 0.3 in one step, and of 0.1 + `last` and 0.1 − 0.1 in two."""
    p, rewards = np.zeros((3, 2, 3)), np.zeros((3, 2, 3))
    p[0, 0, 2] = p[0, 1, 1] = p[1, :, 2] = p[2, :, 2] = 1.0
    rewards[0, 0, 2], rewards[0, 1, 1], rewards[1, :, 2] = 0.3, 0.1, (last, -0.1)
    policy = SoftmaxPolicy.of(np.array([[0.1, 0.4], [0.3, 0.0], [0.0, 0.0]]))
    return FiniteMDP(p, rewards, np.array([0.75, 0.25, 0.0])), policy


def test_returns_that_are_equal_but_for_rounding_are_one():
    assert 0.1 + 0.2 != 0.3
    assert 0.1 + (0.3 - 0.1) == 0.3
    exact, known = (outcomes_of(*sums_of_tenths(x)) for x in (0.2, 0.3 - 0.1))
    assert len(np.unique(exact.returns)) == len(np.unique(known.returns)) == 4
    assert np.isin(exact.greedy_returns, exact.returns).all()
    for make in (groups.remax, groups.leave_one_out_over_deviation_of_others):
        options = {} if make is groups.remax else {"skip_equal": True}
        one, other = (group_moments(x, make(**options), group_size=3) for x in (exact, known))
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-9)
        np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-9)
        assert one.variance < 1


@pytest.mark.parametrize("k", [170, 171, 400])
def test_groups_whose_factorial_is_beyond_float64(k):
    p = 0.3
    mean = group_moments(choice(p), groups.rloo(), group_size=k).mean
    np.testing.assert_allclose(mean, p * (1 - p), rtol=1e-10)
    assert multisets(np.array([0.25, 0.75]), k)[1].sum() == pytest.approx(1.0, rel=1e-11)


def test_what_never_happens_has_no_probability():
    rows, p = multisets(np.array([1.0, 0.0]), 2)
    assert rows.tolist() == [[0, 0], [0, 1], [1, 1]]
    assert p.tolist() == pytest.approx([1.0, 0.0, 0.0], rel=1e-14)


def test_what_cannot_be_enumerated_is_refused_in_one_line():
    exact = outcomes_of(*gallery.token_task())
    with pytest.raises(ValueError, match=r"groups of 400 out of .*limit=1,000,000"):
        group_moments(exact, groups.grpo(), group_size=400)
    with pytest.raises(ValueError, match=r"batches of 60 groups .* read the whole batch"):
        group_moments(exact, groups.reinforce_plus_plus(), group_size=2, groups=60)
    with pytest.raises(ValueError, match="at least 2 groups a batch, got 1"):
        group_moments(exact, groups.shrinkage(), group_size=2)
    with pytest.raises(ValueError, match="may go on for more than 4 steps; give the MDP a horizon"):
        outcomes_of(*gallery.short_corridor())
    with pytest.raises(ValueError, match="more than 10 returns after"):
        outcomes_of(*gallery.random_mdp(), limit=10)
    with pytest.raises(ValueError, match=r"start must be a state in 0…1, got start=7"):
        outcomes_of(*gallery.two_armed_bandit(), start=7)
    with pytest.raises(ValueError, match="starts in state 1 is over before its first step"):
        outcomes_of(*gallery.two_armed_bandit(), start=1)

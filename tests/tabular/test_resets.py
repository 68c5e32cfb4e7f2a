"""Returns that reset at rewards: exact moments, and whose gradient they follow."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad import baselines, estimators, scores
from policygrad.gradients.forms import LambdaReturn, ResetAtRewards
from policygrad.gradients.weights import Estimator
from policygrad.tabular import (
    FiniteMDP,
    SoftmaxPolicy,
    Sparse,
    enumerate_trajectories,
    excess_variance,
    moments,
    optimal_baseline,
    solve,
)
from tests.tabular.forms import RenormalisedLambda
from tests.tabular.oracle import (
    batches,
    brute_force,
    every_resetting_estimator,
    random_mdp,
    random_policy,
    random_tables,
    relative_error,
)
from tests.tabular.test_infinite import compare

TOLERANCE = 1e-12
SLOW = pytest.mark.slow


def sometimes_paid(seed, **options):
    """A random MDP in which half of the transitions have no reward."""
    mdp = random_mdp(seed, noisy=False, **options)
    paid = np.random.default_rng([seed, 4]).uniform(size=np.shape(mdp.rewards)) < 0.5
    return replace(mdp, rewards=np.asarray(mdp.rewards) * paid, reward_variance=0.0)


def case(seed, **options):
    mdp = sometimes_paid(seed, absorbing=seed % 3 != 0, sparse=seed % 2 == 1, **options)
    policy = random_policy(seed, mdp, features=(2, None)[seed % 2], aliased=True)
    return mdp, policy, *random_tables(seed, mdp)


# ----- exact moments


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(k, marks=SLOW) for k in range(2, 40))])
def test_moments_are_those_of_enumeration(seed):
    mdp, policy, b, v = case(seed)
    gamma, lam = ((0.9, 0.7), (1.0, 0.4), (0.3, 1.0))[seed % 3]
    paths = enumerate_trajectories(mdp, policy)
    for name, estimator in every_resetting_estimator(b, v, gamma, lam):
        exact = moments(mdp, policy, estimator, covariance=True)
        for field, want in brute_force(paths, mdp, policy, estimator).items():
            error = relative_error(getattr(exact, field), want)
            assert error <= TOLERANCE, (name, field, error)


@pytest.mark.parametrize("seed", [1, pytest.param(0, marks=SLOW)])
def test_enumerated_trajectories_through_the_training_code_give_the_moments(seed):
    mdp, policy, b, v = case(seed)
    paths = enumerate_trajectories(mdp, policy)
    p = paths.probabilities
    for name, estimator in every_resetting_estimator(b, v, 0.9, 0.7):
        with jax.enable_x64(True):
            record = paths.trajectories()
            state = estimator.init(jax.random.key(0), jnp.zeros((), int))
            psi = estimator.weights(state, record).psi
            tree = scores.episode_gradients(policy, record, psi)
            g = np.asarray(tree.theta).reshape(len(p), -1)
        exact = moments(mdp, policy, estimator, covariance=True)
        assert relative_error(p @ g, exact.mean) <= TOLERANCE, name
        covariance = (p[:, None] * (g - p @ g)).T @ (g - p @ g)
        assert relative_error(covariance, exact.covariance) <= TOLERANCE, name
        assert relative_error(np.trace(covariance), exact.variance) <= TOLERANCE, name


def test_a_form_that_depends_on_the_time_may_reset_too():
    # Λ of each time, and 1[r = 0] of each edge; the shares of λ count the steps to the horizon
    @jax.tree_util.register_dataclass
    @dataclass(frozen=True)
    class TimedReset(RenormalisedLambda):
        def returns(self, steps, discount):
            ends = steps.terminated | (steps.rewards != 0)
            return super().returns(steps._replace(terminated=ends), discount)

        def coupling(self, horizon):
            return super().coupling(horizon)._replace(resets_at_rewards=True)

    mdp, policy, b, v = case(2)
    tables = baselines.table(b), baselines.table(v)
    own, wrapped = (
        moments(mdp, policy, Estimator(form, *tables, 0.9), covariance=True)
        for form in (TimedReset(0.7, 3), ResetAtRewards(RenormalisedLambda(0.7, 3)))
    )
    np.testing.assert_array_equal(own.covariance, wrapped.covariance)
    estimator = Estimator(ResetAtRewards(RenormalisedLambda(0.7, 3)), *tables, 0.9)
    paths = enumerate_trajectories(mdp, policy)
    with jax.enable_x64(True):
        record = paths.trajectories()
        psi = estimator.weights(estimator.init(jax.random.key(0), jnp.zeros((), int)), record).psi
        g = np.asarray(scores.episode_gradients(policy, record, psi).theta)
    mean = paths.probabilities @ g
    assert relative_error(mean, own.mean) <= TOLERANCE
    covariance = (paths.probabilities[:, None] * (g - mean)).T @ (g - mean)
    assert relative_error(covariance, own.covariance) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_without_a_horizon_they_are_those_of_a_long_one(gamma):
    mdp = sometimes_paid(1, horizon=None)
    policy = random_policy(2, mdp, features=2)
    b, v = random_tables(3, mdp)
    for name, estimator in every_resetting_estimator(b, v, gamma, 0.7):
        compare(mdp, policy, estimator, name)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("form", ["reward_to_go", "n_step", pytest.param("gae", marks=SLOW)])
@pytest.mark.parametrize("k", [2, pytest.param(3, marks=SLOW)])
def test_leave_one_out_is_that_of_every_batch(form, kept, k):
    mdp = sometimes_paid(6, states=3 if k == 2 else 2, horizon=3 if k == 2 else 2)
    policy = random_policy(7, mdp, features=2)
    options = {"discounted_states": kept, "baseline": baselines.leave_one_out()}
    if form != "reward_to_go":
        options["critic"] = baselines.table(random_tables(8, mdp)[1])
    if form == "n_step":
        options["n"] = 2
    estimator = getattr(estimators, form)(discount=0.8, resets_at_rewards=True, **options)
    paths = enumerate_trajectories(mdp, policy)
    mean, covariance = batches(paths, mdp, policy, estimator, k)
    exact = moments(mdp, policy, estimator, covariance=True, episodes=k)
    assert relative_error(exact.mean, mean) <= TOLERANCE
    assert relative_error(exact.covariance, covariance) <= TOLERANCE
    trace = moments(mdp, policy, estimator, episodes=k).variance
    assert relative_error(trace, np.trace(covariance)) <= TOLERANCE


@pytest.mark.parametrize("horizon", [3, None])
@pytest.mark.parametrize("form", ["reward_to_go, b False", "gae, b True", "n_step 3, b True"])
def test_best_baselines_are_those_of_the_returns_that_reset(form, horizon):
    mdp = sometimes_paid(4, horizon=horizon)
    policy = random_policy(4, mdp, features=2)
    b, v = random_tables(4, mdp, timed=horizon is not None)
    estimator = dict(every_resetting_estimator(b, v, 0.8, 0.6))[form]

    def variance(table):
        return moments(mdp, policy, replace(estimator, baseline=baselines.table(table))).variance

    best = optimal_baseline(mdp, policy, estimator, "state" if horizon is None else "state_time")
    b = b * ~mdp.absorbing
    excess = np.sum(best.curvature * (b - best.values) ** 2)
    assert relative_error(best.variance + excess, variance(b)) <= 1e-10
    assert relative_error(excess_variance(mdp, policy, estimator), excess) <= 1e-10
    assert relative_error(variance(best.values), best.variance) <= 1e-10
    # one constant for each entry of the gradient is the best control variate of that entry
    control = optimal_baseline(mdp, policy, estimator, "per_parameter")
    assert control.variance <= optimal_baseline(mdp, policy, estimator, "constant").variance


# ----- whose gradient it is


def points_as_episodes(mdp):
    """The MDP in which every reward ends the episode: it leads to a new, absorbing state."""
    states = mdp.states
    ends = np.asarray(mdp.edges.rewards) != 0
    weights, successors = np.asarray(mdp.edges.weights), np.where(ends, states, mdp.successors)
    weights = np.where(mdp.absorbing[:, None, None], 0.0, weights)
    weights[mdp.absorbing, :, 0] = 1.0
    successors[mdp.absorbing, :, 0] = np.flatnonzero(mdp.absorbing)[:, None]
    stay = np.zeros((1, *weights.shape[1:]))
    stay[..., 0] = 1.0
    return FiniteMDP(
        Sparse(
            np.concatenate([successors, np.full_like(successors[:1], states)]),
            np.concatenate([weights, stay]),
        ),
        np.concatenate([mdp.edges.rewards, 0 * stay]),
        np.append(mdp.edges.initial, 0.0),
        mdp.horizon,
    )


def direction_of_points(mdp, policy, discount, *, kept):
    """Σ_t w_t E[z_t Q°_t(s_t, a_t)], with the visits of the whole game and Q° of its points."""
    whole = solve(mdp, policy, discount=discount)
    more = np.zeros((1, mdp.actions))  # the policy in the new state, where nothing matters
    of_points = SoftmaxPolicy.of(np.concatenate([policy.theta, more]))
    cut = solve(points_as_episodes(mdp), of_points, discount=discount)
    fading = discount ** np.arange(mdp.horizon) if kept else np.ones(mdp.horizon)
    with jax.enable_x64(True):
        pi, z = (np.asarray(x) for x in (policy.tabulate(mdp).probabilities, whole.scores.z))
    q = cut.action_values[:, : mdp.states]
    return np.einsum("t,ts,sa,sad,tsa->d", fading, whole.occupancy, pi, z, q)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("discount", [0.8, 1.0])
def test_its_mean_weighs_every_action_by_the_value_of_its_point(discount, kept):
    for seed in range(3):
        mdp = sometimes_paid(seed, horizon=4, absorbing=seed != 1)
        policy = random_policy(seed, mdp)
        want = direction_of_points(mdp, policy, discount, kept=kept)
        estimator = estimators.reward_to_go(
            discount=discount, discounted_states=kept, resets_at_rewards=True
        )
        assert relative_error(moments(mdp, policy, estimator).mean, want) <= TOLERANCE
        # with their exact value as critic nothing changes
        values = solve(points_as_episodes(mdp), padded(policy), discount=discount).values
        exact = baselines.table(values[:, : mdp.states])
        for make in (estimators.td, estimators.gae, estimators.n_step):
            bootstrapped = make(
                critic=exact, discount=discount, discounted_states=kept, resets_at_rewards=True
            )
            assert relative_error(moments(mdp, policy, bootstrapped).mean, want) <= TOLERANCE


def padded(policy):
    """The policy with a state more."""
    return SoftmaxPolicy.of(np.concatenate([policy.theta, np.zeros((1, policy.theta.shape[1]))]))


def game(*, loser_serves_worse, points=2):
    """A game of points of two steps: a serve, which leads to a good or a bad rally, and the rally,
    which is won (+1) or lost (−1). States: two serves, strong and weak, then the two rallies.

    Args:
        loser_serves_worse: whether the next serve depends on who won. If not, it is drawn anew.
        points: how many are played.
    """
    to_good = np.array([[0.9, 0.6], [0.5, 0.2]])  # of each serve and action
    won = np.array([[0.8, 0.5], [0.4, 0.1]])  # of each rally and action
    strong = {True: (0.9, 0.2), False: (0.5, 0.5)}[loser_serves_worse]  # after +1, after −1
    successors, weights, rewards = (np.zeros((4, 2, 4), dtype) for dtype in (int, float, float))
    successors[:2, :, :2], weights[:2, :, 0], weights[:2, :, 1] = (2, 3), to_good, 1 - to_good
    for reward, first, share in ((1.0, 0, won), (-1.0, 2, 1 - won)):
        next_strong = strong[0 if reward > 0 else 1]
        rewards[2:, :, first : first + 2] = reward
        successors[2:, :, first : first + 2] = (0, 1)
        weights[2:, :, first], weights[2:, :, first + 1] = (
            share * next_strong,
            share * (1 - next_strong),
        )
    mdp = FiniteMDP(Sparse(successors, weights), rewards, [0.5, 0.5, 0, 0], 2 * points)
    return mdp, SoftmaxPolicy.of(np.array([[0.3, -0.2], [-0.4, 0.1], [0.2, 0.5], [0.0, -0.6]]))


@pytest.mark.slow
def test_it_is_the_gradient_where_a_point_does_not_change_what_follows_it():
    plain = estimators.reward_to_go()
    resets = estimators.reward_to_go(resets_at_rewards=True)
    mdp, policy = game(loser_serves_worse=False)
    exact = moments(mdp, policy, resets)
    assert relative_error(exact.mean, exact.gradient) <= TOLERANCE
    # and it is for this that one takes it: the points that follow add noise alone
    assert exact.variance < 0.7 * moments(mdp, policy, plain).variance

    mdp, policy = game(loser_serves_worse=True)
    exact = moments(mdp, policy, resets)
    assert relative_error(moments(mdp, policy, plain).mean, exact.gradient) <= TOLERANCE
    assert relative_error(exact.mean, exact.gradient) > 0.05
    assert relative_error(exact.mean, direction_of_points(mdp, policy, 1.0, kept=False)) <= 1e-12


def test_one_point_is_an_episode_of_its_own():
    mdp, policy = game(loser_serves_worse=True, points=1)
    one, other = (
        moments(mdp, policy, estimators.reward_to_go(resets_at_rewards=x), covariance=True)
        for x in (False, True)
    )
    assert relative_error(one.covariance, other.covariance) <= TOLERANCE


# ----- what is refused


def test_random_rewards_are_refused_and_named():
    mdp = random_mdp(1)
    policy = random_policy(1, mdp)
    with pytest.raises(ValueError, match=r"where a reward is random: the transition from state \d"):
        moments(mdp, policy, estimators.reward_to_go(resets_at_rewards=True))
    moments(mdp, policy, estimators.reward_to_go())
    # of a transition that is never taken nothing has to be known
    quiet = sometimes_paid(1)
    variance = np.zeros((3, 2, 3))
    never = np.array(quiet.transitions)
    never[0, 0] = [0.0, 0.5, 0.5]
    variance[0, 0, 0] = 1.0
    unused = replace(quiet, transitions=never, reward_variance=variance)
    moments(unused, policy, estimators.reward_to_go(resets_at_rewards=True))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SaysNothing(LambdaReturn):
    """Its returns reset, and its coupling does not say so."""

    def returns(self, steps, discount):
        return ResetAtRewards(LambdaReturn(self.gae_lambda)).returns(steps, discount)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SaysTooMuch(LambdaReturn):
    """Its coupling says that its returns reset, and they do not."""

    def coupling(self, horizon):
        return super().coupling(horizon)._replace(resets_at_rewards=True)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OnlyGains(LambdaReturn):
    """It resets where something is won, and not where something is lost."""

    def returns(self, steps, discount):
        ends = steps.terminated | (steps.rewards > 0)
        return super().returns(steps._replace(terminated=ends), discount)

    def coupling(self, horizon):
        return super().coupling(horizon)._replace(resets_at_rewards=True)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StopsShort(LambdaReturn):
    """It resets everywhere, at rewards and where there is none."""

    def returns(self, steps, discount):
        return steps.rewards

    def coupling(self, horizon):
        return super().coupling(horizon)._replace(resets_at_rewards=True)


@pytest.mark.parametrize("horizon", [3, None])
@pytest.mark.parametrize("form", [SaysNothing, SaysTooMuch, OnlyGains, StopsShort])
def test_a_form_that_resets_otherwise_than_it_says_is_refused(form, horizon):
    mdp = sometimes_paid(1, horizon=horizon)
    policy = random_policy(1, mdp)
    with pytest.raises(ValueError, match=f"{form.__name__} disagrees with itself"):
        moments(mdp, policy, Estimator(form(0.9), baselines.none(), None, 0.9))

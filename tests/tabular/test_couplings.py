"""Return forms of one's own: exact moments, and what is refused where there are none."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad import baselines, estimators, scores
from policygrad.gradients.baselines import Baseline, StateBaseline
from policygrad.gradients.forms import Coupling, Form, LambdaReturn, TotalReturn
from policygrad.gradients.weights import Estimator, EstimatorState
from policygrad.maths.returns import lambda_returns
from policygrad.tabular import enumerate_trajectories, moments, optimal_baseline
from tests.tabular.forms import RenormalisedLambda
from tests.tabular.oracle import (
    batches,
    brute_force,
    random_mdp,
    random_policy,
    random_tables,
    relative_error,
)

TOLERANCE = 1e-10


def own_estimator(mdp, seed=2, *, kept=True, lam=0.7, **options):
    b, v = random_tables(seed, mdp)
    made = {"baseline": baselines.table(b), "critic": baselines.table(v)} | options
    form = RenormalisedLambda(lam, mdp.horizon)
    return Estimator(form, made["baseline"], made["critic"], 0.9, discounted_states=kept)


@pytest.fixture(scope="module")
def task():
    mdp = random_mdp(1)
    return mdp, random_policy(2, mdp, features=2)


@pytest.mark.parametrize("kept", [False, True])
def test_a_form_that_depends_on_the_time_has_the_moments_of_enumeration(task, kept):
    mdp, policy = task
    paths = enumerate_trajectories(mdp, policy)
    for lam in (0.0, 0.7):
        estimator = own_estimator(mdp, kept=kept, lam=lam)
        exact = moments(mdp, policy, estimator, covariance=True)
        for name, want in brute_force(paths, mdp, policy, estimator).items():
            assert relative_error(getattr(exact, name), want) <= TOLERANCE, (lam, name)
    # and it is no other form: at λ = 0.7 the longest return weighs less
    gae = replace(own_estimator(mdp, kept=kept), form=LambdaReturn(0.7))
    assert relative_error(moments(mdp, policy, gae).variance, exact.variance) > 1e-3


def test_it_has_those_moments_in_training(task):
    mdp, policy = task
    estimator = own_estimator(mdp)
    paths = enumerate_trajectories(mdp, policy)
    with jax.enable_x64(True):
        record = paths.trajectories()
        state = estimator.init(jax.random.key(0), jnp.zeros((), int))
        psi = estimator.weights(state, record).psi
        g = np.asarray(scores.episode_gradients(policy, record, psi).theta)
    exact = moments(mdp, policy, estimator, covariance=True)
    mean = paths.probabilities @ g
    assert relative_error(mean, exact.mean) <= TOLERANCE
    covariance = (paths.probabilities[:, None] * (g - mean)).T @ (g - mean)
    assert relative_error(covariance, exact.covariance) <= TOLERANCE


def test_it_has_leave_one_out_batches_and_an_optimal_baseline():
    mdp = random_mdp(6, horizon=2, noisy=False)
    policy = random_policy(7, mdp, features=2)
    estimator = own_estimator(mdp, baseline=baselines.leave_one_out())
    paths = enumerate_trajectories(mdp, policy)
    mean, covariance = batches(paths, mdp, policy, estimator, 2)
    exact = moments(mdp, policy, estimator, covariance=True)
    assert relative_error(exact.mean, mean) <= TOLERANCE
    assert relative_error(exact.covariance, covariance) <= TOLERANCE
    trace = moments(mdp, policy, estimator).variance
    assert relative_error(trace, np.trace(covariance)) <= TOLERANCE

    best = optimal_baseline(mdp, policy, estimator)

    def variance(table):
        return moments(mdp, policy, replace(estimator, baseline=baselines.table(table))).variance

    assert relative_error(variance(best.values), best.variance) <= TOLERANCE
    rng = np.random.default_rng(0)
    for size in (1e-3, 1.0):
        assert variance(best.values + size * rng.normal(size=best.values.shape)) > best.variance


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TwoCoupled(Form):
    """The λ-return as the last of two returns that are coupled both ways."""

    trace: float = 0.2

    def returns(self, steps, discount):
        def one(after, row):
            reward, value, over = row
            now = reward + discount * jnp.where(
                over, 0.0, self.bootstrap * value + self.mix @ after
            )
            return now, now[-1]

        over = steps.terminated
        return jax.lax.scan(one, jnp.zeros(2), (*steps[:2], over), reverse=True)[1]

    @property
    def mix(self):
        return jnp.array([[0.1, self.trace], [0.3, 0.4]])

    @property
    def bootstrap(self):
        return jnp.array([1.0, 0.5])

    def coupling(self, horizon):
        return Coupling(np.asarray(self.mix), np.asarray(self.bootstrap))


@pytest.mark.slow
def test_coupled_returns_need_a_horizon_unless_they_run_out():
    mdp = random_mdp(3)
    estimator = replace(own_estimator(mdp), form=TwoCoupled())
    policy = random_policy(4, mdp, features=2)
    paths = enumerate_trajectories(mdp, policy)
    with jax.enable_x64(True):
        record = paths.trajectories()
        psi = estimator.weights(estimator.init(jax.random.key(0), jnp.zeros((), int)), record).psi
        g = np.asarray(scores.episode_gradients(policy, record, psi).theta)
    exact = moments(mdp, policy, estimator)
    mean = paths.probabilities @ g
    assert relative_error(mean, exact.mean) <= TOLERANCE
    spread = paths.probabilities @ ((g - mean) ** 2).sum(1)
    assert relative_error(exact.variance, spread) <= TOLERANCE
    b, v = random_tables(5, mdp, timed=False)
    steady = Estimator(TwoCoupled(), baselines.table(b), baselines.table(v), 0.9)
    with pytest.raises(ValueError, match=r"vanish at its p-th power.*give the MDP a horizon"):
        moments(replace(mdp, horizon=None), policy, steady)


class Silent(Form):
    """A form that does not say how its returns are coupled."""

    def returns(self, steps, discount):
        return steps.rewards


class OfTheEpisode(TotalReturn):
    """The square of the return, which no recursion of the laboratory knows."""

    def returns(self, steps, discount):
        return super().returns(steps, discount) ** 2


class Wrong(LambdaReturn):
    """A form whose returns changed, and whose coupling did not."""

    def returns(self, steps, discount):
        return super().returns(steps, discount) + 0.1 * steps.rewards


class ToItsEnd(RenormalisedLambda):
    """The steps that remain are counted to the episode's own end, which no time tells."""

    def returns(self, steps, discount):
        remaining = jnp.argmax(steps.terminated) + 1 - jnp.arange(self.horizon)
        m = jnp.maximum(remaining, 1)
        factors = self.gae_lambda * (1 - self.gae_lambda ** (m - 1)) / (1 - self.gae_lambda**m)
        return lambda_returns(*steps, discount=discount, gae_lambda=factors)


class Misshapen(Form):
    """A coupling with a row too many."""

    def returns(self, steps, discount):
        return steps.rewards

    def coupling(self, horizon):
        return Coupling(np.zeros((4, 1, 1)), np.zeros(1))


for form in (Silent, OfTheEpisode, Wrong, ToItsEnd, Misshapen):
    jax.tree_util.register_dataclass(dataclass(frozen=True)(form))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (Silent(), "Silent has no exact form: it does not say how its returns are coupled"),
        (OfTheEpisode(), "only total_return has one"),
        (
            Wrong(0.5),
            "Wrong disagrees with itself: at step 2 of an episode that ends after 3 of 3",
        ),
        (ToItsEnd(0.7, 3), "with itself: at step 0 of an episode that ends after 2 of 3 steps"),
        (Misshapen(), r"needs a trace \[p, p\].*or 3 rows of each; got shapes \(4, 1, 1\)"),
    ],
)
def test_a_form_without_an_exact_form_is_refused(task, form, message):
    mdp, policy = task
    with pytest.raises(ValueError, match=message):
        moments(mdp, policy, Estimator(form, baselines.none(), None, 0.9))


def test_the_two_agree_where_every_episode_lasts_as_long_as_the_horizon():
    mdp = random_mdp(1, absorbing=False)
    policy = random_policy(2, mdp, features=2)
    one, other = (
        moments(mdp, policy, Estimator(form(0.7, 3), baselines.none(), None, 0.9)).variance
        for form in (ToItsEnd, RenormalisedLambda)
    )
    assert one == other


def test_a_form_that_depends_on_the_time_needs_a_horizon(task):
    mdp, policy = task
    form = RenormalisedLambda(0.7, 3)
    estimator = Estimator(form, baselines.none(), None, 0.9, discounted_states=True)
    with pytest.raises(ValueError, match="has no exact form"):
        moments(replace(mdp, horizon=None), policy, estimator)

    @jax.tree_util.register_dataclass
    @dataclass(frozen=True)
    class Always(RenormalisedLambda):
        def coupling(self, horizon):
            return super().coupling(self.horizon)

    timed = replace(estimator, form=Always(0.7, 3))
    with pytest.raises(ValueError, match=r"no rows without a horizon.*give the MDP a horizon"):
        moments(replace(mdp, horizon=None), policy, timed)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Slope(StateBaseline):
    """b(s, t) = a s + t: numbers of its own, or those that are passed, or none at all."""

    given: float | None = None

    def init(self, key, observation):
        return jnp.zeros(())

    def value(self, state, observation, time):
        return state * observation + time

    def given_state(self):
        return None if self.given is None else jnp.asarray(self.given, float)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Stateless(Slope):
    """The same with nothing to fit."""

    def init(self, key, observation):
        return ()

    def value(self, state, observation, time):
        return 0.3 * observation + time


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Median(Baseline):
    """The median of the batch, which couples its episodes."""

    couples_episodes = True

    def init(self, key, observation):
        return ()

    def predict(self, state, trajectories, returns):
        return jnp.broadcast_to(jnp.median(returns, axis=1, keepdims=True), returns.shape)


def test_a_baseline_of_ones_own_is_tabulated_from_its_numbers(task):
    mdp, policy = task
    table = 0.3 * np.arange(mdp.states) + np.arange(mdp.horizon)[:, None]
    want = moments(mdp, policy, estimators.reward_to_go(baseline=baselines.table(table)))
    passed = EstimatorState(jnp.asarray(0.3), ())
    for baseline, state in ((Slope(0.3), None), (Slope(), passed), (Stateless(), None)):
        exact = moments(mdp, policy, estimators.reward_to_go(baseline=baseline), state)
        assert relative_error(exact.variance, want.variance) <= 1e-6, type(baseline)
    with pytest.raises(ValueError, match="the baseline Slope has to be fitted: pass its state"):
        moments(mdp, policy, estimators.reward_to_go(baseline=Slope()))
    with pytest.raises(ValueError, match="baseline Median has no exact form: it is no function of"):
        moments(mdp, policy, estimators.reward_to_go(baseline=Median()))

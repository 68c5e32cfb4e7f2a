from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad import baselines, estimators
from policygrad.core.trajectories import Trajectories
from policygrad.gradients.baselines.base import FitBatch
from policygrad.gradients.minibatches import shuffled_minibatches
from tests.records import random_episodes, random_segments

KEY = jax.random.key(0)


def initial(baseline, record):
    return baseline.init(KEY, record.observations[0, 0])


def batch(record, targets, weights):
    return FitBatch(None, record, targets, weights, jnp.ones_like(weights))


def fit(baseline, record, targets, state=None, weights=None):
    state = initial(baseline, record) if state is None else state
    weights = record.valid.astype(jnp.float32) if weights is None else weights
    return fit_of(baseline, state, record, jnp.asarray(targets, jnp.float32), weights)


@jax.jit
def fit_of(baseline, state, record, targets, weights):
    return baseline.fit(state, KEY, batch(record, targets, weights))


def predict(baseline, state, record):
    return np.asarray(predict_of(baseline, state, record))


@jax.jit
def predict_of(baseline, state, record):
    return baseline.predict(state, record, jnp.zeros_like(record.rewards))


ALL = {
    "none": baselines.none(),
    "constant": baselines.constant(),
    "time": baselines.time_dependent(horizon=20),
    "linear": baselines.linear_features(),
    "network": baselines.value_network((8,), epochs=2),
    "classifier": baselines.value_classifier((8,), epochs=2),
}
every_baseline = pytest.mark.parametrize("baseline", ALL.values(), ids=ALL)


# ----- every baseline


@every_baseline
def test_fit_leaves_the_state_that_was_used_alone(baseline):
    record = random_segments()
    state = initial(baseline, record)
    kept, before = jax.tree.map(np.array, state), predict(baseline, state, record)
    fitted = fit(baseline, record, 5 + record.rewards, state)
    jax.tree.map(np.testing.assert_array_equal, state, kept)
    np.testing.assert_array_equal(predict(baseline, state, record), before)
    changed = not np.allclose(predict(baseline, fitted, record), before)
    assert changed == (baseline != ALL["none"])


@every_baseline
def test_rows_that_are_no_transition_are_not_fitted(baseline):
    record = random_episodes(lengths=(2, 5, 3))
    noise = jnp.where(record.valid, 0.0, 100.0)
    targets = jnp.where(record.valid, record.observations[..., 0], 0.0)
    clean = fit(baseline, record, targets)
    other = replace(record, observations=record.observations + noise[..., None])
    dirty = fit(baseline, other, targets + noise)
    for ours, theirs in zip(jax.tree.leaves(dirty), jax.tree.leaves(clean), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


class OfTheShares(eqx.Module):
    """Of the shares x / Σ x, which are NaN where no observation is."""

    weight: jax.Array

    def __call__(self, features):
        return self.weight @ (features / features.sum())


@dataclass(frozen=True)
class Shares:
    def build(self, key, example, outputs, *, last_scale=1.0):
        return OfTheShares(jax.random.normal(key, (outputs, len(example))))

    def to_json(self):
        return {}


@pytest.mark.parametrize("mostly_padding", [False, True])
@every_baseline
def test_rows_that_are_no_transition_may_hold_nan(baseline, mostly_padding):
    """As a critic's value of such a row may be, and so the target."""
    record = replace(random_episodes(lengths=(2, 5, 3)), mostly_padding=mostly_padding)
    targets = jnp.where(record.valid, record.observations[..., 0], 0.0)
    nan = jnp.where(record.valid, 0.0, jnp.nan)
    other = replace(record, observations=record.observations + nan[..., None])
    state = initial(baseline, record)
    clean = fit(baseline, record, targets, state)
    dirty = fit(baseline, other, targets + nan, state)
    jax.tree.map(np.testing.assert_array_equal, dirty, clean)


@pytest.mark.parametrize("mostly_padding", [False, True])
@pytest.mark.parametrize("make", [baselines.value_network, baselines.value_classifier])
def test_padding_need_not_be_an_observation(make, mostly_padding):
    """The zeros behind an episode, and those that fill a chunk up."""
    record = random_episodes(lengths=(2, 5, 3))
    seen = jnp.where(record.valid[..., None], 1 + jnp.abs(record.observations), 0.0)
    record = replace(record, observations=seen, mostly_padding=mostly_padding)
    critic = make(network=Shares(), epochs=1, minibatches=2, encode=unchanged)
    estimator = estimators.reward_to_go(baseline=critic)
    state = estimator.init(KEY, record.observations[0, 0])
    weights = estimator.weights(state, record)
    fitted, explained = jax.jit(estimator.fit)(state, KEY, None, record, weights.returns)
    before, after = state.baseline, fitted.baseline
    if make is baselines.value_classifier:
        before, after = before.fitted, after.fitted
    assert np.all(np.isfinite(after.network.weight))
    assert np.isfinite(explained)
    assert not np.array_equal(after.network.weight, before.network.weight)


def unchanged(observation):
    return observation


unchanged.normalised = (False,)


@every_baseline
def test_jit_equals_eager_and_values_equal_value(baseline):
    record = random_segments()
    targets, weights = record.observations[..., 0], jnp.ones_like(record.rewards)
    state = fit(baseline, record, targets)
    eager = baseline.fit(initial(baseline, record), KEY, batch(record, targets, weights))
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(eager), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    one = baseline.value(state, record.observations[4, 2], record.times[4, 2])
    np.testing.assert_allclose(predict(baseline, state, record)[4, 2], one, rtol=1e-5, atol=1e-6)


def test_only_estimates_of_a_value_may_bootstrap():
    may = {name for name, b in ALL.items() if b.may_bootstrap}
    assert may == {"linear", "network", "classifier"}
    assert not hasattr(baselines.leave_one_out(), "value")


# ----- simple ones


def test_constant_is_zero_then_the_mean_of_the_batch_before():
    record, baseline = random_episodes(lengths=(1, 3)), baselines.constant()
    state = initial(baseline, record)
    np.testing.assert_array_equal(predict(baseline, state, record), 0)
    targets = np.array([[1.0, 2.0], [99.0, 3.0], [99.0, 6.0]])  # the 99 are padding
    state = fit(baseline, record, targets, state)
    np.testing.assert_allclose(predict(baseline, state, record), 3.0)
    state = fit(baseline, record, targets, weights=jnp.array([[3.0, 1.0], [0, 0], [0, 0]]))
    np.testing.assert_allclose(state, 1.25)


def test_a_given_constant_stays():
    record, baseline = random_segments(), baselines.constant(-4.5)
    state = fit(baseline, record, record.rewards)
    np.testing.assert_array_equal(predict(baseline, state, record), -4.5)


def test_time_dependent_is_the_mean_of_each_time():
    record = random_episodes(lengths=(1, 3))
    baseline = baselines.time_dependent(horizon=10)
    state = initial(baseline, record)
    np.testing.assert_array_equal(predict(baseline, state, record), 0)
    targets = np.array([[1.0, 2.0], [99.0, 3.0], [99.0, 6.0]])
    state = fit(baseline, record, targets, state)
    np.testing.assert_allclose(state[:4], [1.5, 3, 6, 0])
    shorter = random_episodes(lengths=(2, 2))
    state = fit(baseline, shorter, np.full((2, 2), 7.0), state)
    np.testing.assert_allclose(state[:4], [7, 7, 6, 0])  # what was not reached keeps what it had


def test_times_beyond_the_horizon_share_the_last_entry():
    record, baseline = random_episodes(lengths=(5,)), baselines.time_dependent(horizon=3)
    state = fit(baseline, record, np.array([[1.0], [2.0], [3.0], [4.0], [8.0]]))
    np.testing.assert_allclose(predict(baseline, state, record)[:, 0], [1, 2, 5, 5, 5])


def test_leave_one_out_is_the_mean_of_the_others():
    baseline, record = baselines.leave_one_out(), random_episodes(lengths=(2, 2, 2))
    returns = jnp.array([[1.0, 2.0, 6.0], [0.0, 10.0, 20.0]])
    b = baseline.predict((), record, returns)
    np.testing.assert_allclose(b, [[4, 3.5, 1.5], [15, 10, 5]])
    own = jax.jacobian(lambda r: baseline.predict((), record, r))(returns)
    for n in range(3):
        np.testing.assert_array_equal(own[:, n, :, n], 0)
    assert baseline.couples_episodes


def test_leave_one_out_needs_others():
    record = random_episodes(lengths=(3,))
    with pytest.raises(ValueError, match="at least 2 episodes a batch, got 1"):
        baselines.leave_one_out().predict((), record, record.rewards)


def test_leave_one_out_reads_an_episode_that_is_over_as_nothing_more_to_come():
    record = replace(random_episodes(lengths=(1, 3)), rewards=jnp.array([[5.0, 1], [0, 1], [0, 1]]))
    estimator = estimators.reward_to_go(baseline=baselines.leave_one_out())
    weights = estimator.weights(estimator.init(KEY, 0), record)
    np.testing.assert_allclose(weights.psi, [[5 - 3, 3 - 5], [0, 2 - 0], [0, 1 - 0]])
    estimator = estimators.total_return(baseline=baselines.leave_one_out())
    weights = estimator.weights(estimator.init(KEY, 0), record)
    np.testing.assert_allclose(weights.psi, [[5 - 3, 3 - 5], [0, 3 - 5], [0, 3 - 5]])


# ----- regressions


def long_record(observations, times):
    """A record of whole episodes that holds nothing but what a regression reads."""
    shape = times.shape
    no = jnp.zeros(shape, bool)
    return Trajectories(
        observations=jnp.asarray(observations, jnp.float32),
        actions=no,
        rewards=jnp.zeros(shape),
        terminated=no,
        truncated=no,
        valid=~no,
        times=jnp.asarray(times),
        log_probs=jnp.zeros(shape),
        cut_observations=jnp.zeros((1, *np.shape(observations)[1:])),
        cut_times=jnp.zeros((1, shape[1]), int),
        whole_episodes=True,
    )


def thousand_steps(episodes=4):
    rng = np.random.default_rng(0)
    times = np.tile(np.arange(1000)[:, None], (1, episodes))
    return rng.normal(size=(1000, episodes, 2)), times


def relative_error(baseline, state, record, targets):
    error = predict(baseline, state, record) - targets
    return np.sqrt(np.mean(error**2)) / targets.std()


@pytest.mark.parametrize(
    "term",
    [
        lambda s, t: 2 * s[..., 0] - s[..., 1] ** 2 / 2,
        lambda s, t: t / 10.0,
        lambda s, t: 1e-6 * t**3 - 2e-3 * t**2 + t,
        lambda s, t: 300 + 40 * s[..., 1] + 3e-4 * t**2 - 2e-7 * t**3,
    ],
)
def test_linear_features_fit_their_own_polynomials(term):
    observations, times = thousand_steps()
    record, targets = long_record(observations, times), term(observations, times.astype(float))
    baseline = baselines.linear_features()
    assert relative_error(baseline, fit(baseline, record, targets), record, targets) < 2e-3


def test_linear_features_equal_weighted_least_squares():
    observations, times = thousand_steps()
    rng = np.random.default_rng(1)
    targets, weights = rng.normal(size=times.shape), rng.random(times.shape)
    record, baseline = long_record(observations, times), baselines.linear_features(ridge=1e-9)
    state = fit(baseline, record, targets, weights=jnp.asarray(weights, jnp.float32))
    s, t = observations.reshape(-1, 2), times.reshape(-1, 1) / 1000
    x = np.hstack([np.ones_like(t), s, s**2 / 2, t, t**2, t**3])
    root = np.sqrt(weights.reshape(-1))
    beta = np.linalg.lstsq(x * root[:, None], targets.reshape(-1) * root, rcond=None)[0]
    np.testing.assert_allclose(predict(baseline, state, record).reshape(-1), x @ beta, atol=2e-3)


def test_linear_features_are_zero_before_they_are_fitted():
    record = random_segments()
    baseline = baselines.linear_features()
    np.testing.assert_array_equal(predict(baseline, initial(baseline, record), record), 0)


@pytest.mark.parametrize("kind", ["collinear", "constant", "duplicate and far away"])
def test_linear_features_of_degenerate_observations(kind):
    observations, times = thousand_steps()
    s = {
        "collinear": np.stack([observations[..., 0], 3 * observations[..., 0]], axis=-1),
        "constant": np.full_like(observations, 12.3),
        "duplicate and far away": np.repeat(100 + observations[..., :1], 2, axis=-1),
    }[kind]
    targets = 5 * observations[..., 0] * (kind != "constant") + 0.1 * times
    record, baseline = long_record(s, times), baselines.linear_features()
    state = fit(baseline, record, targets)
    assert all(np.isfinite(leaf).all() for leaf in state)
    assert relative_error(baseline, state, record, targets) < 0.01


def test_linear_features_of_one_row_and_of_none():
    record = random_episodes(lengths=(1,))
    baseline = baselines.linear_features()
    one = fit(baseline, record, np.array([[3.0]]))
    np.testing.assert_allclose(predict(baseline, one, record), 3.0)
    none = fit(baseline, record, np.array([[3.0]]), weights=jnp.zeros((1, 1)))
    assert np.isfinite(predict(baseline, none, record)).all()


def test_value_network_reduces_its_loss_with_every_fit():
    rng = np.random.default_rng(0)
    record = long_record(rng.normal(size=(128, 4, 2)), np.zeros((128, 4), int))
    targets = np.sin(2 * np.asarray(record.observations[..., 0]))
    baseline = baselines.value_network((32,), step_size=1e-2)
    state = initial(baseline, record)
    errors = [relative_error(baseline, state, record, targets)]
    refit = jax.jit(baseline.fit)
    rows = batch(record, jnp.asarray(targets), record.valid * 1.0)
    for i in range(3):
        state = refit(state, jax.random.key(i), rows)
        errors.append(relative_error(baseline, state, record, targets))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.9
    assert errors[-1] < errors[0] / 2


def test_value_network_sees_statistics_of_valid_rows_only_after_the_fit():
    record = random_episodes(lengths=(2, 5, 3))
    baseline = baselines.value_network((4,), epochs=1)
    before = initial(baseline, record)
    after = fit(baseline, record, record.rewards, before)
    np.testing.assert_array_equal(before.normaliser.statistics.value.mean, 0)
    rows = np.asarray(record.observations)[np.asarray(record.valid)]
    np.testing.assert_allclose(after.normaliser.statistics.value.mean, rows.mean(axis=0), rtol=1e-4)


def test_minibatches_pass_over_every_row_once_an_epoch():
    rows = np.asarray(shuffled_minibatches(KEY, rows=12, epochs=3, minibatches=4))
    assert rows.shape == (12, 3)
    for epoch in rows.reshape(3, 12):
        assert sorted(epoch) == list(range(12))
    assert shuffled_minibatches(KEY, rows=2, epochs=1, minibatches=4).shape == (2, 1)
    assert shuffled_minibatches(KEY, rows=11, epochs=1, minibatches=4).shape == (4, 2)


# ----- ranges


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (lambda x: baselines.time_dependent(horizon=x), "horizon", 0),
        (lambda x: baselines.linear_features(ridge=x), "ridge", 0.0),
        (lambda x: baselines.linear_features(ridge=x), "ridge", -1.0),
        (lambda x: baselines.value_network((64, x)), "hidden", 0),
        (lambda x: baselines.value_network(step_size=x), "step_size", -0.1),
        (lambda x: baselines.value_network(step_size=x), "step_size", float("inf")),
        (lambda x: baselines.value_network(epochs=x), "epochs", 0),
        (lambda x: baselines.value_network(minibatches=x), "minibatches", 0),
    ],
)
def test_ranges(make, name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*, got {name}={value}"):
        make(value)

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad import baselines, estimators
from policygrad.gradients.forms import LambdaReturn, ResetAtRewards
from policygrad.gradients.normalisation import explained_variance, rescale, standardise
from policygrad.gradients.scores import episode_gradients, policy_gradient
from tests.records import (
    FirstFeature,
    Table,
    insert_reset_rows,
    random_episodes,
    random_segments,
    trajectories,
)
from tests.toy import (
    Softmax,
    Toy,
    enumerate_trajectories,
    exact_values,
    random_logits,
    true_gradient,
)

DISCOUNT = 0.8
KEY = jax.random.key(0)


# ----- the mean of enumerated trajectories


@pytest.fixture(scope="module")
def toy():
    return Toy.random(horizon=3)


@pytest.fixture(scope="module")
def enumerated(toy):
    with jax.enable_x64(True):
        return enumerate_trajectories(toy, random_logits(toy))


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@jax.jit
def gradient_per_episode(estimator, state, record, policy):
    return episode_gradients(policy, record, estimator.weights(state, record).psi).logits


def mean_gradient(estimator, state, toy, enumerated):
    """E ĝ over all trajectories, by the code that trains."""
    record, probabilities = enumerated
    policy = Softmax(jnp.asarray(random_logits(toy)))
    gradients = gradient_per_episode(estimator, state, record, policy)
    return np.tensordot(probabilities, np.asarray(gradients), 1)


def assert_mean_is_the_gradient(estimator, state, toy, enumerated, discount=DISCOUNT):
    expected = true_gradient(toy, random_logits(toy), discount)
    assert abs(expected).max() > 0.1
    actual = mean_gradient(estimator, state, toy, enumerated)
    np.testing.assert_allclose(actual, expected, atol=1e-12)


@cache
def fitted(name, horizon=3):
    """The state of an estimator whose baseline was fitted to other numbers than the returns."""
    toy = Toy.random(horizon)
    record, _ = enumerate_trajectories(toy, random_logits(toy))
    estimator = estimators.total_return(baseline=BASELINES[name])
    targets = jax.random.normal(KEY, record.rewards.shape) + record.observations - record.times
    state = estimator.init(KEY, record.observations[0, 0])
    return jax.jit(estimator.fit)(state, KEY, None, record, targets)[0]


FORMS = {
    "E3": partial(estimators.total_return, discount=DISCOUNT),
    "E4": partial(estimators.reward_indexed, discount=DISCOUNT),
    "E5": partial(estimators.reward_to_go, discount=DISCOUNT, discounted_states=True),
}
BASELINES = {
    "absent": None,
    "given": baselines.constant(7.5),
    "constant": baselines.constant(),
    "time": baselines.time_dependent(horizon=2),
    "linear": baselines.linear_features(),
    "network": baselines.value_network((4,), epochs=1, minibatches=1),
    "classifier": baselines.value_classifier((4,), epochs=1, minibatches=1),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms_are_unbiased_with_every_baseline(form, baseline, toy, enumerated):
    estimator = form(baseline=BASELINES[baseline])
    assert_mean_is_the_gradient(estimator, fitted(baseline), toy, enumerated)


@pytest.mark.usefixtures("float64")
def test_undiscounted_reward_to_go_is_unbiased(toy, enumerated):
    estimator = estimators.reward_to_go(baseline=BASELINES["time"])
    assert_mean_is_the_gradient(estimator, fitted("time"), toy, enumerated, discount=1.0)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("of", [1.0, DISCOUNT])
def test_dropping_the_discount_of_states_is_biased(of, toy, enumerated):
    estimator = estimators.reward_to_go(discount=DISCOUNT)
    actual = mean_gradient(estimator, estimator.init(KEY, 0), toy, enumerated)
    assert abs(actual - true_gradient(toy, random_logits(toy), of)).max() > 0.01


BOOTSTRAPPING = {
    "gae 0": partial(estimators.gae, gae_lambda=0.0),
    "gae 0.6": partial(estimators.gae, gae_lambda=0.6),
    "gae 1": partial(estimators.gae, gae_lambda=1.0),
    "td": estimators.td,
    "n-step 2": partial(estimators.n_step, n=2),
    "to go": estimators.reward_to_go,
}
UNBIASED_WITH_ANY_CRITIC = ("gae 1", "to go")


def with_critic(make, values, discount, **options):
    """The estimator with V_t(s) in a table, and its state."""
    estimator = make(critic=Table(), discount=discount, discounted_states=True, **options)
    return estimator, estimators.EstimatorState((), jnp.asarray(values))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("discount", [1.0, DISCOUNT])
@pytest.mark.parametrize("time_limit", ["terminates", "bootstraps"])
@pytest.mark.parametrize("make", BOOTSTRAPPING.values(), ids=BOOTSTRAPPING)
def test_an_exact_critic_leaves_no_bias(make, time_limit, discount, toy, enumerated):
    values = exact_values(
        toy, random_logits(toy), discount
    )  # zero at the horizon: both limits agree
    estimator, state = with_critic(make, values, discount, time_limit=time_limit)
    assert_mean_is_the_gradient(estimator, state, toy, enumerated, discount)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", BOOTSTRAPPING)
def test_a_wrong_critic_biases_all_but_monte_carlo(name, toy, enumerated):
    wrong = exact_values(toy, random_logits(toy), 1.0) + np.array([1.0, -1.0])
    estimator, state = with_critic(BOOTSTRAPPING[name], wrong, 1.0, time_limit="terminates")
    if name in UNBIASED_WITH_ANY_CRITIC:
        assert_mean_is_the_gradient(estimator, state, toy, enumerated, 1.0)
    else:
        bias = mean_gradient(estimator, state, toy, enumerated)
        bias = bias - true_gradient(toy, random_logits(toy), 1.0)
        assert abs(bias).max() > 0.01


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_leave_one_out_is_unbiased_over_pairs_of_episodes(form):
    toy = Toy.random(horizon=2)
    record, probabilities = enumerate_trajectories(toy, random_logits(toy))
    policy = Softmax(jnp.asarray(random_logits(toy)))
    estimator = form(baseline=baselines.leave_one_out())
    state = estimator.init(KEY, 0)

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None))
    @partial(jax.vmap, in_axes=(None, 0))
    def of_pair(i, j):
        pair = jax.tree.map(lambda x: x[:, jnp.stack([i, j])], record)
        return policy_gradient(policy, pair, estimator.weights(state, pair).psi).logits

    columns = jnp.arange(len(probabilities))
    mean = np.einsum("i,j,ijsa->sa", probabilities, probabilities, of_pair(columns, columns))
    expected = true_gradient(toy, random_logits(toy), DISCOUNT)
    np.testing.assert_allclose(mean, expected, atol=1e-12)


# ----- what weights consist of


def test_equations_of_every_form_on_one_episode():
    record = random_episodes(lengths=(3,))  # terminates, so that only V_1 and V_2 bootstrap
    r0, r1, r2 = np.asarray(record.rewards[:, 0])
    v0, v1, v2 = np.asarray(record.observations[:, 0, 0] + record.times[:, 0])
    g, lam = 0.9, 0.5
    d0, d1, d2 = r0 + g * v1 - v0, r1 + g * v2 - v1, r2 - v2
    expected = {
        estimators.total_return(discount=g): [r0 + g * r1 + g * g * r2] * 3,
        estimators.reward_indexed(discount=g): [
            r0 + g * r1 + g * g * r2,
            g * (r1 + g * r2),
            g * g * r2,
        ],
        estimators.reward_to_go(discount=g): [r0 + g * r1 + g * g * r2, r1 + g * r2, r2],
        estimators.n_step(n=2, discount=g, critic=FirstFeature()): [
            r0 + g * r1 + g * g * v2 - v0,
            r1 + g * r2 - v1,
            d2,
        ],
        estimators.td(discount=g, critic=FirstFeature()): [d0, d1, d2],
        estimators.gae(discount=g, gae_lambda=lam, critic=FirstFeature()): [
            d0 + g * lam * d1 + (g * lam) ** 2 * d2,
            d1 + g * lam * d2,
            d2,
        ],
    }
    for estimator, psi in expected.items():
        weights = weights_of(estimator, estimator.init(KEY, record.observations[0, 0]), record)
        np.testing.assert_allclose(weights.psi[:, 0], psi, rtol=1e-5, atol=1e-6)
        if not estimator.discounted_states:  # whose γ^t belongs to Ψ and not to the return
            difference = weights.returns - weights.baseline
            np.testing.assert_allclose(difference, weights.psi, rtol=1e-5, atol=1e-6)


CRITICAL = [
    estimators.gae(critic=FirstFeature(), gae_lambda=0.7),
    estimators.td(critic=FirstFeature()),
    estimators.n_step(critic=FirstFeature(), n=2),
    estimators.reward_to_go(critic=FirstFeature(), discount=0.9),
    estimators.gae(critic=FirstFeature(), baseline=baselines.constant(0.5)),
]
every_critical = pytest.mark.parametrize("estimator", CRITICAL, ids=lambda e: str(e.form))


@jax.jit
def weights_of(estimator, state, record):
    return estimator.weights(state, record)


def found_weights(estimator, record):
    state = estimator.init(KEY, jax.tree.map(lambda x: x[0, 0], record.observations))
    return weights_of(estimator, state, record)


def psi_of(estimator, record):
    return np.asarray(found_weights(estimator, record).psi)


@every_critical
@pytest.mark.parametrize("flag", ["terminated", "truncated"])
def test_reset_rows_leak_nothing(estimator, flag):
    no, ends = np.zeros((7, 1), bool), np.isin(np.arange(7), [2, 5])[:, None]
    flags = {"terminated": no, "truncated": no} | {flag: ends}
    rng = np.random.default_rng(0)
    record = trajectories(rng, **flags, valid=~no, whole_episodes=False)
    widened = insert_reset_rows(record, rng, [2, 5])
    psi, valid = psi_of(estimator, widened), np.asarray(widened.valid)
    assert (~valid).sum() == 2
    np.testing.assert_array_equal(psi[~valid], 0)
    np.testing.assert_allclose(psi[valid], psi_of(estimator, record)[:, 0], rtol=1e-5)


@every_critical
def test_padding_does_not_change_an_episode(estimator):
    lengths = (2, 4)  # the first terminates, the second is truncated
    batch = random_episodes(lengths=lengths)
    psi = psi_of(estimator, batch)
    np.testing.assert_array_equal(psi[~np.asarray(batch.valid)], 0)
    for n, length in enumerate(lengths):
        rows = jax.tree.map(lambda x, n=n: x[:, n : n + 1], batch)
        trimmed = replace(
            jax.tree.map(lambda x, k=length: x[:k], rows),
            cut_observations=rows.cut_observations,
            cut_times=rows.cut_times,
        )
        np.testing.assert_allclose(psi[:length, n], psi_of(estimator, trimmed)[:, 0], rtol=1e-5)


@every_critical
@pytest.mark.parametrize("flag", ["terminated", "truncated"])
def test_returns_that_reset_leak_nothing_and_bootstrap_where_a_point_is_cut(estimator, flag):
    resets = replace(estimator, form=ResetAtRewards(estimator.form))
    no, ends = np.zeros((7, 1), bool), np.isin(np.arange(7), [2, 5])[:, None]
    flags = {"terminated": no, "truncated": no} | {flag: ends}
    rng = np.random.default_rng(0)
    record = trajectories(rng, **flags, valid=~no, whole_episodes=False)
    paid = np.isin(np.arange(7), [1, 5])[:, None]
    record = replace(record, rewards=jnp.where(paid, record.rewards, 0.0))
    widened = insert_reset_rows(record, rng, [2, 5])
    psi, valid = psi_of(resets, widened), np.asarray(widened.valid)
    np.testing.assert_allclose(psi[valid], psi_of(resets, record)[:, 0], rtol=1e-5)
    # the points are steps 0–1, 2 and 3–5, as if each ended there; a record in which step 5 does has
    # a cut less, so that its last step finds another successor
    over = replace(record, terminated=record.terminated | paid)
    np.testing.assert_array_equal(psi_of(resets, record)[:6], psi_of(estimator, over)[:6])
    bootstraps = psi_of(resets, record) - psi_of(replace(resets, time_limit="terminates"), record)
    assert (bootstraps[2] != 0) == (flag == "truncated")  # the limit cuts a point
    np.testing.assert_array_equal(bootstraps[[0, 1, 5]], 0)  # a reward ended it


@every_critical
def test_time_limit_says_what_follows_a_truncation(estimator):
    record = random_episodes(lengths=(3, 3))  # the first terminates, the second is truncated
    bootstraps = psi_of(estimator, record)
    terminates = psi_of(replace(estimator, time_limit="terminates"), record)
    np.testing.assert_allclose(bootstraps[:, 0], terminates[:, 0], rtol=1e-6)
    value = record.cut_observations[0, 1, 0] + 3
    np.testing.assert_allclose(
        bootstraps[2, 1] - terminates[2, 1], estimator.discount * value, rtol=1e-4
    )


@every_critical
def test_jit_equals_eager_and_numbers_are_traced(estimator):
    traces = []

    @jax.jit
    def weights(estimator, record):
        traces.append(None)
        return psi_of_state(estimator, record)

    def psi_of_state(estimator, record):
        return estimator.weights(estimators.EstimatorState(jnp.asarray(0.5), ()), record).psi

    record = random_segments()
    for discount, gae_lambda in ((0.5, 0.0), (0.9, 0.3)):
        changed = replace(estimator, discount=discount)
        if isinstance(estimator.form, LambdaReturn):
            changed = replace(changed, form=LambdaReturn(gae_lambda))
        np.testing.assert_allclose(
            weights(changed, record), psi_of_state(changed, record), rtol=1e-5, atol=1e-5
        )
    assert len(traces) == 1


MAKES = {
    "total return": estimators.total_return,
    "reward-indexed": estimators.reward_indexed,
    "to go": estimators.reward_to_go,
    "n-step": partial(estimators.n_step, critic=FirstFeature()),
    "td": partial(estimators.td, critic=FirstFeature()),
    "gae": partial(estimators.gae, critic=FirstFeature()),
}
every_make = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)


@every_make
@pytest.mark.parametrize(
    "baseline", [baselines.constant(1.5), FirstFeature(), baselines.leave_one_out()], ids=repr
)
def test_advantages_beside_a_baseline_are_standardised_where_it_is_asked_for(make, baseline):
    record = random_episodes()
    plain, normalised = (make(baseline=baseline, normalise_advantages=x) for x in (False, True))
    assert (plain.normalise_advantages, normalised.normalise_advantages) == (False, True)
    found = found_weights(plain, record)
    expected = standardise(found.psi, record.valid, found.returns)
    np.testing.assert_allclose(psi_of(normalised, record), expected, rtol=1e-4, atol=1e-6)


@every_make
def test_an_estimator_subtracts_its_baseline_or_else_the_values_of_its_critic(make):
    assert make().subtracts == (make().critic is not None)
    assert not make(baseline=baselines.none()).subtracts
    assert make(baseline=baselines.constant(0.0)).subtracts


@every_make
def test_without_a_baseline_normalised_advantages_keep_the_direction(make):
    """Nothing is subtracted: the gradient is the plain one times one positive number."""
    record = random_episodes()
    plain, normalised = (
        psi_of(make(baseline=baselines.none(), normalise_advantages=x), record)
        for x in (False, True)
    )
    valid = np.asarray(record.valid)
    assert abs(plain[valid].mean()) > 0.01  # centring would turn the gradient
    assert np.sqrt(np.mean(normalised[valid] ** 2)) == pytest.approx(1, rel=1e-5)
    size = np.sqrt(np.mean(plain[valid] ** 2))
    np.testing.assert_allclose(size * normalised, plain, rtol=1e-5, atol=1e-6)


def test_the_discount_of_states_multiplies_what_was_normalised():
    record = random_episodes()
    estimator = estimators.reward_to_go(discount=0.5, normalise_advantages=True)
    kept = replace(estimator, discounted_states=True)
    expected = 0.5**record.times * psi_of(estimator, record)
    np.testing.assert_allclose(psi_of(kept, record), expected, rtol=1e-5, atol=1e-7)


def test_weights_are_held_constant():
    record = random_segments()
    estimator = estimators.gae(critic=baselines.linear_features())
    state = estimator.init(KEY, record.observations[0, 0])

    @jax.jit
    def total(coefficients):
        changed = state._replace(critic=state.critic._replace(coefficients=coefficients))
        return estimator.weights(changed, record).psi.sum()

    coefficients = jnp.ones_like(state.critic.coefficients)
    assert total(coefficients) != total(2 * coefficients)
    np.testing.assert_array_equal(jax.grad(total)(coefficients), 0)


# ----- refusals

WHOLE_EPISODES_ONLY = {
    "total_return": (estimators.total_return(), "without a critic"),
    "reward_to_go": (estimators.reward_to_go(), "without a critic"),
    "gae": (estimators.gae(baseline=baselines.leave_one_out()), "its return or its baseline"),
}


@pytest.mark.parametrize("form", WHOLE_EPISODES_ONLY)
def test_segments_are_refused_by_estimators_over_whole_episodes(form):
    (estimator, why), record = WHOLE_EPISODES_ONLY[form], random_segments(steps=10)
    assert estimator.whole_episodes
    state = estimator.init(KEY, record.observations[0, 0])
    message = f"{form} needs whole episodes, got segments of 10 steps: {why}"
    with pytest.raises(ValueError, match=message):
        estimator.weights(state, record)


@pytest.mark.parametrize(
    "make",
    [
        estimators.total_return,
        estimators.reward_indexed,
        estimators.reward_to_go,
        estimators.n_step,
        estimators.td,
        estimators.gae,
    ],
)
@pytest.mark.parametrize("discount", [-0.1, 1.1, float("nan")])
def test_discount_out_of_range(make, discount):
    with pytest.raises(ValueError, match=rf"discount.*discount={discount}"):
        make(discount=discount)


@pytest.mark.parametrize("gae_lambda", [-0.1, 1.1, float("nan")])
def test_gae_lambda_out_of_range(gae_lambda):
    with pytest.raises(ValueError, match=rf"gae_lambda.*gae_lambda={gae_lambda}"):
        estimators.gae(gae_lambda=gae_lambda)


@pytest.mark.parametrize("n", [0, -3])
def test_n_out_of_range(n):
    with pytest.raises(ValueError, match=rf"n must.*n={n}"):
        estimators.n_step(n=n)


@pytest.mark.parametrize("make", [estimators.reward_to_go, estimators.n_step, estimators.gae])
def test_unknown_time_limit(make):
    with pytest.raises(ValueError, match=r"time_limit.*time_limit='ends'"):
        make(time_limit="ends", critic=FirstFeature())


def test_bootstrapping_needs_a_critic():
    with pytest.raises(
        ValueError, match=r"time_limit='bootstraps' needs a critic, and reward_to_go"
    ):
        estimators.reward_to_go(time_limit="bootstraps")


def test_time_limit_by_default():
    assert estimators.reward_to_go().time_limit == "terminates"
    assert estimators.reward_to_go(critic=FirstFeature()).time_limit == "bootstraps"
    assert estimators.gae().time_limit == "bootstraps"


@pytest.mark.parametrize(
    "critic",
    [
        baselines.none(),
        baselines.constant(),
        baselines.constant(1.0),
        baselines.time_dependent(),
        baselines.leave_one_out(),
    ],
    ids=lambda b: type(b).__name__,
)
@pytest.mark.parametrize("make", [estimators.reward_to_go, estimators.n_step, estimators.td])
def test_what_estimates_no_value_cannot_bootstrap(make, critic):
    with pytest.raises(ValueError, match=f"{type(critic).__name__} cannot bootstrap"):
        make(critic=critic)


# ----- fitting and the two helpers


def test_fit_returns_a_new_state_and_what_it_explains():
    record = random_segments(steps=20, lanes=8)
    estimator = estimators.gae(critic=baselines.linear_features(), baseline=baselines.constant())
    before = estimator.init(KEY, record.observations[0, 0])
    kept = jax.tree.map(np.array, before)
    returns = record.observations[..., 0]
    after, explained = jax.jit(estimator.fit)(before, KEY, None, record, returns)
    jax.tree.map(np.testing.assert_array_equal, before, kept)
    np.testing.assert_allclose(after.baseline, returns.mean(), rtol=1e-5)
    assert float(explained) == pytest.approx(0)  # of the baseline, a constant
    without = replace(estimator, baseline=None)
    _, explained = jax.jit(without.fit)(before, KEY, None, record, returns)
    assert float(explained) > 0.9999


def test_total_return_counts_every_episode_once():
    record = random_episodes(lengths=(1, 5))
    estimator = estimators.total_return(baseline=baselines.constant())
    returns = jnp.broadcast_to(jnp.array([10.0, 20.0]), record.rewards.shape)
    state, _ = estimator.fit(estimator.init(KEY, 0), KEY, None, record, returns)
    assert float(state.baseline) == pytest.approx(15)


def test_column_without_a_step_counts_nothing():
    record = random_episodes(lengths=(2, 3))
    empty = replace(record, valid=record.valid.at[:, 0].set(False))
    weights = estimators.total_return().step_weights(empty)
    np.testing.assert_allclose(weights, [[0, 1 / 3]] * 3, rtol=1e-6)


def test_binding_gives_an_encoder_to_the_regressions_that_have_none():
    own = baselines.value_network(encode=jnp.ravel)
    estimator = estimators.gae(critic=baselines.linear_features(), baseline=own)
    bound = estimator.bind(jnp.cos)
    assert bound.critic.encode is jnp.cos
    assert bound.baseline is own
    assert estimators.reward_to_go().bind(jnp.cos).critic is None


def test_standardised_advantages_have_zero_mean_and_unit_variance():
    rng = np.random.default_rng(0)
    valid = rng.random((30, 5)) < 0.7
    x = 3 + 10 * rng.normal(size=valid.shape)
    z = np.asarray(standardise(jnp.asarray(x), jnp.asarray(valid), jnp.asarray(x)))
    assert z[valid].mean() == pytest.approx(0, abs=1e-6)
    assert z[valid].std() == pytest.approx(1, rel=1e-5)
    np.testing.assert_array_equal(z[~valid], 0)
    x = jnp.asarray(x[valid][:, None])
    unpadded = standardise(x, jnp.ones((valid.sum(), 1), bool), x)
    np.testing.assert_allclose(z[valid], unpadded[:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1000, 128)])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e8])
def test_equal_advantages_standardised_become_zero(shape, value):
    psi = jax.jit(standardise)(jnp.full(shape, value), jnp.ones(shape, bool), jnp.zeros(shape))
    np.testing.assert_array_equal(psi, 0)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_rescaled_advantages_have_unit_size_and_their_signs(size):
    rng = np.random.default_rng(0)
    valid = rng.random((30, 5)) < 0.7
    x = np.where(valid, 3 + 10 * rng.normal(size=valid.shape), np.nan)  # padding does not count
    y = np.asarray(rescale(jnp.asarray(size * x, jnp.float32), jnp.asarray(valid)))
    expected = x[valid] / np.sqrt(np.mean(x[valid] ** 2))
    np.testing.assert_allclose(y[valid], expected, rtol=1e-5)
    np.testing.assert_array_equal(y[~valid], 0)


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0.0), (-7.3, -1.0)])
def test_equal_advantages_rescaled_keep_their_sign(value, expected):
    y = rescale(jnp.full((1000, 8), value), jnp.ones((1000, 8), bool))
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("make", [random_segments, random_episodes])
def test_rewards_on_rows_that_are_no_transitions_do_not_count(make, resets):
    """As a record of somebody's own collector may hold them."""
    record = make(1)
    valid = record.valid & (np.random.default_rng(1).random(record.valid.shape) < 0.8)
    record = replace(record, valid=jnp.asarray(valid), whole_episodes=False)
    loud = replace(record, rewards=jnp.where(valid, record.rewards, 1e3))
    ours = estimators.gae(
        discount=0.9, gae_lambda=0.7, critic=FirstFeature(), resets_at_rewards=resets
    )
    state = ours.init(KEY, record.observations[0, 0])
    quiet = replace(record, rewards=jnp.where(valid, record.rewards, 0.0))
    for found, expected in zip(ours.weights(state, loud), ours.weights(state, quiet), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_what_stands_in_padding_costs_no_precision():
    x, valid = jnp.array([[1.0], [2.0], [1e9]]), jnp.array([[True], [True], [False]])
    np.testing.assert_allclose(standardise(x, valid, x), [[-1], [1], [0]], rtol=1e-6)


def test_rounding_error_is_not_an_advantage():
    x = jnp.array([[1e8], [1e8 + 8], [1e8]])  # the next float32
    assert x[1, 0] > x[0, 0]
    np.testing.assert_array_equal(standardise(x, jnp.ones((3, 1), bool), jnp.zeros((3, 1))), 0)


@pytest.mark.parametrize("reward", [-1.0, -0.0217, 0.0071])
@pytest.mark.parametrize("discount", [1.0, 0.99])
def test_equal_returns_less_an_equal_baseline_are_no_advantages(reward, discount):
    """What is left is the rounding of the baseline, of the size of the returns."""
    record = random_episodes(3)
    rewards = jnp.full((200, 6), reward, jnp.float32)
    record = replace(
        jax.tree.map(lambda x: jnp.zeros((200, 6, *x.shape[2:]), x.dtype), record),
        rewards=rewards,
        valid=jnp.ones((200, 6), bool),
        terminated=jnp.zeros((200, 6), bool).at[-1].set(True),
        times=jnp.arange(200)[:, None] + jnp.zeros((200, 6), int),
    )
    make = partial(estimators.reward_to_go, discount=discount, baseline=baselines.leave_one_out())
    np.testing.assert_array_equal(psi_of(make(normalise_advantages=True), record), 0)


def test_an_empty_batch_has_no_advantages():
    nothing = jnp.ones((3, 1)), jnp.zeros((3, 1), bool)
    np.testing.assert_array_equal(standardise(*nothing, jnp.ones((3, 1))), 0)
    np.testing.assert_array_equal(rescale(*nothing), 0)


def test_explained_variance():
    targets = jnp.array([[1.0, 2.0], [3.0, 60.0]])
    weights = jnp.array([[1.0, 1.0], [1.0, 0.0]])
    assert float(explained_variance(targets, targets, weights)) == pytest.approx(1)
    assert float(explained_variance(targets, targets + 9, weights)) == pytest.approx(1)
    assert float(explained_variance(targets, 0 * targets + 9, weights)) == pytest.approx(0)
    assert float(explained_variance(targets, -targets, weights)) == pytest.approx(-3)
    half = 1 - np.var([0.5, 1, 1.5]) / np.var([1, 2, 3])
    assert float(explained_variance(targets, targets / 2, weights)) == pytest.approx(half)
    assert float(explained_variance(0 * targets, targets, weights)) == 0


def test_explained_variance_of_equal_targets_divides_by_nothing():
    """JAX's own search for NaN stays quiet."""
    with jax.debug_nans(True):
        ones = jnp.ones((3, 1))
        assert float(explained_variance(ones, 2 * ones, ones)) == 0


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1.0, 1e6, 1e13])
def test_explained_variance_does_not_depend_on_the_unit(scale):
    targets = scale * jnp.array([[1.0], [2.0], [3.0]])
    assert float(explained_variance(targets, targets, jnp.ones((3, 1)))) == pytest.approx(1)

"""The streamed sums give what the definitions give on all gradients at once."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import stdtrit

from policygrad import baselines, diagnostics, estimators, scores
from policygrad.core.errors import NonFiniteError, UserError
from policygrad.diagnostics.intervals import GroupSums, Means, standard_error
from policygrad.diagnostics.streaming import weights_of
from policygrad.tabular import as_environment, gallery
from tests.diagnostics.sampling import sampler
from tests.diagnostics.test_groups import SIZE, record_in_groups
from tests.toy import Softmax
from tests.worlds import Chain

EPISODES = 300


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def sampled():
    """Chain: episodes of very different length, over several chunks of different shape."""
    with jax.enable_x64(True):
        task = gallery.chain()
        episodes = sampler(task, EPISODES)(jax.random.key(0))
        table = baselines.table(np.linspace(-1, 1, task.mdp.states))
        estimator = estimators.reward_to_go(discount=0.9, baseline=table, discounted_states=True)
        return task.policy, estimator, estimator.init(jax.random.key(0), 0), episodes


def every_gradient(policy, estimator, state, episodes):
    psi = weights_of(estimator, state, episodes).psi
    tree = jax.jit(scores.episode_gradients)(policy, episodes, psi)
    return np.asarray(tree.theta).reshape(EPISODES, -1)


def halves(episodes):
    for part in (slice(0, 100), slice(100, None)):
        cut = jax.tree.map(lambda x, p=part: x[:, p], episodes)
        yield cut


@pytest.mark.parametrize("streamed", [False, True])
def test_noise_is_that_of_all_gradients(sampled, streamed):
    policy, estimator, state, episodes = sampled
    g = every_gradient(*sampled)
    batches = halves(episodes) if streamed else episodes
    found = diagnostics.gradient_noise(policy, estimator, state, batches)
    variance = np.trace(np.cov(g.T))
    pairs = g @ g.T
    squared = (pairs.sum() - np.trace(pairs)) / (EPISODES * (EPISODES - 1))
    np.testing.assert_allclose(found.total.variance.value, variance, rtol=1e-10)
    np.testing.assert_allclose(found.total.squared_norm.value, squared, rtol=1e-9)
    np.testing.assert_allclose(found.total.noise_scale.value, variance / squared, rtol=1e-9)
    np.testing.assert_allclose(found.mean, g.mean(axis=0), atol=1e-12)
    unit = g / np.linalg.norm(g, axis=1, keepdims=True)
    cosines = unit @ unit.T
    mean = (cosines.sum() - EPISODES) / (EPISODES * (EPISODES - 1))
    np.testing.assert_allclose(found.cosines.between.value[0], mean, rtol=1e-9)
    again = diagnostics.noise_of_gradients(g)
    np.testing.assert_allclose(again.total.variance.low, found.total.variance.low, rtol=1e-9)
    ours, theirs = found.cosines, again.cosines
    np.testing.assert_allclose(ours.between.high, theirs.between.high, rtol=1e-9)
    np.testing.assert_allclose(ours.between_by_length, theirs.between_by_length, rtol=1e-6)


def test_decomposition_is_that_of_every_step(sampled):
    policy, estimator, state, episodes = sampled
    psi = np.asarray(weights_of(estimator, state, episodes).psi)
    found = diagnostics.decompose_variance(policy, estimator, state, episodes)
    z = step_scores(policy, episodes)
    terms = psi[..., None] * z
    diagonal = (terms**2).sum(axis=(0, 2)).mean()
    np.testing.assert_allclose(found.total.diagonal.value, diagonal, rtol=1e-10)
    cross = (terms.sum(axis=0) ** 2).sum(axis=1).mean() - diagonal
    np.testing.assert_allclose(found.total.cross.value, cross, rtol=1e-9)
    others = [
        (z[:, i] ** 2).sum(-1) @ (psi[:, j] ** 2)
        for i in range(40)
        for j in range(EPISODES)
        if i != j
    ]
    total = found.total
    assert abs(np.mean(others) / total.factored.value - 1) < 0.3  # 40 of 300 rows of the pairs
    parts = total.diagonal.value + total.cross.value - total.squared_mean.value
    np.testing.assert_allclose(parts, total.variance.value, rtol=1e-12)
    np.testing.assert_allclose(found.by_step.value.sum(), diagonal, rtol=1e-10)
    np.testing.assert_allclose(found.alive, np.asarray(episodes.valid).mean(axis=1))


def of_other_groups(x, y):
    """The mean of x_i · y_j over episodes i and j that did not start together, `[T]`."""
    x, y = (a.reshape(len(a), -1, SIZE, *a.shape[2:]).mean(axis=2) for a in (x, y))
    m = x.shape[1]
    pairs = np.einsum("tud,tud->t", x, y)
    return (np.einsum("tud,tvd->t", x, y) - pairs) / (m * (m - 1))


def test_episodes_that_start_together_are_no_independent_ones():
    record, constant = record_in_groups(6), lambda s, t: jnp.ones(1)
    policy = Softmax(jnp.asarray(np.random.default_rng(1).normal(size=(3, 2))))
    estimator = estimators.reward_to_go()
    state = estimator.init(jax.random.key(0), 0)
    psi = np.asarray(weights_of(estimator, state, record).psi)
    pi = np.asarray(jax.nn.softmax(policy.logits))
    taken = np.eye(2)[np.asarray(record.actions)] - pi[np.asarray(record.observations)]
    z = np.eye(3)[np.asarray(record.observations)][..., None] * taken[..., None, :]
    z = np.where(np.asarray(record.valid)[..., None], z.reshape(*psi.shape, 6), 0.0)
    g = (psi[..., None] * z).sum(axis=0)
    squared_mean = of_other_groups(g[None], g[None])[0]
    variance = (g**2).sum(axis=1).mean() - squared_mean
    factored = of_other_groups((z**2).sum(-1)[..., None], psi[..., None] ** 2).sum()
    found = diagnostics.decompose_variance(policy, estimator, state, record)
    assert found.episodes == 6 * SIZE
    assert found.total.variance.value == pytest.approx(variance)
    assert found.total.squared_mean.value == pytest.approx(squared_mean)
    assert found.total.factored.value == pytest.approx(factored)
    judged = diagnostics.judge_baseline(policy, estimator, state, record, features=constant)
    assert judged.episodes == 6 * SIZE
    assert judged.variance.value == pytest.approx(variance)


def step_scores(policy, episodes):
    """`[T, N, d]`, the score of every step, from the softmax by hand."""
    theta = np.asarray(policy.theta).reshape(-1, 2)
    pi = np.exp(theta) / np.exp(theta).sum(axis=1, keepdims=True)
    z = np.zeros((*episodes.rewards.shape, *theta.shape))
    for t, n in np.argwhere(episodes.valid):
        s, a = episodes.observations[t, n], episodes.actions[t, n]
        z[t, n, s] -= pi[s]
        z[t, n, s, a] += 1
    return z.reshape(*episodes.rewards.shape, -1)


def test_score_squares_and_products_by_hand(sampled):
    policy, _, _, episodes = sampled
    z = step_scores(policy, episodes)
    squares = jax.jit(scores.score_squares)(policy, episodes).theta
    np.testing.assert_allclose(squares, (z**2).sum(-1), atol=1e-12)
    vectors = np.random.default_rng(0).normal(size=(EPISODES, z.shape[-1]))
    tree = jax.tree.map(lambda x: jnp.asarray(vectors.reshape(EPISODES, *x.shape)), policy.theta)
    along = jax.jit(scores.score_products)(policy, episodes, replace_theta(policy, tree))
    np.testing.assert_allclose(along, np.einsum("tnd,nd->tn", z, vectors), atol=1e-12)


def replace_theta(policy, theta):
    differentiated = scores.split(policy)[0]
    return jax.tree.map(lambda _: theta, differentiated)


def test_comparison_is_that_of_all_gradients(sampled):
    policy, estimator, state, episodes = sampled
    plain = estimators.reward_to_go(discount=0.9, discounted_states=True)
    start = plain.init(jax.random.key(0), 0)
    found = diagnostics.compare_estimators(
        policy,
        {"plain": (plain, start), "based": (estimator, state)},
        episodes,
        reference="plain",
        batch_episodes=10,
    )
    g, r = every_gradient(*sampled), every_gradient(policy, plain, start, episodes)
    spread = np.trace(np.cov((g - r).T)) / EPISODES
    bias2 = ((g - r).mean(axis=0) ** 2).sum() - spread
    one = found.estimators["based"]
    np.testing.assert_allclose(one.squared_bias.value, bias2, rtol=1e-8)
    np.testing.assert_allclose(one.variance.value, np.trace(np.cov(g.T)), rtol=1e-10)
    assert one.bias.low == 0
    zero = found.estimators["plain"].squared_bias
    assert zero.value == pytest.approx(0, abs=1e-12)
    assert zero.covers(0)
    arrays = diagnostics.compare_gradients(
        {"plain": r, "based": g}, reference="plain", batch_episodes=10
    )
    for k, row in found.estimators.items():
        np.testing.assert_allclose(
            arrays.estimators[k].mean_squared_error.high, row.mean_squared_error.high, rtol=1e-7
        )


def test_a_baseline_is_judged_by_what_running_without_it_costs(sampled):
    policy, estimator, state, episodes = sampled
    found = diagnostics.judge_baseline(policy, estimator, state, episodes)
    plain = replace(estimator, baseline=None)
    g = every_gradient(policy, plain, plain.init(jax.random.key(0), 0), episodes)
    without = np.trace(np.cov(g.T))
    removed = without - found.variance.value
    # two unbiased estimates of one number from the same episodes; the interval is of the first
    half = (found.removed_from_none.high - found.removed_from_none.low) / 2
    assert abs(removed - found.removed_from_none.value) < 3 * half
    assert found.excess.low >= 0
    assert found.explained_variance.high < 1


def test_a_constant_is_as_far_from_the_best_one_as_the_class_of_constants_can_remove(sampled):
    policy, _, _, episodes = sampled
    estimator = estimators.reward_to_go(baseline=baselines.constant(-1.0))
    state = estimator.init(jax.random.key(0), 0)
    found = diagnostics.judge_baseline(
        policy, estimator, state, episodes, features=lambda s, t: jnp.ones(1)
    )
    assert found.excess.value != 0
    assert found.removed_from_constant.value == pytest.approx(-found.excess.value, rel=1e-9)


def test_records_are_json_without_infinities(sampled):
    policy, estimator, state, episodes = sampled
    noise = diagnostics.gradient_noise(policy, estimator, state, episodes)
    candidates = {"a": (estimator, state)}
    records = (
        noise,
        diagnostics.decompose_variance(policy, estimator, state, episodes),
        diagnostics.judge_baseline(policy, estimator, state, episodes),
        diagnostics.compare_estimators(policy, candidates, episodes, batch_episodes=3),
    )
    for record in records:
        text = json.dumps(record.to_json(), allow_nan=False)
        assert json.loads(text)
    assert "mean" not in noise.to_json()
    nothing = diagnostics.noise_of_gradients(np.zeros((20, 3)))
    assert nothing.total.noise_scale.value == np.inf
    assert nothing.to_json()["total"]["noise_scale"]["value"] is None


def test_groups_of_any_size_give_the_standard_error_of_a_mean():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 1))
    of_groups = rng.integers(40, size=4000)
    member = 1.0 * (of_groups == np.arange(40)[:, None])
    means = GroupSums(member.sum(axis=1), {"x": member @ x}).means()
    found = standard_error(means["x"], means.n)[0][0]
    assert found == pytest.approx(1 / np.sqrt(4000), rel=0.35)  # χ² of 39: 3 standard errors


def test_few_groups_that_hold_the_spread_widen_an_interval():
    # κ of K numbers of which one is apart is K − 2 + 1/(K − 1): 2K/(κ − 1) = 2.1 degrees
    n = np.append(64.0, np.full(64, 63.0))
    for x, degrees in ((np.tile([-1.0, 1.0], 32), 63), (np.eye(64)[0], 128 / (62 + 1 / 63 - 1))):
        rows = np.append(x.mean(), (x.sum() - x) / 63)
        assert standard_error(rows, n)[2] == pytest.approx(stdtrit(degrees, 0.975), rel=1e-6)


def test_cosine_of_one_parameter_is_a_sign_less_its_noise():
    rng = np.random.default_rng(0)
    plain = rng.normal(0.5, 1.0, (2000, 1))
    turned = -plain + rng.normal(0.0, 0.5, (2000, 1))
    rows = {"plain": plain, "turned": turned}
    found = diagnostics.compare_gradients(rows, reference="plain", batch_episodes=4).estimators
    for name, sign, variance in (("plain", 1, 1.0), ("turned", -1, 1.25)):
        exact = sign * 0.5 / np.sqrt(0.5**2 + variance / 4)
        x = found[name].cosine
        assert x.covers(exact)
        assert x.high - x.low < 0.2  # without its sign it would be 0.9 or more


@pytest.mark.parametrize("n", [3, 17, 33, 47, 63, 65])
def test_no_episode_is_left_out(n):
    gradients = np.random.default_rng(n).normal(1.0, 1.0, (n, 5))
    found = diagnostics.noise_of_gradients(gradients)
    assert found.episodes == n
    np.testing.assert_allclose(found.total.variance.value, np.trace(np.cov(gradients.T)))
    np.testing.assert_allclose(found.mean, gradients.mean(axis=0))


def test_two_episodes_say_nothing_of_a_variance_s_error():
    found = diagnostics.noise_of_gradients(np.random.default_rng(0).normal(size=(2, 3)))
    assert (found.total.variance.low, found.total.variance.high) == (0.0, np.inf)


def test_nothing_but_zeros_is_neither_signal_nor_noise():
    found = diagnostics.noise_of_gradients(np.zeros((20, 3))).total
    assert (found.signal_to_noise.low, found.signal_to_noise.high) == (0.0, np.inf)
    assert (found.noise_scale.low, found.noise_scale.high) == (0.0, np.inf)


@pytest.mark.parametrize("residue", [0.0, 1e-22, 1e-20, 1e-17])
def test_a_rounding_error_is_no_squared_norm(residue):
    # two estimators that are equal up to rounding: what is left of ‖x̄‖² says nothing of its error
    noise = 1e-6
    values = -noise + 1e-7 * np.random.default_rng(0).normal(size=17)
    means = Means(np.r_[64.0, np.full(16, 60.0)], {})
    found = means.squared_norm(values, -values[0] + residue, 0.3)
    assert 0 <= found.low <= max(found.value, 0.0)
    assert found.high < 100 * noise


def test_an_estimator_without_noise_has_the_cosine_of_its_mean():
    gradients = np.random.default_rng(0).normal(1.0, 0.1, (40, 3))
    named = {"exact": np.ones((40, 3)), "noisy": gradients}
    found = diagnostics.compare_gradients(named, reference="exact", batch_episodes=4).estimators
    assert found["exact"].cosine.low == found["exact"].cosine.high == pytest.approx(1.0)
    assert found["noisy"].cosine.low < found["noisy"].cosine.value < 1


@pytest.mark.parametrize(
    ("states", "batch"), [pytest.param(1024, 32, marks=pytest.mark.slow), (8, 8), (24, 256)]
)
def test_a_split_by_step_from_few_states_at_a_time(sampled, states, batch):
    policy, estimator, state, _ = sampled
    found = diagnostics.split_by_step(
        policy, estimator, state, as_environment(gallery.chain().mdp), jax.random.key(0),
        states=states, batch=batch, max_steps=20,
    )  # fmt: skip
    assert found.states == states
    for part in (found.trajectory, found.action, found.state, found.variance):
        assert np.isfinite(part.value)


def test_gradients_that_are_not_finite_are_refused(sampled):
    policy, estimator, state, episodes = sampled
    rewards = np.array(episodes.rewards)
    rewards[0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        diagnostics.gradient_noise(policy, estimator, state, replace(episodes, rewards=rewards))
    with pytest.raises(UserError, match="of episode 0 is 1e"):
        diagnostics.noise_of_gradients(np.full((5, 2), 1e200))


def test_refusals(sampled):
    policy, estimator, state, episodes = sampled
    with pytest.raises(UserError, match="segments of"):
        segments = replace(episodes, whole_episodes=False)
        diagnostics.gradient_noise(policy, estimator, state, segments)
    with pytest.raises(UserError, match="at least 2 episodes, got 0"):
        diagnostics.gradient_noise(policy, estimator, state, [])
    with pytest.raises(UserError, match="episode 3 is nan"):
        rows = np.ones((5, 2))
        rows[3, 1] = np.nan
        diagnostics.noise_of_gradients(rows)
    with pytest.raises(UserError, match=r"one of .*, got 'missing'"):
        diagnostics.compare_estimators(
            policy, {"a": (estimator, state)}, episodes, batch_episodes=1, reference="missing"
        )
    with pytest.raises(UserError, match="normalises its advantages"):
        scaled = replace(estimator, normalise_advantages=True)
        diagnostics.compare_estimators(
            policy, {"a": (scaled, state)}, episodes, batch_episodes=1, reference="a"
        )
    with pytest.raises(UserError, match="LeaveOneOut is no function"):
        alone = estimators.reward_to_go(baseline=baselines.leave_one_out())
        diagnostics.judge_baseline(policy, alone, alone.init(jax.random.key(0), 0), episodes)
    rows = np.ones((5, 2))
    for batch in (0, -3, 2.5, "4"):
        with pytest.raises(UserError, match="batch_episodes must be a whole number"):
            diagnostics.compare_gradients({"a": rows}, reference="a", batch_episodes=batch)
    with pytest.raises(UserError, match="as many parameters"):
        two = {"a": rows, "b": np.ones((5, 3))}
        diagnostics.compare_gradients(two, reference="a", batch_episodes=1)
    with pytest.raises(UserError, match="estimators by name"):
        diagnostics.compare_gradients(rows, reference="a", batch_episodes=1)
    for groups in (0, 1, 2.5):
        with pytest.raises(UserError, match="groups must be a whole number"):
            diagnostics.noise_of_gradients(rows, groups=groups)
    for wrong in (rows + 1j, [["a"], ["b"]], [[1.0], [1.0, 2.0]]):
        with pytest.raises(UserError, match="array of real numbers"):
            diagnostics.noise_of_gradients(wrong)
    with pytest.raises(UserError, match="states must be a whole number"):
        diagnostics.split_by_step(policy, estimator, state, None, jax.random.key(0), states=0)
    with pytest.raises(UserError, match="cannot be reset"):
        diagnostics.split_by_step(policy, estimator, state, Chain, jax.random.key(0))

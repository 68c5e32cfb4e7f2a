"""Distributions against scipy, against sums and integrals, and against counted samples.

Sampling tests use a fixed key and reject at p < 1e-6: so is each one's false-alarm rate, were the
key drawn anew.
"""

from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from policygrad.maths.distributions import (
    Bernoulli,
    Categorical,
    ClippedGaussian,
    DiagonalGaussian,
    MultiCategorical,
    TanhGaussian,
    log_one_minus_tanh_squared,
)

FALSE_ALARM = 1e-6
KEY = jax.random.key(0)
LOGITS = np.array([0.3, -1.2, 2.0, 0.0, 0.7])
MASK = np.array([True, False, True, False, True])
MEAN, LOG_STD = np.array([0.4, -1.5]), np.array([-0.7, 0.3])


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def categorical(logits=LOGITS, mask=None):
    return Categorical(jnp.asarray(logits), None if mask is None else jnp.asarray(mask))


def bernoulli(logits=LOGITS[:3], mask=None):
    return Bernoulli(jnp.asarray(logits), None if mask is None else jnp.asarray(mask))


def multi(logits=LOGITS, mask=None):
    mask = None if mask is None else jnp.asarray(mask)
    return MultiCategorical.from_logits(jnp.asarray(logits), (2, 3), mask)


def gaussian(mean=MEAN, log_std=LOG_STD):
    return DiagonalGaussian(jnp.asarray(mean), jnp.asarray(log_std))


def clipped_gaussian(mean=MEAN, log_std=LOG_STD, low=-1.0, high=1.0):
    bounds = (jnp.full(np.shape(mean), x) for x in (low, high))
    return ClippedGaussian(jnp.asarray(mean), jnp.asarray(log_std), *bounds)


def tanh_gaussian(mean=MEAN, log_std=LOG_STD):
    return TanhGaussian(jnp.asarray(mean), jnp.asarray(log_std))


SUPPORT = {
    "categorical": np.arange(5),
    "bernoulli": np.array(list(product((0, 1), repeat=3))),
    "multi": np.array(list(product(range(2), range(3)))),
}
OTHER_LOGITS = LOGITS[::-1] / 2
DISCRETE = {  # p, q, and all actions
    "categorical": (categorical(), categorical(OTHER_LOGITS), SUPPORT["categorical"]),
    "masked categorical": (
        categorical(mask=MASK),
        categorical(OTHER_LOGITS, MASK),
        SUPPORT["categorical"],
    ),
    "bernoulli": (bernoulli(), bernoulli(OTHER_LOGITS[:3]), SUPPORT["bernoulli"]),
    "masked bernoulli": (
        bernoulli(mask=MASK[:3]),
        bernoulli(OTHER_LOGITS[:3], MASK[:3]),
        SUPPORT["bernoulli"],
    ),
    "multi": (multi(), multi(OTHER_LOGITS), SUPPORT["multi"]),
    "masked multi": (multi(mask=MASK), multi(OTHER_LOGITS, MASK), SUPPORT["multi"]),
}
CONTINUOUS = {
    "gaussian": (gaussian(), gaussian(MEAN + 0.5, LOG_STD - 0.2)),
    "clipped": (clipped_gaussian(), clipped_gaussian(MEAN + 0.5, LOG_STD - 0.2)),
    "tanh": (tanh_gaussian(), tanh_gaussian(MEAN + 0.5, LOG_STD - 0.2)),
}
PAIRS = {name: pair[:2] for name, pair in {**DISCRETE, **CONTINUOUS}.items()}
every_discrete = pytest.mark.parametrize(("p", "q", "support"), DISCRETE.values(), ids=DISCRETE)
every_pair = pytest.mark.parametrize(("p", "q"), PAIRS.values(), ids=PAIRS)


def in_double(tree):
    return jax.tree.map(lambda x: x if x.dtype == bool else x.astype(jnp.float64), tree)


@jax.jit
def log_probs(p, actions):
    return jax.vmap(p.log_prob)(actions)


@jax.jit
def entropy_and_kl(p, q):
    return p.entropy(), p.kl(q)


def draw(p, samples):
    keys = jax.random.split(KEY, samples)
    return np.asarray(jax.jit(jax.vmap(p.sample))(keys))


# ----- finite supports


@every_discrete
def test_probabilities_entropy_and_kl_are_their_sums(p, q, support):
    p, q = in_double(p), in_double(q)
    log_p, log_q = (np.asarray(log_probs(d, support)) for d in (p, q))
    probs = np.exp(log_p)
    assert probs.sum() == pytest.approx(1, rel=1e-12)
    seen = probs > 0
    entropy, kl = entropy_and_kl(p, q)
    assert float(entropy) == pytest.approx(-np.sum(probs[seen] * log_p[seen]), rel=1e-12)
    divergence = np.sum(probs[seen] * (log_p[seen] - log_q[seen]))
    assert divergence > 0.01
    assert float(kl) == pytest.approx(divergence, rel=1e-10)


@every_discrete
def test_samples_come_as_often_as_their_probability(p, q, support):
    samples, p = 20_000, in_double(p)
    probs = np.exp(np.asarray(log_probs(p, support)))
    drawn = draw(p, samples).reshape(samples, -1)
    counts = np.array(
        [(drawn == row).all(axis=1).sum() for row in support.reshape(len(support), -1)]
    )
    assert counts.sum() == samples
    np.testing.assert_array_equal(counts[probs < 1e-30], 0)
    seen = probs >= 1e-30
    assert stats.chisquare(counts[seen], samples * probs[seen]).pvalue > FALSE_ALARM


@every_discrete
def test_mode_is_the_most_probable(p, q, support):
    best = support[np.argmax(log_probs(p, support))]
    np.testing.assert_array_equal(p.mode(), best)


def test_discrete_log_probs_equal_scipy():
    softmax = np.exp(LOGITS) / np.exp(LOGITS).sum()
    actual = log_probs(in_double(categorical()), np.arange(5))
    np.testing.assert_allclose(actual, np.log(softmax), rtol=1e-6)
    sigmoid = 1 / (1 + np.exp(-LOGITS[:3]))
    expected = stats.bernoulli.logpmf(SUPPORT["bernoulli"], sigmoid).sum(axis=1)
    np.testing.assert_allclose(log_probs(bernoulli(), SUPPORT["bernoulli"]), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "make", [categorical, bernoulli, multi], ids=["categorical", "bernoulli", "multi"]
)
def test_forbidden_actions_have_no_probability(make):
    name = {categorical: "categorical", bernoulli: "bernoulli", multi: "multi"}[make]
    mask, support = np.array([True, False, True, False, True]), SUPPORT[name]
    p = make(mask=mask[:3]) if make is bernoulli else make(mask=mask)
    if make is categorical:
        forbidden = ~mask
    elif make is bernoulli:
        forbidden = (support.astype(bool) & ~mask[:3]).any(axis=1)
    else:
        forbidden = ~(mask[:2][support[:, 0]] & mask[2:][support[:, 1]])
    assert forbidden.any()
    np.testing.assert_array_equal(np.exp(log_probs(p, support[forbidden])), 0)


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("mask", [MASK, ~MASK & False], ids=["some", "none permitted"])
@pytest.mark.parametrize("make", [categorical, multi], ids=["categorical", "multi"])
def test_masked_gradients_are_finite(make, mask, scale):
    with jax.enable_x64(False):
        action = jnp.array(0) if make is categorical else jnp.array([0, 0])

        @jax.jit
        def everything(logits):
            p, q = make(logits, mask), make(logits[::-1], mask)
            return jnp.stack([p.log_prob(action), p.entropy(), p.kl(q)])

        logits = jnp.asarray(scale * LOGITS, jnp.float32)
        assert np.isfinite(everything(logits)).all()
        slopes = jax.jit(jax.jacrev(everything))(logits)
        assert np.isfinite(slopes).all()
        if mask.any():  # nothing that is forbidden is learnt about
            np.testing.assert_array_equal(slopes[:2, ~mask], 0)


def test_a_mask_that_permits_nothing_permits_everything():
    nothing = categorical(mask=np.zeros(5, bool))
    np.testing.assert_allclose(nothing.log_probs, categorical().log_probs)


@pytest.mark.parametrize("make", [categorical, bernoulli, multi])
@pytest.mark.parametrize("size", [1e3, 1e6, 1e30])
def test_extreme_logits_stay_finite(make, size):
    with jax.enable_x64(False):
        logits = jnp.array([size, -size, 0.0, -size, size], jnp.float32)
        logits = logits[:3] if make is bernoulli else logits
        actions = {categorical: jnp.array(0), bernoulli: jnp.array([1, 0, 0])}
        action = actions.get(make, jnp.array([0, 2]))

        @jax.jit
        def everything(logits):
            p = make(logits)
            return jnp.stack([p.log_prob(action), p.entropy(), p.kl(make(logits / 2))])

        assert np.isfinite(everything(logits)).all()
        assert np.isfinite(jax.jit(jax.jacrev(everything))(logits)).all()


def test_flips_that_cannot_come_out_one_way_add_nothing():
    with jax.enable_x64(False):
        certain = jnp.array([-jnp.inf, jnp.inf, 0.3], jnp.float32)
        free = certain[2:]

        @jax.jit
        def both(logits):
            p = Bernoulli(logits)
            return jnp.stack([p.entropy(), p.kl(Bernoulli(logits)), p.kl(Bernoulli(logits / 2))])

        np.testing.assert_array_equal(both(certain), both(free))
        slopes = jax.jit(jax.jacrev(both))(certain)
        np.testing.assert_array_equal(slopes[:, :2], 0)
        np.testing.assert_array_equal(slopes[:, 2:], jax.jit(jax.jacrev(both))(free))
        assert Bernoulli(jnp.zeros(3)).kl(Bernoulli(certain)) == jnp.inf


# ----- real numbers


def test_gaussian_equals_scipy():
    p, q = (in_double(d) for d in CONTINUOUS["gaussian"])
    x = np.array([0.9, -3.0])
    np.testing.assert_allclose(
        p.log_prob(x), stats.norm.logpdf(x, p.mean, np.exp(p.log_std)).sum(), rtol=1e-12
    )
    entropy = stats.norm.entropy(scale=np.exp(p.log_std)).sum()
    np.testing.assert_allclose(p.entropy(), entropy, rtol=1e-12)

    def integrand(x, i):
        ours, theirs = (
            stats.norm(float(d.mean[i]), float(np.exp(d.log_std[i]))).logpdf(x) for d in (p, q)
        )
        return np.exp(ours) * (ours - theirs)

    kl = sum(integrate.quad(integrand, -15, 15, args=(i,))[0] for i in range(2))
    assert float(p.kl(q)) == pytest.approx(kl, rel=1e-8)


# ----- clipped


@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 1.0), (0.3, 0.9), (-np.inf, -0.5), (-0.5, np.inf)]
)
@pytest.mark.parametrize("mean", [0.0, 1.2, -2.5])
def test_clipped_gaussian_has_its_mass_at_the_bounds_and_between(mean, low, high):
    std = 0.6
    p = clipped_gaussian([mean], [np.log(std)], low, high)
    law = stats.norm(mean, std)
    inside = np.linspace(max(low, -6.0), min(high, 6.0), 50)[1:-1]
    np.testing.assert_allclose(log_probs(p, inside[:, None]), law.logpdf(inside), rtol=1e-9)
    for beyond in (0.0, 3.0):
        if np.isfinite(low):
            expected = law.logcdf(low)
            assert float(p.log_prob(jnp.array([low - beyond]))) == pytest.approx(expected, rel=1e-9)
        if np.isfinite(high):
            expected = law.logsf(high)
            found = float(p.log_prob(jnp.array([high + beyond])))
            assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mean", [0.0, 0.9, -1.7])
def test_clipped_score_is_the_gaussian_score_given_the_clipped_action(mean):
    """So that E[R z] is the same for every R of the clipped action, and Var[R z] is not larger."""
    std, low, high = 0.7, -1.0, 1.0
    reward = lambda a: np.sin(3 * a) + 0.5 * a  # noqa: E731
    u = np.linspace(mean - 9 * std, mean + 9 * std, 200_001)
    weight = stats.norm.pdf(u, mean, std)

    def scores(p):
        slope = jax.grad(lambda q, a: q.log_prob(a[None]))
        tree = jax.jit(jax.vmap(slope, (None, 0)))(p, jnp.asarray(u))
        return np.stack([tree.mean[:, 0], tree.log_std[:, 0]])

    clipped = scores(clipped_gaussian([mean], [np.log(std)], low, high))
    plain = scores(gaussian([mean], [np.log(std)]))
    moments = []
    for z in (clipped, plain):
        g = z * reward(np.clip(u, low, high))
        moments.append([integrate.simpson(g**k * weight, x=u, axis=1) for k in (1, 2)])
    np.testing.assert_allclose(moments[0][0], moments[1][0], atol=2e-4)
    assert (moments[0][1] < moments[1][1] - 1e-3).all()


def test_clipped_gaussian_without_bounds_is_the_gaussian():
    p, q = clipped_gaussian(low=-np.inf, high=np.inf), gaussian()
    x = jnp.array([2.5, -7.0])
    slope = jax.grad(lambda d: d.log_prob(x))
    assert float(p.log_prob(x)) == pytest.approx(float(q.log_prob(x)), rel=1e-12)
    np.testing.assert_allclose(slope(p).mean, slope(q).mean, rtol=1e-12)
    np.testing.assert_allclose(slope(p).log_std, slope(q).log_std, rtol=1e-12)


@pytest.mark.parametrize("action", [-1.0, 1.0, 0.3, 50.0])
@pytest.mark.parametrize("mean", [0.0, 30.0, -1e4])
def test_clipped_scores_stay_finite(mean, action):
    with jax.enable_x64(False):

        def log_prob(mean, log_std):
            p = ClippedGaussian(mean, log_std, jnp.array([-1.0]), jnp.array([1.0]))
            return p.log_prob(jnp.array([action]))

        at = jnp.array([mean]), jnp.array([-3.0])
        assert np.isfinite(log_prob(*at))
        slopes = jax.grad(log_prob, (0, 1))(*at)
        assert np.isfinite(slopes).all()
        if mean * action > 1 and abs(action) >= 1:  # beyond the bound that all are clipped to
            np.testing.assert_array_equal(slopes, 0)


# ----- squashed


def tanh_density(x, mean, std):
    """Change of variables, by hand: p(a) = N(artanh a) / (1 − a²)."""
    return stats.norm.pdf(np.arctanh(x), mean, std) / (1 - x**2)


def test_tanh_gaussian_is_the_transformed_density():
    p = in_double(tanh_gaussian())
    x = np.array([0.9, -0.99])
    expected = np.log(tanh_density(x, np.asarray(p.mean), np.exp(p.log_std))).sum()
    np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-10)


@pytest.mark.parametrize("log_std", [-2.0, -0.5, 0.0])
@pytest.mark.parametrize("mean", [0.0, 1.2])
def test_tanh_density_integrates_to_one(mean, log_std):
    p = tanh_gaussian([mean], [log_std])
    u = np.linspace(mean - 8 * np.exp(log_std), mean + 8 * np.exp(log_std), 4001)
    u = u[abs(u) < 15]
    a = np.tanh(u)
    density = np.exp(np.asarray(log_probs(p, a[:, None])))
    # in steps of a, which crowd towards ±1 as the density does
    assert integrate.simpson(density * (1 - a**2), x=u) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("std", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("mean", [0.0, 0.8, -3.0])
def test_tanh_entropy_by_quadrature(mean, std):
    def integrand(u):
        log_density = stats.norm.logpdf(u, mean, std) - 2 * (
            np.log(2) - u - np.logaddexp(0, -2 * u)
        )
        return -stats.norm.pdf(u, mean, std) * log_density

    expected, _ = integrate.quad(integrand, mean - 12 * std, mean + 12 * std, limit=200)
    p = tanh_gaussian([mean], [np.log(std)])
    assert float(entropy_and_kl(p, p)[0]) == pytest.approx(expected, abs=2e-3)


def test_tanh_kl_by_quadrature():
    p, q = (in_double(d) for d in CONTINUOUS["tanh"])

    def integrand(a, i):
        ours, theirs = (
            tanh_density(a, float(d.mean[i]), float(np.exp(d.log_std[i]))) for d in (p, q)
        )
        return ours * np.log(ours / theirs)

    kl = sum(integrate.quad(integrand, -1 + 1e-9, 1 - 1e-9, args=(i,))[0] for i in range(2))
    assert float(p.kl(q)) == pytest.approx(kl, rel=1e-6)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_samples_follow_their_distribution(name):
    p = in_double(CONTINUOUS[name][0])
    drawn = draw(p, 5000)
    drawn = np.arctanh(drawn) if name == "tanh" else drawn
    for i in range(2):
        law = stats.norm(float(p.mean[i]), float(np.exp(p.log_std[i])))
        assert stats.kstest(drawn[:, i], law.cdf).pvalue > FALSE_ALARM
    assert abs(stats.spearmanr(drawn).statistic) < 5 / np.sqrt(5000)  # independent: 5 sigma


def test_continuous_modes():
    np.testing.assert_array_equal(gaussian().mode(), MEAN)
    np.testing.assert_allclose(tanh_gaussian().mode(), np.tanh(MEAN), rtol=1e-12)


@pytest.mark.parametrize("action", [1.0, -1.0, 1 - 2**-24])
def test_saturated_actions_stay_finite(action):
    with jax.enable_x64(False):

        def log_prob(mean, log_std):
            return tanh_gaussian(mean, log_std).log_prob(jnp.array([action], jnp.float32))

        mean, log_std = jnp.array([3.0]), jnp.array([-1.0])
        assert np.isfinite(log_prob(mean, log_std))
        slopes = jax.grad(log_prob, (0, 1))(mean, log_std)
        assert np.isfinite(slopes).all()
        assert np.any(slopes[0] != 0)


def test_saturated_samples_stay_finite():
    with jax.enable_x64(False):
        p = tanh_gaussian(np.float32([20.0, -20.0]), np.float32([0.0, 0.0]))
        action = p.sample(KEY)
        np.testing.assert_array_equal(action, [1, -1])
        assert np.isfinite(p.log_prob(action))
        assert np.isfinite(p.entropy())


def test_log_one_minus_tanh_squared_far_out():
    u = np.array([0.0, 0.5, -2.0, 50.0, -400.0])
    expected = -2 * np.logaddexp(u, -u) + 2 * np.log(2)
    with jax.enable_x64(False):
        np.testing.assert_allclose(log_one_minus_tanh_squared(jnp.float32(u)), expected, rtol=1e-5)


# ----- all of them


@every_pair
def test_a_distribution_is_at_no_distance_from_itself(p, q):
    divergence, slope = jax.jit(jax.value_and_grad(lambda p: p.kl(q), allow_int=True))(q)
    assert float(divergence) == pytest.approx(0, abs=1e-7)
    for leaf in jax.tree.leaves(slope):
        if leaf.dtype != jax.dtypes.float0:
            np.testing.assert_allclose(leaf, 0, atol=1e-6)


@every_pair
def test_vmap_and_jit_equal_a_loop(p, q):
    batch = jax.tree.map(lambda *x: jnp.stack(x), p, q)
    keys = jax.random.split(KEY, 2)

    def everything(d, key):
        action = d.sample(key)
        return action, d.log_prob(action), d.entropy(), d.mode(), d.kl(p)

    together = jax.jit(jax.vmap(everything))(batch, keys)
    for ours, alone in zip(together, everything(q, keys[1]), strict=True):
        np.testing.assert_allclose(ours[1], alone, rtol=1e-5, atol=1e-6)


def test_no_distribution_inherits_from_another():
    """What a distribution says of itself stands in its own class, entropy and KL too."""
    classes = [type(make()) for make in (categorical, multi, bernoulli, gaussian)]
    classes += [ClippedGaussian, TanhGaussian]
    assert all(kind.__bases__ == (eqx.Module,) for kind in classes)


def test_clipped_gaussian_compares_by_its_gaussian():
    ours, theirs = clipped_gaussian(), clipped_gaussian(MEAN + 0.3, LOG_STD - 0.2)
    assert ours.entropy() == gaussian().entropy()
    assert ours.kl(theirs) == gaussian().kl(gaussian(MEAN + 0.3, LOG_STD - 0.2))
    np.testing.assert_array_equal(ours.sample(KEY), gaussian().sample(KEY))
    np.testing.assert_array_equal(ours.mode(), MEAN)


def test_fault_19_the_entropy_of_nan_is_nan():
    nan = Categorical(jnp.array([jnp.nan, 0.0]))
    assert jnp.isnan(nan.entropy())
    assert jnp.isnan(nan.kl(Categorical(jnp.zeros(2))))

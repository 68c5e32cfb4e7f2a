from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnasium import spaces

from policygrad import estimators
from policygrad.algorithms import Vanilla, learner
from policygrad.algorithms.policy_change import NEARLY_CERTAIN, compare
from policygrad.algorithms.step_size import StepSize, adapt_step_size
from policygrad.core.modules import combine, split
from policygrad.gradients.baselines import (
    constant,
    leave_one_out,
    linear_features,
    value_network,
)
from policygrad.gradients.scores import gradient_and_distributions, policy_gradient
from policygrad.policies.space_policy import network_policy
from tests.records import random_episodes, random_segments

KEY = jax.random.key(0)
BOX, TWO = spaces.Box(-np.inf, np.inf, (2,)), spaces.Discrete(2)
GAUSSIAN = spaces.Box(-1.0, 1.0, (2,))
CRITIC = value_network((8,), epochs=2)


def policy_of(actions=TWO, seed=0):
    policy = network_policy(jax.random.key(seed), BOX, actions, hidden=(8,))
    big = policy.network.weights[-1] * 100  # far from uniform, so that every gradient is felt
    weights = (*policy.network.weights[:-1], big)
    network = jax.tree.map(lambda x: x, policy.network)
    object.__setattr__(network, "weights", weights)
    object.__setattr__(policy, "network", network)
    return policy


def record_of(actions=TWO, *, whole=False, seed=0):
    record = random_episodes(seed) if whole else random_segments(seed)
    rng = np.random.default_rng(seed)
    shape = record.rewards.shape
    drawn = rng.integers(0, 2, shape) if actions is TWO else rng.normal(size=(*shape, 2))
    return replace(record, actions=jnp.asarray(drawn, jnp.int32 if actions is TWO else jnp.float32))


def vanilla(estimator=None, total_steps=np.inf, scale_rewards=True, **changes):
    settings = {"optimiser": optax.scale_by_adam(), "step_size": 1e-2}
    return learner(
        Vanilla(**(settings | changes)),
        estimators.gae(critic=CRITIC) if estimator is None else estimator,
        total_steps=total_steps,
        scale_rewards=scale_rewards,
    )


def adapted(size, kl, target, remaining, held=False):
    improver = StepSize((), size)
    return adapt_step_size(improver, kl, target, remaining, jnp.bool_(held)).step_size


def start(algorithm, record, policy=None):
    policy = policy_of() if policy is None else policy
    columns = record.rewards.shape[1]
    return algorithm.init(KEY, policy, record.observations[0, 0], columns)


def step_of(before, after):
    """The change of the differentiated leaves, as one vector."""
    changes = jax.tree.map(jnp.subtract, split(after)[0], split(before)[0])
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(changes)])


# ----- the step size


@pytest.mark.parametrize(
    ("kl", "factor"),
    [
        (0.0, 1.5),
        (0.0049, 1.5),
        (0.0051, 1),
        (0.01, 1),
        (0.0199, 1),
        (0.0201, 1 / 1.5),
        (9, 1 / 1.5),
    ],
)
def test_step_size_follows_the_kl(kl, factor):
    for remaining in (1.0, 0.1):  # a step a tenth as long has a hundredth of the KL
        size = adapted(jnp.float32(0.1), jnp.float32(kl * remaining**2), 0.01, remaining)
        assert float(size) == pytest.approx(0.1 * factor)


def test_step_size_is_left_alone_without_a_target_and_stays_in_bounds():
    assert float(adapted(jnp.float32(0.1), jnp.float32(9.0), 0.0, 1.0)) == np.float32(0.1)
    assert float(adapted(jnp.float32(0.9), jnp.float32(0.0), 0.01, 1.0)) == 1.0
    assert float(adapted(jnp.float32(1e-7), jnp.float32(9.0), 0.01, 1.0)) == np.float32(1e-7)


@pytest.mark.parametrize(("kl", "factor"), [(0.0, 1), (0.01, 1), (0.0201, 1 / 1.5)])
def test_step_size_of_a_nearly_certain_policy_shrinks_but_does_not_grow(kl, factor):
    size = adapted(jnp.float32(0.1), jnp.float32(kl), 0.01, 1.0, held=True)
    assert float(size) == pytest.approx(0.1 * factor)


def next_step_size(policy, actions):
    """After an update of a step of 1e-6, which hardly changes the policy; and the entropy."""
    record, algorithm = record_of(actions), vanilla(step_size=1e-6)
    state, info, _ = algorithm.update(start(algorithm, record, policy), record, KEY)
    assert float(info.kl) < 0.005
    return float(state.improver.step_size), float(info.entropy)


def test_an_update_of_a_nearly_certain_policy_does_not_lengthen_the_next():
    policy = policy_of()
    certain = tuple(1e4 * w for w in policy.network.weights)
    object.__setattr__(policy.network, "weights", certain)
    size, entropy = next_step_size(policy, TWO)
    assert entropy < NEARLY_CERTAIN
    assert size == pytest.approx(1e-6)


def test_a_batch_of_equal_returns_does_not_lengthen_the_next_step():
    """Its KL is 0 whatever the step, and steps that grew would destroy the policy at the first
    return that differs."""
    record = record_of(whole=True)
    record = replace(record, rewards=jnp.zeros_like(record.rewards))
    estimator = estimators.total_return(baseline=leave_one_out())
    for entropy in (None, 0.01):
        algorithm = vanilla(estimator, entropy_coefficient=entropy)
        state, info, _ = algorithm.update(start(algorithm, record), record, KEY)
        assert float(info.gradient_norm) == 0 or entropy
        assert float(state.improver.step_size) == np.float32(1e-2)


def test_a_long_step_that_was_asked_for_is_kept_until_its_kl_is_too_great():
    assert float(adapted(jnp.float32(5.0), jnp.float32(0.01), 0.01, 1.0)) == 5
    assert float(adapted(jnp.float32(5.0), jnp.float32(0.0), 0.01, 1.0)) == 5
    assert float(adapted(jnp.float32(6.0), jnp.float32(9.0), 0.01, 1.0)) == pytest.approx(4)


def test_a_gaussian_is_never_nearly_certain():
    policy = policy_of(GAUSSIAN)
    policy = eqx.tree_at(lambda p: p.log_std, policy, policy.log_std - 3.0)
    size, entropy = next_step_size(policy, GAUSSIAN)
    assert entropy < NEARLY_CERTAIN
    assert size == pytest.approx(1.5e-6)


@pytest.mark.parametrize("step_size", [1e-5, 0.3])
def test_update_adapts_the_step_size_of_the_next_one(step_size):
    record = record_of()
    algorithm = vanilla(step_size=step_size)
    state, info, _ = algorithm.update(start(algorithm, record), record, KEY)
    assert float(info.step_size) == pytest.approx(step_size)  # this one's
    expected = adapted(jnp.float32(step_size), info.kl, 0.01, 1.0)
    assert float(state.improver.step_size) == float(expected)
    assert (float(state.improver.step_size) > step_size) == (float(info.kl) < 0.005)
    fixed = vanilla(step_size=step_size, target_kl=0.0)
    state, _, _ = fixed.update(start(fixed, record), record, KEY)
    assert float(state.improver.step_size) == np.float32(step_size)


def test_step_size_decays_to_zero():
    record = record_of()
    steps = int(np.sum(record.valid))
    algorithm = vanilla(
        step_size=0.1, target_kl=0.0, step_size_schedule="linear", total_steps=4 * steps
    )
    state, sizes = start(algorithm, record), []
    update = jax.jit(algorithm.update)
    for _ in range(5):
        before = state.policy
        state, info, _ = update(state, record, KEY)
        sizes.append(float(info.step_size))
    np.testing.assert_allclose(sizes, [0.1, 0.075, 0.05, 0.025, 0], atol=1e-7)
    assert not step_of(before, state.policy).any()


def distributions_of(policy, record):
    return gradient_and_distributions(policy, record, jnp.zeros_like(record.rewards))[1]


@pytest.mark.parametrize("actions", [TWO, GAUSSIAN], ids=["categorical", "gaussian"])
def test_kl_is_that_of_old_and_new_policy(actions):
    record, old = record_of(actions), policy_of(actions)
    new = policy_of(actions, seed=1)
    before = distributions_of(old, record)
    kl, entropy = compare(before, new, record)
    kls, entropies = [], []
    for t, b in np.argwhere(np.asarray(record.valid)):
        p, q = old(record.observations[t, b]), new(record.observations[t, b])
        kls.append(p.kl(q))
        entropies.append(p.entropy())
    np.testing.assert_allclose(kl, np.mean(kls), rtol=1e-4)
    np.testing.assert_allclose(entropy, np.mean(entropies), rtol=1e-4)
    assert float(compare(before, old, record)[0]) == pytest.approx(0, abs=1e-6)


# ----- the gradient


@pytest.mark.parametrize("whole", [False, True], ids=["segments", "episodes"])
def test_step_goes_uphill_along_the_policy_gradient(whole):
    record = record_of(whole=whole)
    algorithm = vanilla(optimiser=optax.identity(), step_size=1e-3, scale_rewards=False)
    state = start(algorithm, record)
    psi = algorithm.estimator.weights(state.estimator, record).psi
    gradient = policy_gradient(state.policy, record, psi)
    after, info, _ = algorithm.update(state, record, KEY)
    flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(gradient)])
    np.testing.assert_allclose(step_of(state.policy, after.policy), 1e-3 * flat, atol=3e-7)
    np.testing.assert_allclose(info.gradient_norm, np.linalg.norm(flat), rtol=1e-5)


def test_clipping_by_global_norm_shortens_and_keeps_the_direction():
    record = record_of()
    free = vanilla(optimiser=optax.identity(), step_size=1.0, target_kl=0.0)
    state = start(free, record)
    after, info, _ = free.update(state, record, KEY)
    full, norm = step_of(state.policy, after.policy), float(info.gradient_norm)
    for limit in (norm / 3, norm * 3):
        after, clipped, _ = vanilla(
            optimiser=optax.identity(), step_size=1.0, target_kl=0.0, max_global_norm=limit
        ).update(state, record, KEY)
        short = step_of(state.policy, after.policy)
        assert float(clipped.gradient_norm) == pytest.approx(norm)  # what is logged: before
        length = np.linalg.norm(short)
        assert length == pytest.approx(min(limit, norm), rel=1e-4)
        assert short @ full / (length * np.linalg.norm(full)) == pytest.approx(1, abs=1e-6)


def entropy_gradient(policy, record):
    """The gradient of the entropy alone, as a bonus to weights of zero."""
    bonus = (lambda p: p.entropy(), ())
    nothing = jnp.zeros_like(record.rewards)
    return gradient_and_distributions(policy, record, nothing, bonus)[0]


@pytest.mark.parametrize("actions", [TWO, GAUSSIAN], ids=["categorical", "gaussian"])
def test_entropy_bonus_adds_the_gradient_of_the_mean_entropy(actions):
    record, policy = record_of(actions), policy_of(actions)
    gradient = entropy_gradient(policy, record)
    differentiated, _ = split(policy)
    flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(gradient)])
    length = float(np.linalg.norm(flat))
    direction = jax.tree.map(lambda g: g / length, gradient)

    def mean_entropy(size):
        moved = jax.tree.map(lambda x, d: x + size * d, differentiated, direction)
        before = distributions_of(combine(moved, split(policy)[1]), record)
        return float(compare(before, policy, record)[1])

    slope = (mean_entropy(1e-2) - mean_entropy(-1e-2)) / 2e-2
    assert slope == pytest.approx(length, rel=2e-2)

    plain = vanilla(optimiser=optax.identity(), step_size=1e-2)
    state = start(plain, record, policy)
    without = step_of(policy, plain.update(state, record, KEY)[0].policy)
    bonus = vanilla(optimiser=optax.identity(), step_size=1e-2, entropy_coefficient=0.5)
    with_bonus = step_of(policy, bonus.update(state, record, KEY)[0].policy)
    np.testing.assert_allclose(with_bonus - without, 1e-2 * 0.5 * flat, atol=1e-6)


# ----- first used, then refitted


@pytest.mark.parametrize("critic", [CRITIC, linear_features()], ids=["network", "linear"])
def test_critic_is_used_before_it_is_refitted(critic):
    """The policy's step is the one that the unfitted critic gives, whatever the fit does (E9)."""
    record = record_of()
    algorithm = vanilla(estimator=estimators.gae(critic=critic), optimiser=optax.identity())
    state = start(algorithm, record)
    after, info, refitted = algorithm.update(state, record, KEY)
    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), state.estimator, after.estimator)
    assert any(jax.tree.leaves(changed))

    scale = state.reward_scale.update(record, algorithm.estimator.discount)
    scaled = replace(record, rewards=record.rewards * scale.factor)
    weights = algorithm.estimator.weights(state.estimator, scaled)
    expected = policy_gradient(state.policy, record, weights.psi)
    flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(expected)])
    np.testing.assert_allclose(step_of(state.policy, after.policy), 1e-2 * flat, atol=1e-6)
    # with the refitted one it would have been another
    other = algorithm.estimator.weights(after.estimator, scaled).psi
    assert float(jnp.max(jnp.abs(other - weights.psi))) > 1e-3
    assert float(refitted.explained_variance) != float(info.explained_variance_before)


def test_baseline_of_the_first_batch_is_what_it_was_initially():
    record = record_of(whole=True)
    estimator = estimators.reward_to_go(baseline=constant())
    algorithm = vanilla(estimator=estimator, scale_rewards=False)
    state = start(algorithm, record)
    after, _, _ = algorithm.update(state, record, KEY)
    returns = estimator.weights(state.estimator, record).returns
    assert float(state.estimator.baseline) == 0
    expected = np.asarray(returns)[np.asarray(record.valid)].mean()
    assert float(after.estimator.baseline) == pytest.approx(expected, rel=1e-5)


def test_statistics_are_updated_after_the_gradient_the_kl_and_the_step():
    record = record_of()
    record = replace(record, observations=record.observations * 5 + 3)
    algorithm = vanilla(optimiser=optax.identity(), target_kl=0.0, step_size=0.0)
    state = start(algorithm, record)
    after, info, _ = algorithm.update(state, record, KEY)
    # a step of no length leaves the weights, so that a KL could only come from the statistics
    assert float(info.kl) == 0.0
    old, new = (s.policy.normaliser.statistics.value for s in (state, after))
    assert float(old.rows_seen) == 0
    rows = np.asarray(record.observations)[np.asarray(record.valid)]
    assert float(new.rows_seen) == len(rows)
    np.testing.assert_allclose(new.mean, rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(new.variance, rows.var(axis=0), rtol=1e-4)
    assert not step_of(state.policy, after.policy).any()  # statistics are not differentiated


def test_rewards_are_scaled_by_what_was_seen_including_this_batch():
    record = record_of()
    algorithm = vanilla()
    state = start(algorithm, record)
    after, info, _ = algorithm.update(state, record, KEY)
    assert float(info.reward_scale) == float(after.reward_scale.factor) != 1
    loud = replace(record, rewards=record.rewards * 1000)
    other, _, _ = algorithm.update(start(algorithm, loud), loud, KEY)
    np.testing.assert_allclose(
        step_of(state.policy, after.policy), step_of(state.policy, other.policy), atol=1e-5
    )


@pytest.mark.parametrize("whole", [False, True], ids=["segments", "episodes"])
@pytest.mark.parametrize("actions", [TWO, GAUSSIAN], ids=["categorical", "gaussian"])
def test_jit_equals_eager(whole, actions):
    record = record_of(actions, whole=whole)
    algorithm = vanilla(entropy_coefficient=0.01, max_global_norm=0.5)
    state = start(algorithm, record, policy_of(actions))
    eager = algorithm.update(state, record, KEY)
    jitted = jax.jit(algorithm.update)(state, record, KEY)

    def close(a, b):
        a, b = np.asarray(a), np.asarray(b)
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)

    jax.tree.map(close, eager, jitted)


def test_updates_are_counted_and_the_state_passed_in_is_left_alone():
    record = record_of()
    algorithm = vanilla()
    state = start(algorithm, record)
    kept = jax.tree.map(np.array, state)
    after, _, _ = algorithm.update(state, record, KEY)
    jax.tree.map(np.testing.assert_array_equal, state, kept)
    assert (int(state.updates), int(after.updates)) == (0, 1)


def test_repeated_updates_raise_the_probability_of_what_pays():
    """A bandit: action 1 pays. Vanilla policy gradient finds it."""
    rng = np.random.default_rng(0)
    algorithm = vanilla(
        estimator=estimators.reward_to_go(baseline=constant()), step_size=0.05, target_kl=0.0
    )
    record = record_of(whole=True)
    state = start(algorithm, record, network_policy(KEY, BOX, TWO, hidden=(4,)))
    update = jax.jit(algorithm.update)
    for i in range(30):
        probability = jax.vmap(
            jax.vmap(lambda o, policy=state.policy: jax.nn.softmax(policy(o).logits)[1])
        )(record.observations)
        actions = (rng.random(record.rewards.shape) < np.asarray(probability)).astype(np.int32)
        batch = replace(
            record, actions=jnp.asarray(actions), rewards=jnp.asarray(actions, jnp.float32)
        )
        state, _, _ = update(state, batch, jax.random.key(i))
    valid = np.asarray(record.valid)
    assert float(np.asarray(probability)[valid].mean()) > 0.9

"""What the members of the family promise, each against its own definition."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from policygrad import estimators
from policygrad.algorithms import PPO, TRPO, Batch, Natural, Vanilla, learner
from policygrad.algorithms.base import traced
from policygrad.algorithms.policy_change import mean_kl, thin
from policygrad.core.modules import combine, split
from policygrad.gradients.scores import log_probs_of, policy_gradient
from tests.algorithms.test_vanilla import CRITIC, GAUSSIAN, KEY, TWO, policy_of, record_of

ESTIMATOR = estimators.gae(critic=CRITIC)


def batch_of(actions=TWO, *, seed=0):
    policy, record = policy_of(actions), record_of(actions, seed=seed)
    record = replace(record, log_probs=log_probs_of(policy, record))
    rng = np.random.default_rng(seed)
    psi = jnp.asarray(rng.normal(size=record.rewards.shape), jnp.float32)
    psi = jnp.where(record.valid, psi, 0.0)
    return policy, Batch(record, psi, jnp.float32(1.0))


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def fisher_of(policy, record):
    """The Hessian of the mean KL at the old policy, as a matrix."""
    differentiated, rest = split(policy)
    vector, unravel = jax.flatten_util.ravel_pytree(differentiated)
    kl = lambda v: mean_kl(policy, combine(unravel(v), rest), record)  # noqa: E731
    return np.asarray(jax.hessian(kl)(vector))


@pytest.mark.parametrize("actions", [TWO, GAUSSIAN], ids=["categorical", "gaussian"])
def test_natural_step_solves_the_fisher_system(actions):
    policy, batch = batch_of(actions)
    algorithm = Natural(cg_iterations=200, target_kl=1e-4)
    gradient, _ = traced(algorithm).ascent(policy, batch)
    direction, step_size = algorithm.natural_step(policy, gradient, batch)
    matrix = fisher_of(policy, batch.trajectories) + 0.1 * np.eye(len(flat(gradient)))
    expected = np.linalg.solve(matrix.astype(np.float64), flat(gradient))
    np.testing.assert_allclose(flat(direction), expected, rtol=2e-3, atol=2e-4)
    beta = np.sqrt(2e-4 / (expected @ matrix @ expected))
    np.testing.assert_allclose(float(step_size), beta, rtol=1e-3)


def test_natural_step_has_the_kl_that_was_asked_for():
    policy, batch = batch_of()
    new = traced(Natural(target_kl=1e-3)).improve(KEY, policy, (), batch).policy
    x = flat(split(new)[0]) - flat(split(policy)[0])
    undamped = x @ fisher_of(policy, batch.trajectories) @ x
    expected = 1e-3 * undamped / (undamped + 0.1 * x @ x)  # the damping takes its share of δ
    kl = float(mean_kl(policy, new, batch.trajectories))
    assert kl == pytest.approx(expected, rel=0.1)


def test_trpo_takes_no_step_that_breaks_its_promise():
    policy, batch = batch_of()
    trpo = traced(TRPO(target_kl=0.02))
    improved = trpo.improve(KEY, policy, (), batch)
    assert float(trpo.surrogate_gain(policy, improved.policy, batch)) > 0
    assert float(mean_kl(policy, improved.policy, batch.trajectories)) <= 0.03
    assert float(improved.step_size) > 0


def test_trpo_stays_where_no_halving_keeps_the_promise():
    policy, batch = batch_of()
    trpo = traced(TRPO(target_kl=0.02, kl_slack=1e-9, backtracks=3))
    improved = trpo.improve(KEY, policy, (), batch)
    assert float(improved.step_size) == 0
    assert int(improved.more["backtracks"]) == 3
    np.testing.assert_array_equal(flat(split(improved.policy)[0]), flat(split(policy)[0]))


def test_trpo_halves_a_step_that_is_too_long():
    policy, batch = batch_of()
    long, natural = traced(TRPO(target_kl=2.0, kl_slack=0.05)), traced(Natural(target_kl=2.0))
    improved = long.improve(KEY, policy, (), batch)
    count = int(improved.more["backtracks"])
    full = natural.improve(KEY, policy, (), batch).step_size
    assert count > 0
    assert float(improved.step_size) == pytest.approx(float(full) / 2**count)
    assert float(mean_kl(policy, improved.policy, batch.trajectories)) <= 0.1


def test_trpo_accepts_a_step_that_gains_by_entropy_alone():
    policy, batch = batch_of()
    silent = batch._replace(psi=jnp.zeros_like(batch.psi))
    assert float(traced(TRPO()).improve(KEY, policy, (), silent).step_size) == 0
    improved = traced(TRPO(entropy_coefficient=0.1)).improve(KEY, policy, (), silent)
    assert float(improved.step_size) > 0


def test_first_ppo_step_is_the_policy_gradient():
    policy, batch = batch_of()
    ppo = traced(
        PPO(
            optimiser=optax.identity(), step_size=1e-3, epochs=1, minibatches=1, max_global_norm=0.0
        )
    )
    new = ppo.improve(KEY, policy, ppo.start(split(policy)[0]), batch).policy
    change = jax.tree.map(jnp.subtract, split(new)[0], split(policy)[0])
    expected = policy_gradient(policy, batch.trajectories, batch.psi)
    np.testing.assert_allclose(flat(change), 1e-3 * flat(expected), rtol=1e-3, atol=1e-7)


def test_ppo_gains_nothing_beyond_the_clip_ratio():
    policy, batch = batch_of()
    elsewhere = batch.trajectories.log_probs - jnp.where(batch.psi > 0, 1.0, -1.0)
    clipped = batch._replace(trajectories=replace(batch.trajectories, log_probs=elsewhere))
    ppo = traced(PPO(optimiser=optax.identity(), epochs=1, minibatches=1))
    improved = ppo.improve(KEY, policy, ppo.start(split(policy)[0]), clipped)
    np.testing.assert_array_equal(flat(split(improved.policy)[0]), flat(split(policy)[0]))
    assert float(improved.gradient_norm) == 0


def test_thinned_steps_keep_valid_and_observations_together():
    record = record_of()
    kept = thin(policy_of(), 2, record)
    assert kept.valid.shape == (record.valid.shape[0] // 2, record.valid.shape[1])
    for lane in range(record.valid.shape[1]):
        np.testing.assert_array_equal(
            kept.observations[:, lane], record.observations[lane % 2 :: 2, lane][: len(kept.valid)]
        )


def test_members_share_everything_but_the_improvement():
    record = record_of()
    members = [Vanilla(), Natural(), TRPO(), PPO(minibatches=2, epochs=2)]
    fitted = []
    for member in members:
        ours = learner(member, ESTIMATOR)
        state = ours.init(KEY, policy_of(), record.observations[0, 0], record.rewards.shape[1])
        after, info, refitted = jax.jit(ours.update)(state, record, KEY)
        assert np.isfinite([float(x) for x in jax.tree.leaves((info, refitted[1]))]).all()
        assert bool(refitted.sound)
        assert (flat(split(after.policy)[0]) != flat(split(state.policy)[0])).any()
        fitted.append(flat(after.estimator))
    for other in fitted[1:]:
        np.testing.assert_allclose(other, fitted[0], rtol=1e-5, atol=1e-6)

"""What the members of the family promise, each against its own definition."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from policygrad import estimators
from policygrad.algorithms import PPO, TRPO, Batch, Natural, Vanilla
from policygrad.algorithms.base import mean_kl
from policygrad.algorithms.natural import every, surrogate_gain
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
    return policy, Batch(record, psi, policy_gradient(policy, record, psi), jnp.float32(1.0))


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
    algorithm = Natural(estimator=ESTIMATOR, cg_iterations=200, fisher_share=1.0, target_kl=1e-4)
    gradient = batch.gradient
    direction, step_size = algorithm.natural_step(policy, batch)
    matrix = fisher_of(policy, batch.trajectories) + 0.1 * np.eye(len(flat(gradient)))
    expected = np.linalg.solve(matrix.astype(np.float64), flat(gradient))
    np.testing.assert_allclose(flat(direction), expected, rtol=2e-3, atol=2e-4)
    beta = np.sqrt(2e-4 / (expected @ matrix @ expected))
    np.testing.assert_allclose(float(step_size), beta, rtol=1e-3)


def test_natural_step_has_the_kl_that_was_asked_for():
    policy, batch = batch_of()
    algorithm = Natural(estimator=ESTIMATOR, target_kl=1e-3, fisher_share=1.0)
    new, _, _ = algorithm.improve(KEY, policy, (), batch)
    x = flat(split(new)[0]) - flat(split(policy)[0])
    undamped = x @ fisher_of(policy, batch.trajectories) @ x
    expected = 1e-3 * undamped / (undamped + 0.1 * x @ x)  # the damping takes its share of δ
    kl = float(mean_kl(policy, new, batch.trajectories))
    assert kl == pytest.approx(expected, rel=0.1)


def test_trpo_takes_no_step_that_breaks_its_promise():
    policy, batch = batch_of()
    trpo = TRPO(estimator=ESTIMATOR, target_kl=0.02)
    new, _, info = trpo.improve(KEY, policy, (), batch)
    assert float(surrogate_gain(new, batch)) > 0
    assert float(mean_kl(policy, new, batch.trajectories)) <= 0.03
    direction = policy_gradient(policy, batch.trajectories, -batch.psi)  # downhill: never accepted
    size, info = trpo.accept(policy, direction, jnp.float32(0.1), batch)
    assert float(size) == 0
    assert int(info["backtracks"]) == 10


def test_trpo_halves_a_step_that_is_too_long():
    policy, batch = batch_of()
    trpo = TRPO(estimator=ESTIMATOR, target_kl=1e-3)
    direction = policy_gradient(policy, batch.trajectories, batch.psi)
    size, info = trpo.accept(policy, direction, jnp.float32(1e3), batch)
    count = int(info["backtracks"])
    assert count > 0
    assert float(size) == (1e3 / 2**count if float(size) else 0)


def test_first_ppo_step_is_the_policy_gradient():
    policy, batch = batch_of()
    ppo = PPO(
        estimator=ESTIMATOR, optimiser=optax.identity(), step_size=1e-3, epochs=1, minibatches=1,
        max_global_norm=0.0,
    )  # fmt: skip
    new, _, _ = ppo.improve(KEY, policy, ppo.start(split(policy)[0]), batch)
    change = jax.tree.map(jnp.subtract, split(new)[0], split(policy)[0])
    expected = policy_gradient(policy, batch.trajectories, batch.psi)
    np.testing.assert_allclose(flat(change), 1e-3 * flat(expected), rtol=1e-3, atol=1e-7)


def test_ppo_gains_nothing_beyond_the_clip_ratio():
    policy, batch = batch_of()
    elsewhere = batch.trajectories.log_probs - jnp.where(batch.psi > 0, 1.0, -1.0)
    clipped = batch._replace(trajectories=replace(batch.trajectories, log_probs=elsewhere))
    ppo = PPO(estimator=ESTIMATOR, optimiser=optax.identity(), epochs=1, minibatches=1)
    new, _, info = ppo.improve(KEY, policy, ppo.start(split(policy)[0]), clipped)
    np.testing.assert_array_equal(flat(split(new)[0]), flat(split(policy)[0]))
    assert float(info["gradient_norm"]) == 0


def test_every_keeps_valid_and_observations_together():
    record = record_of()
    kept = every(2, record)
    assert kept.valid.shape == (record.valid.shape[0] // 2, record.valid.shape[1])
    for lane in range(record.valid.shape[1]):
        np.testing.assert_array_equal(
            kept.observations[:, lane], record.observations[lane % 2 :: 2, lane][: len(kept.valid)]
        )


def test_members_share_everything_but_the_improvement():
    record = record_of()
    settings = {"estimator": ESTIMATOR}
    adam = {"optimiser": optax.scale_by_adam()}
    members = [Vanilla(**settings, **adam), Natural(**settings), TRPO(**settings)]
    members.append(PPO(**settings, **adam, minibatches=2, epochs=2))
    fitted = []
    for member in members:
        state = member.init(KEY, policy_of(), record.observations[0, 0], record.rewards.shape[1])
        after, info = jax.jit(member.update)(state, record, KEY)
        assert np.isfinite([float(x) for x in info.values()]).all()
        assert (flat(split(after.policy)[0]) != flat(split(state.policy)[0])).any()
        fitted.append(flat(after.estimator))
    for other in fitted[1:]:
        np.testing.assert_allclose(other, fitted[0], rtol=1e-5, atol=1e-6)

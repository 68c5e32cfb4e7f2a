"""One update, whatever the algorithm: denominators, schedules, scales and soundness."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from policygrad import estimators
from policygrad.algorithms import PPO, TRPO, Natural, Vanilla, learner
from policygrad.algorithms.base import traced
from policygrad.algorithms.learner import all_finite
from policygrad.core.counting import BLOCK, LongCount
from policygrad.gradients.baselines import constant, value_network
from policygrad.gradients.scores import policy_gradient
from tests.algorithms.test_vanilla import KEY, entropy_gradient, policy_of, record_of
from tests.records import FirstFeature, random_episodes

CRITIC = value_network((8,), epochs=2)
ESTIMATOR = estimators.gae(critic=CRITIC)


def start(ours, record, policy=None):
    policy = policy_of() if policy is None else policy
    return ours.init(KEY, policy, record.observations[0, 0], record.rewards.shape[1])


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def test_entropy_weighs_alike_against_segments_and_whole_episodes():
    """The same rows, as segments and as whole episodes: one ratio of bonus to gradient."""
    policy, ratios = policy_of(), []
    record = record_of(whole=True)
    psi = jnp.where(record.valid, 1.0, 0.0)
    for whole in (True, False):
        rows = replace(record, whole_episodes=whole)
        bonus, gradient = entropy_gradient(policy, rows), policy_gradient(policy, rows, psi)
        ratios.append(flat(bonus) / np.linalg.norm(flat(gradient)))
    np.testing.assert_allclose(*ratios, rtol=1e-4)


def test_a_batch_is_weighed_in_the_scale_that_the_critic_was_fitted_in():
    record = record_of()
    loud = replace(record, rewards=100 * record.rewards)
    ours = learner(Vanilla(), ESTIMATOR)
    update = jax.jit(ours.update)
    first, info, _ = update(start(ours, record), record, KEY)
    assert float(info.reward_scale) == pytest.approx(float(first.reward_scale.factor))
    second, info, _ = update(first, loud, KEY)
    # rewards a hundred times as large are taken in after they were used
    assert float(info.reward_scale) == float(first.reward_scale.factor)
    assert float(second.reward_scale.factor) < float(first.reward_scale.factor) / 5


def test_what_nothing_refits_explains_as_much_before_as_after():
    """Steps are weighed alike in both, also where each episode counts once."""
    record = random_episodes(lengths=(1, 9, 2, 5))
    ours = learner(Vanilla(), estimators.total_return(baseline=FirstFeature()), scale_rewards=False)
    _, info, refitted = jax.jit(ours.update)(start(ours, record), record, KEY)
    before, after = info.explained_variance_before, refitted.explained_variance
    np.testing.assert_allclose(before, after, rtol=1e-5)


def test_the_critic_is_fitted_in_the_scale_that_it_is_used_in_next():
    record = record_of(whole=True)
    loud = replace(record, rewards=100 * record.rewards)
    ours = learner(Vanilla(), estimators.reward_to_go(baseline=constant()))
    state, _, _ = ours.update(start(ours, record), record, KEY)
    after, request, info = ours.step(state, loud, KEY)
    returns = estimators.reward_to_go().weights(
        estimators.EstimatorState((), ()),
        replace(loud, rewards=loud.rewards * after.reward_scale.factor),
    )
    valid = np.asarray(record.valid)
    np.testing.assert_allclose(
        np.asarray(request.returns)[valid], np.asarray(returns.returns)[valid], rtol=1e-4
    )
    assert float(info.reward_scale) != float(after.reward_scale.factor)


def test_steps_shrink_over_more_steps_than_32_bits_hold():
    ours = learner(Vanilla(step_size_schedule="linear"), ESTIMATOR, total_steps=10**10)
    record, update = record_of(), jax.jit(ours.update)
    for steps, share in (
        (0, 1.0),
        (2_500_000_000, 0.75),
        (7_500_000_000, 0.25),
        (10**10, 0.0),
        (2 * 10**10, 0.0),
    ):
        state = start(ours, record)._replace(steps=LongCount.of(steps))
        after, info, _ = update(state, record, KEY)
        np.testing.assert_allclose(float(info.step_size), 1e-3 * share, rtol=1e-5, atol=1e-12)
        assert int(after.steps) == steps + int(np.sum(record.valid))


def test_long_counts_carry():
    count = LongCount.of(3 * BLOCK - 5)
    count = jax.jit(LongCount.plus)(count, jnp.int32(7))
    assert int(count) == 3 * BLOCK + 2
    assert count.rest.dtype == jnp.int32


def test_a_critic_that_turns_nan_is_not_sound():
    record = record_of()
    ours = learner(Vanilla(), ESTIMATOR)
    state = start(ours, record)
    assert bool(ours.update(state, record, KEY)[2].sound)
    weights = jax.tree.map(lambda x: x * jnp.nan, state.estimator.critic.network)
    broken = state.estimator._replace(critic=state.estimator.critic._replace(network=weights))
    _, request, _ = ours.step(state, record, KEY)
    assert not bool(ours.refit(broken, request).sound)


def test_what_holds_no_number_is_finite():
    assert bool(all_finite(()))
    assert bool(all_finite({"count": jnp.int32(1)}))
    assert not bool(all_finite({"count": jnp.int32(1), "x": jnp.array([1.0, np.inf])}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Natural(target_kl=0.01), Natural(target_kl=0.02)),
        (Natural(damping=0.1), Natural(damping=0.2)),
        (TRPO(kl_slack=1.5), TRPO(kl_slack=2.0)),
        (Vanilla(target_kl=0.01), Vanilla(target_kl=0.0)),
        (Vanilla(max_global_norm=0.0), Vanilla(max_global_norm=0.5)),
        (Vanilla(entropy_coefficient=0.01), Vanilla(entropy_coefficient=0.02)),
        (Vanilla(step_size=1e-3), Vanilla(step_size=1e-2)),
        (PPO(clip_ratio=0.2), PPO(clip_ratio=0.1)),
    ],
)
def test_another_number_compiles_nothing_anew(one, other):
    record, traces = record_of(), []

    @jax.jit
    def update(ours, state, record):
        traces.append(None)
        return ours.step(state, record, KEY)

    for algorithm, total, discount in ((one, 10**5, 0.99), (other, 10**6, 0.9)):
        ours = learner(
            algorithm, estimators.gae(critic=CRITIC, discount=discount, gae_lambda=discount),
            total_steps=total,
        )  # fmt: skip
        update.trace(ours, start(ours, record), record)
    assert len(traces) == 1


def test_natural_shrinks_its_step_with_the_root_of_what_remains():
    record, sizes = record_of(), {}
    for schedule in ("linear", "constant"):
        ours = learner(Natural(step_size_schedule=schedule), ESTIMATOR, total_steps=1_000_000)
        state = start(ours, record)
        late = state._replace(steps=LongCount.of(750_000))
        sizes[schedule] = [
            float(jax.jit(ours.step)(s, record, KEY)[2].step_size) for s in (state, late)
        ]
    full, later = sizes["linear"]
    assert later == pytest.approx(full / 2, rel=1e-4)
    assert sizes["constant"] == pytest.approx([full, full], rel=1e-4)


def test_an_entropy_that_is_not_wanted_is_not_computed():
    assert traced(Vanilla()).entropy_coefficient is None
    assert float(traced(Vanilla(entropy_coefficient=1.0)).entropy_coefficient) == 1


def test_no_key_is_used_twice_in_an_update():
    record = record_of(whole=True)
    from policygrad.gradients.baselines import variance_optimal

    estimator = estimators.reward_to_go(baseline=variance_optimal(value_network((4,))))
    ours = learner(PPO(minibatches=2, epochs=1, optimiser=optax.identity()), estimator)
    state = start(ours, record)
    with jax.debug_key_reuse(True):
        jax.jit(ours.update)(state, record, jax.random.key(3))

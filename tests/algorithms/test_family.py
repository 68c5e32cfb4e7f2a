"""What the members of the family promise, each against its own definition."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from policygrad import estimators
from policygrad.algorithms import PPO, TRPO, Batch, Natural, Vanilla, base, learner
from policygrad.algorithms.base import traced
from policygrad.algorithms.policy_change import (
    compare,
    fisher_product,
    gradient_of_mean,
    mean_entropy,
    mean_kl,
    mean_over_steps,
    thin,
)
from policygrad.algorithms.step_size import StepSize
from policygrad.core.modules import combine, split
from policygrad.devices import chunks
from policygrad.devices.sharing import Sharing, sharing_is
from policygrad.gradients.scores import gradient_and_distributions, log_probs_of, policy_gradient
from policygrad.policies import meeting
from tests.algorithms.test_vanilla import CRITIC, GAUSSIAN, KEY, TWO, policy_of, record_of
from tests.records import random_segments
from tests.slow import params, slow
from tests.worlds import Remembering

ESTIMATOR = estimators.gae(critic=CRITIC)


def batch_of(actions=TWO, *, seed=0):
    """A batch with two rows that are no transition, whose log-probabilities are no policy's."""
    policy, record = policy_of(actions), record_of(actions, seed=seed)
    valid = record.valid.at[2, 1].set(False).at[5, 3].set(False)
    record = replace(
        record,
        valid=valid,
        log_probs=jnp.where(valid, log_probs_of(policy, record), -200.0),
    )
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
    return np.asarray(jax.jit(jax.hessian(kl))(vector))


@pytest.mark.parametrize(
    "actions", params({"categorical": TWO, "gaussian": GAUSSIAN}, {"categorical"})
)
def test_natural_step_solves_the_fisher_system(actions):
    policy, batch = batch_of(actions)
    algorithm = Natural(cg_iterations=200, target_kl=1e-4)
    gradient, _ = traced(algorithm).ascent(policy, batch)
    direction, step_size = jax.jit(algorithm.natural_step)(policy, gradient, batch)
    matrix = fisher_of(policy, batch.trajectories) + 0.1 * np.eye(len(flat(gradient)))
    expected = np.linalg.solve(matrix.astype(np.float64), flat(gradient))
    np.testing.assert_allclose(flat(direction), expected, rtol=2e-3, atol=2e-4)
    beta = np.sqrt(2e-4 / (expected @ matrix @ expected))
    np.testing.assert_allclose(float(step_size), beta, rtol=1e-3)


@pytest.mark.parametrize("kind", [Natural, TRPO])
def test_a_batch_without_weights_moves_nothing_and_its_step_is_logged_as_0(kind):
    policy, batch = batch_of()
    batch = batch._replace(psi=0 * batch.psi)
    found = traced(kind()).improve(KEY, policy, (), batch)
    assert float(found.step_size) == 0
    np.testing.assert_array_equal(flat(split(found.policy)[0]), flat(split(policy)[0]))


def test_a_small_gradient_makes_a_step_of_the_same_kl():
    policy, batch = batch_of()
    steps = []
    for size in (1.0, 1e-9):
        small = batch._replace(psi=size * batch.psi)
        gradient, _ = traced(Natural()).ascent(policy, small)
        x, step_size = Natural().natural_step(policy, gradient, small)
        steps.append(float(step_size) * flat(x))
    np.testing.assert_allclose(steps[1], steps[0], rtol=1e-3, atol=1e-6)


def test_natural_step_has_the_kl_that_was_asked_for():
    policy, batch = batch_of()
    new = jax.jit(traced(Natural(target_kl=1e-3)).improve)(KEY, policy, (), batch).policy
    x = flat(split(new)[0]) - flat(split(policy)[0])
    matrix = fisher_of(policy, batch.trajectories)
    product = fisher_product(policy, split(new)[0], batch.trajectories)
    expected = matrix @ flat(split(new)[0])
    np.testing.assert_allclose(flat(product), expected, rtol=1e-3, atol=1e-4 * abs(expected).max())
    undamped = x @ matrix @ x
    expected = 1e-3 * undamped / (undamped + 0.1 * x @ x)  # the damping takes its share of δ
    kl = float(mean_kl(policy, new, batch.trajectories))
    assert kl == pytest.approx(expected, rel=0.1)


class Bounded(eqx.Module):
    """A distribution whose KL has an infinite derivative by a number that no parameter moves."""

    mean: jax.Array
    bound: jax.Array

    def kl(self, other):
        return jnp.sum((self.mean - other.mean) ** 2) * (0.5 + jnp.sqrt(jnp.sum(other.bound)))


def test_fisher_products_differentiate_by_what_the_parameters_move_alone():
    weight, record = jnp.ones(3), batch_of()[1].trajectories
    width = record.observations.shape[-1]

    class Policy(eqx.Module):
        weight: jax.Array

        def __call__(self, observation):
            return Bounded(self.weight * observation[:1], jnp.zeros(width))

    product = fisher_product(Policy(weight), Policy(jnp.arange(3.0)), record)
    square = np.mean(np.asarray(record.observations[..., 0])[np.asarray(record.valid)] ** 2)
    np.testing.assert_allclose(flat(product), square * np.arange(3.0), rtol=1e-5)


def test_one_iteration_of_conjugate_gradients_goes_along_the_gradient():
    policy, batch = batch_of()
    gradient = policy_gradient(policy, batch.trajectories, batch.psi)
    x, _ = Natural(cg_iterations=1).natural_step(policy, gradient, batch)
    cosine = flat(x) @ flat(gradient) / np.linalg.norm(flat(x)) / np.linalg.norm(flat(gradient))
    assert cosine == pytest.approx(1, abs=1e-5)


def test_natural_stays_where_there_is_no_gradient():
    policy, batch = batch_of()
    silent = batch._replace(psi=jnp.zeros_like(batch.psi))
    improved = traced(Natural()).improve(KEY, policy, (), silent)
    np.testing.assert_array_equal(flat(split(improved.policy)[0]), flat(split(policy)[0]))


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


def test_trpo_lowers_its_limit_on_the_kl_with_what_remains():
    policy, batch = batch_of()
    trpo = traced(TRPO(target_kl=2.0, kl_slack=0.05))

    @jax.jit
    def kl_of_update(remaining):
        new = trpo.improve(KEY, policy, (), batch._replace(remaining=remaining)).policy
        return mean_kl(policy, new, batch.trajectories)

    early, late = (float(kl_of_update(jnp.float32(x))) for x in (1.0, 0.25))
    assert 0.1 * 0.25 < early <= 0.1
    assert 0 < late <= 0.1 * 0.25


def test_fisher_share_is_the_share_of_rows_that_the_curvature_is_taken_on():
    policy, batch = batch_of()
    gradient = policy_gradient(policy, batch.trajectories, batch.psi)
    ours = Natural(fisher_share=0.5).natural_step(policy, gradient, batch)
    fewer = batch._replace(trajectories=thin(policy, 2, batch.trajectories))
    theirs = Natural().natural_step(policy, gradient, fewer)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_trpo_accepts_a_step_that_gains_by_entropy_alone():
    policy, batch = batch_of()
    silent = batch._replace(psi=jnp.zeros_like(batch.psi))
    assert float(traced(TRPO()).improve(KEY, policy, (), silent).step_size) == 0
    improved = traced(TRPO(entropy_coefficient=0.1)).improve(KEY, policy, (), silent)
    assert float(improved.step_size) > 0


@pytest.mark.parametrize(
    "target", [0.01, *(pytest.param(x, marks=slow) for x in (0.25, 0.5, 1.0, 2.0)), 4.0]
)
def test_trpo_takes_the_first_halving_that_keeps_the_promise(target):
    policy, batch = batch_of()
    trpo, natural = traced(TRPO(target_kl=target, kl_slack=0.05)), traced(Natural(target_kl=target))
    improved = trpo.improve(KEY, policy, (), batch)
    full = natural.improve(KEY, policy, (), batch)
    count = int(improved.more["backtracks"])
    assert count > 0
    moved = [flat(split(x.policy)[0]) - flat(split(policy)[0]) for x in (improved, full)]
    np.testing.assert_allclose(moved[0], moved[1] / 2**count, rtol=1e-3, atol=1e-6)

    def keeps(halvings):
        params, rest = split(policy)
        end = split(full.policy)[0]
        new = combine(jax.tree.map(lambda a, b: a + (b - a) / 2**halvings, params, end), rest)
        gain = float(trpo.surrogate_gain(policy, new, batch))
        return gain > 0 and float(mean_kl(policy, new, batch.trajectories)) <= 0.05 * target

    assert [keeps(n) for n in range(count + 1)] == [False] * count + [True]


@pytest.mark.parametrize("coefficient", [0.0, 0.3])
def test_the_gain_of_a_step_is_that_of_the_surrogate_and_of_the_entropy(coefficient):
    """E[Ψ (π_new/π_old - 1)] + c (H_new - H_old), means over the steps that are transitions."""
    (policy, batch), other = batch_of(), policy_of(seed=1)
    record, valid = batch.trajectories, np.asarray(batch.trajectories.valid)
    old, new = (np.asarray(log_probs_of(p, record), float) for p in (policy, other))
    gain = np.mean((np.asarray(batch.psi) * np.expm1(new - old))[valid])
    more = float(mean_entropy(other, record)) - float(mean_entropy(policy, record))
    assert abs(more) > 0.01
    found = traced(TRPO(entropy_coefficient=coefficient)).surrogate_gain(policy, other, batch)
    np.testing.assert_allclose(found, gain + coefficient * more, rtol=1e-3)


ONE_STEP = {"optimiser": optax.identity(), "step_size": 1e-3, "epochs": 1, "minibatches": 1}


def ppo_step(policy, batch, **settings):
    """The change of the differentiated leaves in one update, and the update."""
    ppo = traced(PPO(**ONE_STEP | settings))
    improved = ppo.improve(KEY, policy, ppo.start(split(policy)[0]), batch)
    return flat(split(improved.policy)[0]) - flat(split(policy)[0]), improved


def test_first_ppo_step_is_the_policy_gradient():
    policy, batch = batch_of()
    change, improved = ppo_step(policy, batch, max_global_norm=0.0)
    expected = flat(policy_gradient(policy, batch.trajectories, batch.psi))
    np.testing.assert_allclose(change, 1e-3 * expected, rtol=1e-3, atol=1e-7)
    assert float(improved.gradient_norm) == pytest.approx(np.linalg.norm(expected), rel=1e-4)


def test_first_ppo_step_has_the_entropy_bonus_of_the_family():
    policy, batch = batch_of()
    change, _ = ppo_step(policy, batch, max_global_norm=0.0, entropy_coefficient=0.5)
    expected, _ = traced(Vanilla(entropy_coefficient=0.5)).ascent(policy, batch)
    np.testing.assert_allclose(change, 1e-3 * flat(expected), rtol=1e-3, atol=1e-7)


def test_ppo_shortens_each_gradient_and_shrinks_each_step():
    policy, batch = batch_of()
    full, improved = ppo_step(policy, batch, max_global_norm=0.0)
    limit = float(improved.gradient_norm) / 4
    late = batch._replace(remaining=jnp.float32(0.5))
    short, improved = ppo_step(policy, late, max_global_norm=limit)
    np.testing.assert_allclose(short, full / 8, rtol=1e-3, atol=1e-7)
    assert float(improved.gradient_norm) == pytest.approx(4 * limit)  # what is logged: before
    assert float(improved.step_size) == pytest.approx(0.5e-3)
    assert float(improved.improver.step_size) == pytest.approx(1e-3)  # of a run's beginning


def test_a_minibatch_of_one_transition_has_the_gradient_of_that_transition():
    policy, batch = batch_of()
    one = np.zeros(batch.psi.shape, bool)
    one[3, 1] = True
    record = replace(batch.trajectories, valid=jnp.asarray(one))
    change, _ = ppo_step(policy, batch._replace(trajectories=record), max_global_norm=0.0)
    expected = flat(policy_gradient(policy, record, batch.psi))
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(change, 1e-3 * expected, rtol=1e-3, atol=1e-7)


def test_ppo_makes_as_many_steps_as_it_has_minibatches_in_all_epochs():
    policy, batch = batch_of()
    _, improved = ppo_step(policy, batch, optimiser=optax.scale_by_adam(), epochs=3, minibatches=2)
    assert int(improved.improver.optimiser.count) == 6


def test_ppo_adapts_its_step_size_where_it_has_a_target():
    improver = StepSize((), jnp.float32(0.1))
    for target, kl, expected in ((0.01, 9.0, 0.1 / 1.5), (0.01, 0.0, 0.15), (0.0, 9.0, 0.1)):
        ppo = traced(PPO(target_kl=target))
        adapted = ppo.adapt(improver, jnp.float32(kl), 1.0, held=jnp.bool_(False))
        assert float(adapted.step_size) == pytest.approx(expected)


def test_ppo_gains_nothing_beyond_the_clip_ratio():
    policy, batch = batch_of()
    elsewhere = batch.trajectories.log_probs - jnp.where(batch.psi > 0, 1.0, -1.0)
    clipped = batch._replace(trajectories=replace(batch.trajectories, log_probs=elsewhere))
    ppo = traced(PPO(optimiser=optax.identity(), epochs=1, minibatches=1))
    improved = ppo.improve(KEY, policy, ppo.start(split(policy)[0]), clipped)
    np.testing.assert_array_equal(flat(split(improved.policy)[0]), flat(split(policy)[0]))
    assert float(improved.gradient_norm) == 0


@pytest.mark.parametrize("entropy", [None, 0.3])
def test_the_loss_of_ppo_is_the_clipped_surrogate(entropy):
    """-Σ min(ρ Ψ, clip(ρ, 1 - ε, 1 + ε) Ψ) - c Σ H, for ratios on both sides and both signs."""
    policy, batch = batch_of()
    record, psi = batch.trajectories, batch.psi
    log_probs, valid = np.asarray(log_probs_of(policy, record)), np.asarray(record.valid)
    ratios = np.random.default_rng(0).uniform(0.3, 2.0, log_probs.shape)
    record = replace(record, log_probs=jnp.asarray(log_probs - np.log(ratios), jnp.float32))
    rows = meeting.units(policy, record, record.actions, record.log_probs, psi)
    params, rest = split(policy)
    ours = replace(traced(PPO(clip_ratio=0.25)), entropy_coefficient=entropy)
    more, _ = ours.bonus(None) or (None, ())
    gains = np.minimum(ratios * psi, np.clip(ratios, 0.75, 1.25) * psi)
    bonus = 0.0 if entropy is None else entropy * float(mean_entropy(policy, record)) * valid.sum()
    np.testing.assert_allclose(
        ours.loss(rest, more, params, rows), -np.sum(gains[valid]) - bonus, rtol=1e-4
    )
    for low, high in ((0.3, 0.75), (0.75, 1.25), (1.25, 2.0)):
        for sign in (-1, 1):  # each kind of step is there
            assert np.any((ratios > low) & (ratios < high) & (np.sign(psi) == sign) & valid)


def test_thinned_steps_keep_valid_and_observations_together():
    record = record_of()
    kept = thin(policy_of(), 2, record)
    assert kept.valid.shape == (record.valid.shape[0] // 2, record.valid.shape[1])
    for lane in range(record.valid.shape[1]):
        np.testing.assert_array_equal(
            kept.observations[:, lane], record.observations[lane % 2 :: 2, lane][: len(kept.valid)]
        )


def test_a_record_shorter_than_the_stride_is_thinned_to_one_step_a_lane():
    record = record_of()
    short = replace(
        record, observations=record.observations[:2], valid=jnp.array([[0, 1, 0, 1]] * 2, bool)
    )
    kept = thin(policy_of(), 3, short)
    expected = [short.observations[row, lane] for lane, row in enumerate([0, 1, 0, 0])]
    np.testing.assert_array_equal(kept.observations, np.stack(expected)[None])
    np.testing.assert_array_equal(kept.valid, [[False, True, False, True]])


def test_means_of_two_policies_are_those_of_their_distributions():
    policy, batch = batch_of()
    other, record = policy_of(seed=1), batch.trajectories
    _, before = gradient_and_distributions(policy, record, batch.psi)
    kl, entropy = compare(before, other, record)
    np.testing.assert_allclose(mean_kl(policy, other, record), kl, rtol=1e-5)
    np.testing.assert_allclose(mean_entropy(policy, record), entropy, rtol=1e-5)


def test_means_over_nothing_are_zero():
    policy, batch = batch_of()
    record = replace(batch.trajectories, valid=jnp.zeros_like(batch.trajectories.valid))
    assert float(mean_kl(policy, policy_of(seed=1), record)) == 0
    assert float(mean_entropy(policy, record)) == 0
    assert float(mean_over_steps(batch.psi, record)) == 0


def test_mean_over_one_step_is_its_own_value():
    policy, batch = batch_of()
    one = jnp.zeros_like(batch.trajectories.valid).at[4, 2].set(True)
    record = replace(batch.trajectories, valid=one)
    assert float(mean_over_steps(batch.psi, record)) == float(batch.psi[4, 2])
    entropy = policy(record.observations[4, 2]).entropy()
    assert float(mean_entropy(policy, record)) == pytest.approx(float(entropy), rel=1e-5)


def test_lanes_of_a_policy_with_memory_are_thinned_whole():
    record = record_of()
    lanes = record.valid.shape[1]
    record = replace(record, carry=jnp.arange(2.0 * lanes).reshape(1, lanes, 2))
    kept = thin(Remembering(jnp.ones((2, 2))), 2, record)
    for name in ("observations", "valid", "times", "carry"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(record, name)[:, ::2])


def test_gradient_of_the_mean_weighed_log_probability_is_the_policy_gradient():
    policy, batch = batch_of()
    record = batch.trajectories

    def weighed(distribution, action, psi):
        return psi * distribution.log_prob(action)

    ours = gradient_of_mean(weighed, policy, record, record.actions, batch.psi)
    theirs = policy_gradient(policy, record, batch.psi)
    np.testing.assert_allclose(flat(ours), flat(theirs), rtol=1e-4, atol=1e-7)


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


def rows_at_once(jaxpr):
    """The most rows that any matrix product of a program has, however deep inside."""
    most = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            most = max(most, *equation.outvars[0].aval.shape, 0)
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                most = max(most, rows_at_once(inner))
    return most


def improved_in_parts(monkeypatch, parts, chunk):
    """The program of PPO's improvement from one minibatch of 512 rows."""
    record, ours = random_segments(steps=64, lanes=8), traced(PPO(epochs=1, minibatches=1))
    policy = policy_of()
    batch = Batch(record, jnp.ones(record.rewards.shape), jnp.float32(1))
    for module in (chunks, meeting):
        monkeypatch.setattr(module, "chunk_rows", lambda *_: chunk)
    with sharing_is(Sharing(parts)):
        return jax.make_jaxpr(ours.improve)(KEY, policy, ours.start(split(policy)[0]), batch)


def test_a_minibatch_of_ppo_goes_through_the_network_in_chunks(monkeypatch):
    assert rows_at_once(improved_in_parts(monkeypatch, 1, 64).jaxpr) == 64


def test_a_minibatch_of_ppo_is_shared_between_parts(monkeypatch):
    shared = []

    def spy(function, rows):
        shared.append(jax.tree.leaves(rows)[0].shape[0])
        return real(function, rows)

    real = chunks.sum_and_map_parts
    monkeypatch.setattr(chunks, "sum_and_map_parts", spy)
    inside_of_loss = improved_in_parts(monkeypatch, 2, 64)
    assert rows_at_once(inside_of_loss.jaxpr) == 64
    assert shared.count(512) >= 2  # the loss of the minibatch, and the policy that acted


def test_ppo_computes_no_policy_gradient_beside_its_own(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the policy gradient was computed")

    for name in ("gradient_and_distributions", "gradient_of_mean"):
        monkeypatch.setattr(base, name, refuse, raising=False)
    record = record_of()

    def step(algorithm):
        ours = learner(algorithm, ESTIMATOR)
        state = ours.init(KEY, policy_of(), record.observations[0, 0], 4)
        jax.jit(ours.step).trace(state, record, KEY)

    step(PPO(epochs=1, minibatches=2))
    with pytest.raises(AssertionError, match="the policy gradient"):
        step(Vanilla())

"""Exact values and gradients against autodiff, finite differences, closed forms and inverses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.tabular import (
    FiniteMDP,
    FunctionPolicy,
    SoftmaxPolicy,
    enumerate_trajectories,
    objective,
    solve,
)
from tests.tabular.oracle import random_mdp, random_policy, relative_error, scores


@pytest.mark.parametrize("features", [None, 2])
@pytest.mark.parametrize("horizon", [3, None])
@pytest.mark.parametrize("sparse", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_gradient_is_that_of_autodiff_and_of_finite_differences(horizon, features, sparse):
    mdp = random_mdp(1, horizon=horizon, sparse=sparse)
    policy = random_policy(2, mdp, features=features)
    solution = solve(mdp, policy, discount=0.9)
    with jax.enable_x64(True):
        assert float(objective(mdp, policy, discount=0.9)) == pytest.approx(solution.objective)
        theta = jax.grad(lambda t: objective(mdp, SoftmaxPolicy(t, policy.features), discount=0.9))(
            policy.theta
        )
    assert relative_error(solution.gradient, np.ravel(theta)) <= 1e-10

    def j(theta):
        return solve(mdp, SoftmaxPolicy(theta, policy.features), discount=0.9).objective

    for i in range(policy.theta.size):
        step = 1e-5 * np.eye(policy.theta.size)[i].reshape(policy.theta.shape)
        slope = (j(policy.theta + step) - j(policy.theta - step)) / 2e-5
        assert slope == pytest.approx(solution.gradient[i], abs=1e-8)


def test_values_are_those_of_enumeration():
    mdp = random_mdp(3)
    policy = random_policy(4, mdp)
    paths = enumerate_trajectories(mdp, policy)
    assert paths.probabilities.sum() == pytest.approx(1, abs=1e-12)
    solution = solve(mdp, policy, discount=0.8)
    returns = paths.rewards @ 0.8 ** np.arange(3)
    assert solution.objective == pytest.approx(paths.probabilities @ returns, abs=1e-12)
    for t in range(3):
        live = (paths.states[:, t] == 0) & paths.valid[:, t]
        p = paths.probabilities * live
        assert solution.occupancy[t, 0] == pytest.approx(p.sum(), abs=1e-12)
        to_go = paths.rewards[:, t:] @ 0.8 ** np.arange(3 - t)
        assert solution.values[t, 0] == pytest.approx(p @ to_go / p.sum(), abs=1e-12)
        taken = p * (paths.actions[:, t] == 1)
        assert solution.action_values[t, 0, 1] == pytest.approx(taken @ to_go / taken.sum())


@pytest.mark.parametrize("absorbing", [True, False])
def test_softmax_closed_form_and_linear_systems(absorbing):
    """∂J/∂θ_sa = d_γ(s) π(a|s) A(s, a), and V, d from their systems written out."""
    mdp = random_mdp(5, horizon=None, absorbing=absorbing)
    policy = random_policy(6, mdp)
    pi, _ = scores(policy, mdp)
    p, r = mdp.edges.weights, (mdp.edges.weights * mdp.edges.rewards).sum(-1)
    chain = np.einsum("sa,sat->st", pi, p)
    v = np.linalg.solve(np.eye(3) - 0.9 * chain, (pi * r).sum(1))
    d = np.linalg.solve(np.eye(3) - 0.9 * chain.T, mdp.initial)
    q = r + 0.9 * p @ v
    solution = solve(mdp, policy, discount=0.9)
    assert solution.values == pytest.approx(v, abs=1e-12)
    assert solution.occupancy == pytest.approx(d, abs=1e-12)
    assert solution.advantages == pytest.approx(q - v[:, None], abs=1e-12)
    closed = d[:, None] * pi * (q - v[:, None])
    assert solution.gradient == pytest.approx(closed.ravel(), abs=1e-12)
    assert np.isnan(solution.usual_direction).all() == (not absorbing)


@pytest.mark.parametrize("horizon", [4, None])
def test_usual_direction_drops_the_discount_of_states(horizon):
    mdp = random_mdp(7, horizon=horizon)
    policy = random_policy(8, mdp)
    one = solve(mdp, policy, discount=1.0)
    assert relative_error(one.usual_direction, one.gradient) <= 1e-12
    less = solve(mdp, policy, discount=0.5)
    assert relative_error(less.usual_direction, less.gradient) > 1e-2


@pytest.mark.parametrize("features", [None, 2])
def test_natural_gradient_is_that_of_the_fisher_inverse(features):
    mdp = random_mdp(9, horizon=3)
    policy = random_policy(10, mdp, features=features)
    solution = solve(mdp, policy, discount=0.9)
    _, z = scores(policy, mdp)
    z = z * ~mdp.absorbing[:, None, None]
    fisher = np.einsum("sa,sad,sae->de", solution.discounted_visits, z, z)
    assert relative_error(solution.fisher, fisher) <= 1e-12
    expected = np.linalg.pinv(fisher, rcond=1e-10) @ solution.gradient
    assert relative_error(solution.natural_gradient, expected) <= 1e-9
    if features:  # invertible: the plain inverse too
        expected = np.linalg.solve(fisher, solution.gradient)
        assert relative_error(solution.natural_gradient, expected) <= 1e-9


def test_natural_gradient_of_a_softmax_is_its_advantages_also_where_it_is_nearly_certain():
    """Kakade 2001. One action has the probability 1 − 10⁻¹³ or so, the others hardly any."""
    mdp = random_mdp(9, horizon=None)
    theta = np.zeros((mdp.states, mdp.actions))
    theta[:, 0] = 30.0
    solution = solve(mdp, SoftmaxPolicy(theta), discount=0.9)
    expected = solution.advantages - solution.advantages.mean(axis=1, keepdims=True)
    expected[mdp.absorbing] = 0.0
    assert relative_error(solution.natural_gradient, expected.reshape(-1)) <= 1e-9


def test_fisher_is_the_curvature_of_the_divergence():
    """½ dᵀ F d is the KL of a whole trajectory at γ = 1, to second order."""
    mdp = random_mdp(11, horizon=3, noisy=False)
    policy = random_policy(12, mdp, features=2)
    fisher = solve(mdp, policy, discount=1.0).fisher
    step = 1e-4 * np.array([0.6, -0.8])
    moved = SoftmaxPolicy(policy.theta + step, policy.features)
    one, other = (enumerate_trajectories(mdp, p) for p in (policy, moved))
    kl = one.probabilities @ np.log(one.probabilities / other.probabilities)
    assert kl == pytest.approx(0.5 * step @ fisher @ step, rel=1e-3)


def test_a_function_policy_is_the_softmax_that_it_computes():
    mdp = random_mdp(13)
    policy = random_policy(14, mdp, features=2)
    phi = policy.features.value
    function = FunctionPolicy({"w": policy.theta}, lambda t: jax.nn.softmax(phi @ t["w"], axis=1))
    one, other = (solve(mdp, p, discount=0.9) for p in (policy, function))
    assert relative_error(other.gradient, one.gradient) <= 1e-12
    assert other.objective == pytest.approx(one.objective, abs=1e-12)


@pytest.mark.parametrize(("theta", "impossible"), [(0.0, "a=0"), (1.0, "a=1")])
def test_a_support_that_depends_on_the_parameters_is_refused(theta, impossible):
    """π = (θ, 1 − θ) with rewards 3 and 1: dJ/dθ = 2, and Σ π z Q loses a term at 0 and at 1."""
    mdp = FiniteMDP([[[0.0, 1.0]] * 2] * 2, [[3.0, 1.0], [0.0, 0.0]], [1.0, 0.0])

    def policy(theta):
        return FunctionPolicy(
            jnp.array([theta]), lambda t: jnp.stack([jnp.concatenate([t, 1 - t])] * 2)
        )

    for inside in (1e-6, 0.5, 1 - 1e-6):
        assert solve(mdp, policy(inside), discount=1.0).gradient == pytest.approx(2)
    with pytest.raises(ValueError, match=rf"π\({impossible}\|s=0\) is 0 and its derivative by θ"):
        solve(mdp, policy(theta), discount=1.0)


def test_an_action_that_no_parameter_makes_possible_is_taken():
    mdp = FiniteMDP([[[0.0, 1.0]] * 3] * 2, [[3.0, 1.0, 7.0], [0.0] * 3], [1.0, 0.0])
    masked = FunctionPolicy(
        jnp.zeros(2),
        lambda t: jnp.stack([jnp.append(jax.nn.softmax(t), 0.0)] * 2),
    )
    assert solve(mdp, masked, discount=1.0).gradient == pytest.approx([0.5, -0.5])


def test_nothing_touches_the_global_precision():
    before = jax.config.jax_enable_x64
    mdp = random_mdp(15)
    solution = solve(mdp, random_policy(16, mdp), discount=0.9)
    assert solution.values.dtype == np.float64
    assert isinstance(solution.values, np.ndarray)
    assert jax.config.jax_enable_x64 == before

"""What constructors are given: numbers of any kind, or one clear error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad import baselines, distributions, estimators
from policygrad.core.modules import Carried, split
from policygrad.policies import FullyConnected
from policygrad.tabular import (
    FiniteMDP,
    FixedPolicy,
    FunctionPolicy,
    SoftmaxPolicy,
    Sparse,
    moments,
    solve,
)

KEY = jax.random.key(0)
KINDS = {
    "list": [0, 1],
    "tuple": (0.0, 1.0),
    "integers": np.array([0, 1]),
    "32 bits": np.array([0, 1], np.float32),
    "64 bits": np.array([0, 1], np.float64),
    "JAX": jnp.arange(2),
}
of_every_kind = pytest.mark.parametrize("values", KINDS.values(), ids=KINDS)
FLOATS = jnp.array([0.0, 1.0])
MDP = FiniteMDP([[[0, 1], [1, 0]], [[0, 1], [0, 1]]], [[1, 0], [0, 0]], [1, 0], horizon=3)
PHI = [[[1], [0]], [[2], [0]]]


def numbers_of(distribution):
    action = distribution.sample(KEY)
    return action, distribution.log_prob(action), distribution.entropy()


@of_every_kind
@pytest.mark.parametrize(
    "make",
    [
        distributions.Categorical,
        distributions.Bernoulli,
        lambda x: distributions.MultiCategorical.from_logits(x, [1, 1]),
        lambda x: distributions.DiagonalGaussian(x, x),
        lambda x: distributions.ClippedGaussian(x, x, x, x),
        lambda x: distributions.TanhGaussian(x, x),
    ],
    ids=["categorical", "bernoulli", "multi", "gaussian", "clipped", "tanh"],
)
def test_distributions_take_numbers_of_every_kind(make, values):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        numbers_of(make(values)),
        numbers_of(make(FLOATS)),
    )


@of_every_kind
def test_masks_are_read_as_flags(values):
    """An integer's complement is no flag's: ~1 is −2, which counts as true."""
    assert distributions.Bernoulli([5.0, 5.0], values).mode().tolist() == [0, 1]
    assert distributions.Categorical([5, 0], values).mode() == 1
    multi = distributions.MultiCategorical.from_logits([5, 0, 9], (2, 1), [*np.asarray(values), 1])
    assert multi.mode().tolist() == [1, 0]


def test_distributions_pass_through_transformations_as_they_are():
    """What is converted once, by the constructor, is not looked at again."""
    batch = jax.jit(jax.vmap(distributions.Categorical))(jnp.zeros((3, 2)))
    assert batch.logits.shape == (3, 2)
    host = jax.device_get(batch)
    assert isinstance(host.logits, np.ndarray)
    assert jax.tree.map(lambda _: None, batch).logits is None


@pytest.mark.parametrize("values", ["ab", [[1], [1, 2]], [None]], ids=str)
def test_what_is_no_array_of_numbers_is_named(values):
    makers = {
        "logits": distributions.Categorical,
        "mean": lambda x: distributions.DiagonalGaussian(x, 0.0),
        "values": baselines.table,
        "theta": SoftmaxPolicy,
        "features": lambda x: SoftmaxPolicy([0.0], x),
        "transitions": lambda x: FiniteMDP(x, [[0]], [1]),
        "rewards": lambda x: FiniteMDP([[[1]]], x, [1]),
        "probabilities": FixedPolicy,
    }
    for name, make in makers.items():
        with pytest.raises(ValueError, match=rf"^{name} must be"):
            make(values)


@of_every_kind
def test_tables_take_numbers_of_every_kind(values):
    assert baselines.table(values).given.tolist() == [0, 1]


@of_every_kind
def test_softmax_policy_takes_theta_and_features_of_every_kind(values):
    plain = SoftmaxPolicy([values, values])
    np.testing.assert_allclose(plain(0).log_probs, jax.nn.log_softmax(FLOATS), rtol=1e-6)
    theta = np.asarray(values)[1:]
    policy = SoftmaxPolicy(theta, features=PHI)
    assert isinstance(policy.features, Carried)
    expected = solve(MDP, SoftmaxPolicy.of(np.ones(1), np.array(PHI, float)), discount=1.0)
    found = solve(MDP, policy, discount=1.0)
    np.testing.assert_array_equal(found.gradient, expected.gradient)
    differentiated, _ = split(policy)
    assert differentiated.theta.dtype == np.float64  # whole numbers would not be learned
    assert differentiated.features.value is None


def test_softmax_policy_refuses_what_does_not_belong_together():
    for theta, features in (([0, 0], PHI), ([[0]], PHI), ([0], [[1]])):
        with pytest.raises(ValueError, match=r"theta.*and features.*disagree"):
            SoftmaxPolicy(theta, features)
    with pytest.raises(ValueError, match=r"theta\[1\]=inf"):
        SoftmaxPolicy([0, np.inf])


def test_function_policy_takes_whole_numbers():
    def probabilities(theta):
        return jax.nn.softmax(jnp.stack([theta["w"], -theta["w"]]), axis=1)

    ours, theirs = (FunctionPolicy({"w": np.array([1, 0], t)}, probabilities) for t in (int, float))
    gradients = [solve(MDP, policy, discount=1.0).gradient for policy in (ours, theirs)]
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_distributions_in_few_bits_are_those_that_they_round(dtype):
    thirds, third = np.full((3, 1, 3), 1 / 3, dtype), np.full(3, 1 / 3, dtype)
    for mdp in (
        FiniteMDP(thirds, np.zeros((3, 1)), third, horizon=2),
        FiniteMDP(Sparse(np.arange(3) + np.zeros((3, 1, 1), int), thirds), [[0]] * 3, third),
    ):
        np.testing.assert_allclose(mdp.edges.weights.sum(axis=-1), 1, rtol=1e-15)
        np.testing.assert_allclose(mdp.edges.initial, 1 / 3, rtol=1e-15)
    np.testing.assert_allclose(FixedPolicy(third[None]).probabilities, 1 / 3, rtol=1e-15)
    with pytest.raises(ValueError, match=r"initial must sum to 1, got 0\.(9|8999)"):
        FiniteMDP([[[1, 0]]] * 2, [[0]] * 2, np.array([0.4, 0.5], dtype))
    with pytest.raises(ValueError, match="must sum to 1"):
        FixedPolicy([[0.5, 0.5 - 1e-7]])  # in 64 bits this is no rounding


@pytest.mark.parametrize("one", [1, np.int64(1), np.float32(1), np.array(1.0), jnp.int32(1)])
def test_estimators_take_numbers_of_every_kind(one):
    policy = SoftmaxPolicy([[0, 1], [0, 0]])
    expected = moments(MDP, policy, estimators.reward_to_go())
    found = moments(MDP, policy, estimators.reward_to_go(discount=one))
    np.testing.assert_array_equal(found.mean, expected.mean)
    assert str(estimators.gae(discount=one, gae_lambda=one).form) == "reward_to_go"
    assert baselines.constant(one).given == 1
    assert baselines.linear_features(one).ridge == baselines.value_network(step_size=one).step_size


@pytest.mark.parametrize("value", ["0.9", None, [0.9], (1,), {}], ids=str)
def test_what_is_no_number_is_named(value):
    makers = {
        "discount": lambda x: estimators.reward_to_go(discount=x),
        "gae_lambda": lambda x: estimators.gae(gae_lambda=x),
        "step_size": lambda x: baselines.value_network(step_size=x),
        "ridge": baselines.linear_features,
    }
    for name, make in makers.items():
        with pytest.raises(ValueError, match=f"^{name} must be a number, got {name}="):
            make(value)


def test_sizes_take_whole_numbers_of_every_kind():
    for hidden in ([8, 4], (8, 4), np.array([8, 4])):
        assert FullyConnected(hidden) == FullyConnected((8, 4))
    for hidden in (8, "8", [[8]]):
        with pytest.raises(ValueError, match="hidden must be sizes"):
            FullyConnected(hidden)
    for value in (np.array([1.0, 2.0]), np.nan):
        with pytest.raises(ValueError, match="value must be a finite number"):
            baselines.constant(value)

import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.core.errors import UserError
from policygrad.core.modules import split
from policygrad.policies.networks import NormalisedMLP, mlp, orthogonal
from policygrad.policies.normaliser import (
    ObservationNormaliser,
    RunningStatistics,
    flatten_observation,
    unresolved_components,
    update_statistics,
)

KEY = jax.random.key(0)


def batches(seed=0, number=4, rows=50, features=3):
    """Batches of different centres and scales, with the rows that count."""
    rng = np.random.default_rng(seed)
    for i in range(number):
        yield rng.normal(5 * i, 1 + i, (rows, features)), rng.random(rows) < 0.7


def test_running_statistics_equal_those_of_all_valid_rows():
    statistics, seen = RunningStatistics.init((3,)), []
    for rows, valid in batches():
        statistics = statistics.update(jnp.asarray(rows), jnp.asarray(valid))
        seen.append(rows[valid])
    seen = np.concatenate(seen)
    assert float(statistics.rows_seen) == len(seen)
    np.testing.assert_allclose(statistics.mean, seen.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(statistics.variance, seen.var(axis=0), rtol=1e-5)


def test_a_batch_without_valid_rows_changes_nothing():
    rows, valid = next(batches())
    none = np.zeros_like(valid)
    for before in (
        RunningStatistics.init((3,)),
        RunningStatistics.init((3,)).update(jnp.asarray(rows), jnp.asarray(valid)),
    ):
        after = before.update(jnp.asarray(rows), jnp.asarray(none))
        jax.tree.map(np.testing.assert_array_equal, after, before)


def test_running_statistics_far_from_zero():
    rng = np.random.default_rng(0)
    rows = 1e4 + rng.normal(size=(400, 1))
    statistics = RunningStatistics.init((1,))
    for part in np.split(rows, 4):
        statistics = statistics.update(jnp.asarray(part), jnp.ones(100, bool))
    np.testing.assert_allclose(statistics.variance, rows.var(axis=0), rtol=0.01)


def seen_by(normaliser, features=3):
    rows, _ = next(batches(features=features))
    return normaliser.update(jnp.asarray(rows)[:, None], jnp.ones((len(rows), 1), bool)), rows


def test_normaliser_centres_scales_and_clips():
    normaliser = ObservationNormaliser.of(jnp.zeros(3))
    np.testing.assert_allclose(normaliser(jnp.array([0.5, -2.0, 90.0])), [0.5, -2.0, 10.0])
    normaliser, rows = seen_by(normaliser)
    out = jax.vmap(normaliser)(jnp.asarray(rows))
    expected = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_normaliser_of_pytrees_leaves_flagged_entries_alone():
    def encode(observation):
        return jnp.concatenate([observation["place"], observation["kind"]])

    encode.normalised = (True, False, False)
    observation = {"place": jnp.array([4.0]), "kind": jnp.array([0.0, 1.0])}
    normaliser = ObservationNormaliser.of(observation, encode)
    batch = jax.tree.map(lambda x: jnp.stack([x, 3 * x])[:, None], observation)
    normaliser = normaliser.update(batch, jnp.ones((2, 1), bool))
    np.testing.assert_allclose(normaliser(observation), [-1, 0, 1], rtol=1e-5)


def test_flatten_observation_is_one_float_vector():
    observation = {"a": jnp.ones((2, 2)), "b": (jnp.array(3), jnp.array([True]))}
    flat = flatten_observation(observation)
    assert flat.dtype == jnp.float32
    np.testing.assert_array_equal(flat, [1, 1, 1, 1, 3, 1])


def test_statistics_are_not_differentiated():
    normaliser, rows = seen_by(ObservationNormaliser.of(jnp.zeros(3)))
    assert jax.tree.leaves(split(normaliser)[0]) == []

    def loss(normaliser):  # even where someone differentiates all of its leaves
        return jnp.sum(normaliser(jnp.asarray(rows[0])) ** 2)

    assert loss(normaliser) > 0
    for leaf in jax.tree.leaves(eqx.filter_grad(loss)(normaliser)):
        np.testing.assert_array_equal(leaf, 0)


def test_update_statistics_reaches_nested_normalisers_only():
    module = {
        "policy": (ObservationNormaliser.of(jnp.zeros(3)), mlp(KEY, 3, 2, (4,))),
        "critic": [ObservationNormaliser.of(jnp.zeros(3)), jnp.tanh, None],
    }
    rows, valid = next(batches())
    updated = update_statistics(module, jnp.asarray(rows)[:, None], jnp.asarray(valid)[:, None])
    for normaliser in (updated["policy"][0], updated["critic"][0]):
        np.testing.assert_allclose(
            normaliser.statistics.value.mean, rows[valid].mean(axis=0), rtol=1e-4, atol=1e-5
        )
    assert eqx.tree_equal(updated["policy"][1], module["policy"][1])
    assert updated["critic"][1:] == [jnp.tanh, None]


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (1, 4)])
def test_orthogonal_weights_are_orthogonal(shape):
    w = np.asarray(orthogonal(np.random.default_rng(0), *shape, 2.0))
    assert w.shape == shape
    gram = w.T @ w if shape[0] >= shape[1] else w @ w.T
    np.testing.assert_allclose(gram, 4 * np.eye(min(shape)), atol=1e-5)


def test_mlp_is_its_layers_one_after_another():
    network = mlp(KEY, 3, 2, (5, 4), last_scale=0.01)
    assert [w.shape for w in network.weights] == [(5, 3), (4, 5), (2, 4)]
    gains = [np.linalg.norm(w, 2) for w in network.weights]
    np.testing.assert_allclose(gains, [np.sqrt(2), np.sqrt(2), 0.01], rtol=1e-5)
    biases = tuple(jnp.full(b.shape, 0.1) for b in network.biases)
    network = eqx.tree_at(lambda n: n.biases, network, biases)
    x = expected = np.array([1.0, -2.0, 0.5])
    for i, w in enumerate(network.weights):
        expected = np.asarray(w) @ expected + 0.1
        expected = np.tanh(expected) if i < 2 else expected
    np.testing.assert_allclose(network(jnp.asarray(x)), expected, rtol=1e-5)


def test_a_normalised_layer_is_centred_and_scaled_before_its_activation():
    made = NormalisedMLP.of(mlp(KEY, 3, 2, (5, 4)))
    made = jax.tree.map(lambda x: x + jax.random.normal(jax.random.key(x.size), x.shape), made)
    x, layers = np.array([0.3, -2.0, 1.5]), made.mlp
    expected = x
    for weight, bias, gain in zip(layers.weights[:-1], layers.biases[:-1], made.gains, strict=True):
        a = np.asarray(weight) @ expected
        expected = np.tanh(gain * (a - a.mean()) / np.sqrt(a.var() + 1e-5) + bias)
    expected = np.asarray(layers.weights[-1]) @ expected + layers.biases[-1]
    np.testing.assert_allclose(made(jnp.asarray(x)), expected, rtol=2e-5)
    again = pickle.loads(pickle.dumps(made))
    assert again.mlp.activation is jnp.tanh
    np.testing.assert_array_equal(again(jnp.asarray(x)), made(jnp.asarray(x)))


def test_modules_hold_arrays_only_and_cross_jit():
    network, normaliser = mlp(KEY, 3, 1), ObservationNormaliser.of(jnp.zeros(3))
    assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves((network, normaliser)))
    value = jax.jit(lambda n, m, x: n(m(x)))(network, normaliser, jnp.ones(3))
    np.testing.assert_allclose(value, network(normaliser(jnp.ones(3))), rtol=1e-5)


def test_networks_of_other_keys_differ():
    one, same, other = (mlp(jax.random.key(i), 3, 2, (4,)) for i in (0, 0, 1))
    assert eqx.tree_equal(one, same)
    assert not np.allclose(one.weights[0], other.weights[0])


def normalised(rows):
    """Columns of rows, normalised by their own statistics in batches of 500."""
    normaliser = ObservationNormaliser.of(jnp.zeros(rows.shape[1]))
    for part in np.split(rows, len(rows) // 500):
        normaliser = normaliser.update(jnp.asarray(part)[:, None], jnp.ones((500, 1), bool))
    return np.asarray(jax.vmap(normaliser)(jnp.asarray(rows))), normaliser


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9, 1e-12])
def test_case_22_signals_of_any_size_are_normalised(size):
    rows = size * np.random.default_rng(0).normal(size=(2000, 2))
    found, _ = normalised(rows)
    np.testing.assert_allclose(found.std(axis=0), 1, rtol=0.01)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5, 1e6, -1e6])
def test_case_22_signals_far_from_zero_are_normalised(offset):
    rows = offset + np.random.default_rng(0).normal(size=(2000, 2))
    found, normaliser = normalised(rows)
    np.testing.assert_allclose(found.std(axis=0), 1, rtol=0.05)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=0.3)
    assert unresolved_components(normaliser) == []


@pytest.mark.parametrize("value", [0.0, 1e-6, 0.1, -3.3, 7.0])
def test_a_constant_gives_zero(value):
    """But for the rounding of its mean."""
    found, normaliser = normalised(np.full((2000, 1), value))
    np.testing.assert_allclose(found, 0, atol=0.05)
    assert unresolved_components(normaliser) == []


def test_a_signal_that_was_never_seen_is_cut():
    _, normaliser = normalised(np.zeros((500, 1)))
    np.testing.assert_array_equal(normaliser(jnp.array([0.5])), [10])


def test_ordinary_spreads_are_divided_by_the_same_number_as_ever():
    normaliser = ObservationNormaliser.of(jnp.zeros(1))
    mean = jnp.asarray(np.random.default_rng(0).normal(size=1000), jnp.float32)
    variance = jnp.asarray(np.geomspace(1e-4, 1e6, 1000), jnp.float32)
    found = jax.jit(lambda *x: normaliser.spreads(*x))(mean, variance)
    np.testing.assert_array_equal(found, jax.jit(lambda v: jnp.sqrt(v + 1e-8))(variance))


def test_large_means_keep_the_least_spread_that_they_had():
    normaliser = ObservationNormaliser.of(jnp.zeros(1))
    variance = jnp.asarray(np.geomspace(1e-20, 1e-4, 100), jnp.float32)
    found = normaliser.spreads(jnp.full(100, -5.0), variance)
    np.testing.assert_array_equal(found, jnp.sqrt(variance + 1e-8))


@pytest.mark.parametrize("spread", [1.0, 10.0, 100.0])
def test_case_22_components_that_32_bits_merge_are_named(spread):
    rng = np.random.default_rng(0)
    rows = {"clock": 1.7e9 + spread * rng.normal(size=(500, 2)), "x": rng.normal(size=(500, 1))}
    normaliser = ObservationNormaliser.of(
        {"clock": np.zeros(2), "x": np.zeros(1)}, lambda seen: jax.tree.map(jnp.float32, seen)
    )
    assert unresolved_components(normaliser) == []
    rows = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32)[:, None], rows)
    normaliser = normaliser.update(rows, jnp.ones((500, 1), bool))
    found = unresolved_components({"inside": (normaliser, 3)})
    assert [text.partition(":")[0] for text in found] == ["['clock'][0]", "['clock'][1]"]
    assert "around 1.7e+09, where numbers of 32 bits are 128 apart" in found[0]


def test_fault_16_a_network_that_does_not_fit_into_memory_is_refused():
    with pytest.raises(UserError, match=r"10000000, 10000000.*100,000,[0-9,]+ weights.*GB"):
        mlp(KEY, 4, 2, (10**7, 10**7))
    with pytest.raises(UserError, match=r"1000000, 1000000"):
        mlp(KEY, 4, 2, (10**6, 10**6))

"""Architectures: those of the library, and a user's own for pictures, from training to loading."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad
from policygrad import baselines, estimators
from policygrad.core.errors import RunError
from policygrad.policies import FullyConnected, mlp, network_policy
from policygrad.policies.architectures import build, describe, restore
from policygrad.runs import storage
from policygrad.runs.policy_files import policy_to_files
from tests.worlds import Echo

KEY = jax.random.key(0)
BOX, TWO = spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(2)
PICTURES = spaces.Dict(
    {"image": spaces.Box(0, 1, (8, 8, 3)), "place": BOX, "action_mask": spaces.MultiBinary(2)}
)


# ----- a user's own: a frozen dataclass, and the module that it builds


class Seeing(eqx.Module):
    """A convolution beside a vector. The activation of `eqx.nn.MLP` is a leaf that is no array."""

    convolution: eqx.nn.Conv2d
    head: eqx.nn.MLP

    def __call__(self, features):
        image = jnp.moveaxis(features["image"], -1, 0)
        seen = jax.nn.relu(self.convolution(image)).mean(axis=(1, 2))
        return self.head(jnp.concatenate([seen, features["place"]]))


@dataclass(frozen=True)
class Convolutional:
    channels: int = 4
    widths: tuple[int, ...] = (8,)

    def build(self, key, example, outputs, *, last_scale=1.0):
        one, two = jax.random.split(key)
        *_, colours = example["image"].shape
        convolution = eqx.nn.Conv2d(colours, self.channels, kernel_size=3, key=one)
        inputs = self.channels + example["place"].size
        return Seeing(convolution, eqx.nn.MLP(inputs, outputs, self.widths[0], 1, key=two))

    def to_json(self):
        return {"channels": self.channels, "widths": list(self.widths)}


NETWORK = Convolutional(channels=2)


def seeing_policy(seed=0):
    return network_policy(jax.random.key(seed), PICTURES, TWO, network=NETWORK)


@pytest.fixture(scope="module")
def path_and_run(tmp_path_factory):
    """Policy and critic of one architecture, after one update."""
    path = tmp_path_factory.mktemp("runs") / "seeing"
    run = policygrad.train(
        lambda: Echo(PICTURES, TWO),
        policy=seeing_policy(),
        estimator=estimators.gae(critic=baselines.value_network(network=NETWORK, epochs=1)),
        out=path,
        num_envs=4,
        batch_steps=32,
        total_steps=32,
    )
    return path, run


def test_own_architecture_trains_policy_and_critic(path_and_run):
    path, run = path_and_run
    assert len(run.metrics) == 1
    before, after = seeing_policy().network, run.policy.network
    assert not np.array_equal(before.convolution.weight, after.convolution.weight)
    assert not np.array_equal(before.head.layers[0].weight, after.head.layers[0].weight)
    statistics = run.policy.normaliser.statistics.value
    assert statistics.mean["image"] is None  # a picture is not normalised
    assert statistics.mean["place"].shape == (2,)
    arrays, _ = storage.load(next(path.glob("checkpoints/*/state.safetensors")).with_suffix(""))
    critic = [name for name in arrays if "estimator" in name and "convolution/weight" in name]
    assert len(critic) == 3  # the weight, and two moments of Adam


@pytest.mark.parametrize("network", [Convolutional, NETWORK], ids=["class", "instance"])
def test_own_architecture_is_loaded_where_it_is_passed(path_and_run, network):
    path, run = path_and_run
    agent = policygrad.load(path, network=network)
    assert agent.policy.architecture == NETWORK
    jax.tree.map(np.testing.assert_array_equal, agent.policy, run.policy)
    observation = PICTURES.sample()
    np.testing.assert_array_equal(agent(observation).logits, run.agent(observation).logits)


def test_own_architecture_is_loaded_like_a_policy_of_its_structure(path_and_run):
    path, run = path_and_run
    agent = policygrad.load(path, like=seeing_policy(seed=5))
    jax.tree.map(np.testing.assert_array_equal, agent.policy, run.policy)


@pytest.mark.parametrize(
    ("passed", "message"),
    [
        ({}, r"architecture tests\..*Convolutional.*pass network=Convolutional"),
        ({"network": Convolutional(channels=3)}, "with .*'channels': 2.*got .*channels=3"),
        ({"network": FullyConnected}, "makes no architecture"),
        ({"network": NETWORK, "like": object()}, "without like="),
    ],
    ids=["nothing", "another", "another class", "both"],
)
def test_loading_says_which_architecture_to_pass(path_and_run, passed, message):
    with pytest.raises(RunError, match=message):
        policygrad.load(path_and_run[0], **passed)


# ----- those of the library


def test_fully_connected_is_an_mlp_on_the_features_as_one_vector():
    example = {"a": np.zeros((2, 2), np.float32), "b": np.zeros(3, np.float32)}
    network = FullyConnected([5, 4]).build(KEY, example, 2, last_scale=0.01)
    assert eqx.tree_equal(network, mlp(KEY, 7, 2, (5, 4), last_scale=0.01))
    features = {"a": jnp.arange(4.0).reshape(2, 2), "b": jnp.arange(4.0, 7.0)}
    np.testing.assert_array_equal(network(features), network(jnp.arange(7.0)))


def test_sizes_are_short_for_a_fully_connected_network():
    one = network_policy(KEY, BOX, TWO, hidden=(8,))
    other = network_policy(KEY, BOX, TWO, network=FullyConnected((8,)))
    assert eqx.tree_equal(one, other)
    assert baselines.value_network((8,)) == baselines.value_network(network=FullyConnected([8]))


def test_saved_architecture_is_its_class_and_its_numbers():
    saved = describe(FullyConnected((8, 4)))
    assert saved == {"class": "FullyConnected", "settings": {"hidden": [8, 4]}}
    assert restore(saved, None, "here") == FullyConnected((8, 4))
    normalised = FullyConnected((8, 4), layer_norm=True)
    assert restore(describe(normalised), None, "here") == normalised
    with pytest.raises(RunError, match=r"library's FullyConnected, got network=.*Convolutional"):
        restore(saved, Convolutional, "here")


def test_file_from_before_there_were_architectures_is_read(tmp_path):
    policy = network_policy(KEY, BOX, TWO, hidden=(8,), normalise_observations=True)
    arrays, data = policy_to_files(policy, BOX, TWO)
    assert data["network"].pop("architecture") == describe(FullyConnected((8,)))
    storage.save(tmp_path / "policy", arrays, data | {"network": data["network"] | {"hidden": [8]}})
    agent = policygrad.load(tmp_path / "policy.json")
    assert eqx.tree_equal(agent.policy, policy)


def test_architecture_belongs_to_the_policies_of_network_policy(tmp_path):
    arrays, data = policy_to_files(mlp(KEY, 2, 2), BOX, TWO)
    storage.save(tmp_path / "policy", arrays, data)
    with pytest.raises(RunError, match=r"class .*MLP, got network=.*without like="):
        policygrad.load(tmp_path / "policy.json", network=Convolutional)


# ----- mistakes


@dataclass(frozen=True)
class Linear:
    """One layer, of as many more numbers than asked for."""

    more: Any = 1

    def build(self, key, example, outputs, *, last_scale=1.0):
        return mlp(key, 2, outputs + self.more, ())

    def to_json(self):
        return {"more": self.more}


class Unhashable(Linear):
    __hash__ = None


MAKERS = {
    "critic": baselines.value_network,
    "policy": lambda **settings: network_policy(KEY, BOX, TWO, **settings),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Convolutional, "must be an architecture"),
        ((64, 64), r"must be an architecture.*got \(64, 64\)"),
        (mlp(KEY, 2, 2), "must be an architecture"),
        (Unhashable(), "must be hashable"),
        (Linear(KEY), "must be hashable"),
        (Linear(1j), "must give plain data by to_json"),
    ],
    ids=["class", "sizes", "module", "unhashable", "array", "not plain"],
)
def test_what_is_no_architecture_is_refused(make, network, message):
    with pytest.raises(ValueError, match=message):
        make(network=network)
    with pytest.raises(ValueError, match="give one"):
        make(network=FullyConnected(), hidden=(8,))


def test_network_that_returns_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"Linear.*shape \[2\]"):
        network_policy(KEY, BOX, TWO, network=Linear())
    example = np.zeros(2, np.float32)
    assert build(Linear(0), KEY, lambda x: x, example, 3).biases[-1].shape == (3,)


@pytest.mark.parametrize("hidden", [(0,), (8, -1), (2.5,), (True,)], ids=str)
def test_sizes_that_are_none_are_refused(hidden):
    with pytest.raises(ValueError, match="hidden must be a whole number"):
        FullyConnected(hidden)

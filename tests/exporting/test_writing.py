"""Exports on disk: from where, to where, and what is not overwritten or cannot be exported."""

import json
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from gymnasium import spaces

import policygrad
from policygrad.core.errors import RunError, UserError
from policygrad.maths.distributions import Categorical
from policygrad.policies import FullyConnected, Memory, mlp
from tests.exporting.worlds import FOUR, WORLDS, agent_of, load

FORMATS = ("numpy", "onnx")


@pytest.fixture
def agent():
    return agent_of(WORLDS["acts box"])


def test_runs_agents_and_files_are_exported_alike(trained, tmp_path):
    run = trained
    checkpoint = sorted((run.path / "checkpoints").iterdir())[-1]
    sources = (run, run.agent, run.path, str(run.path), checkpoint, run.path / "policy.json")
    observation = np.ones(4, np.float32)
    expected = np.asarray(run.agent(observation).log_probs)
    for number, source in enumerate(sources):
        policy = load(policygrad.export(source, tmp_path / str(number)))
        given = policy.distribution(observation)["log_probabilities"]
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)


def test_the_files_say_what_they_are(agent, tmp_path):
    folder = policygrad.export(agent, tmp_path / "deep" / "policy")
    assert sorted(x.name for x in folder.iterdir()) == ["policy.json", "policy.npz", "policy.py"]
    said = json.loads((folder / "policy.json").read_text())
    assert said["kind"] == "policy exported by policygrad"
    assert said["versions"].keys() == {"policygrad", "python", "jax", "numpy"}
    assert said["spaces"] == [str(agent.observation_space), str(agent.action_space)]


@pytest.mark.parametrize("form", FORMATS)
def test_an_earlier_export_is_replaced(form, tmp_path):
    first, second = (agent_of(WORLDS["acts box"], seed) for seed in (0, 1))
    path = policygrad.export(first, tmp_path / "policy", format=form)
    policygrad.export(second, path, format=form)
    if form == "numpy":
        np.testing.assert_allclose(
            load(path).act(np.ones(4)), second.act(np.ones(4)), rtol=1e-5, atol=1e-5
        )
    else:
        fresh = policygrad.export(second, tmp_path / "fresh", format=form)
        assert path.read_bytes() == fresh.read_bytes()
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_is_half_written_is_replaced(agent, tmp_path):
    path = policygrad.export(agent, tmp_path / "policy")
    (path / "policy.py").unlink()
    (path / "policy.npz").unlink()
    load(policygrad.export(agent, path))


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_target_is_taken(form, agent, tmp_path):
    path = tmp_path / "policy"
    path.mkdir() if form == "numpy" else path.touch()
    policygrad.export(agent, path, format=form)


def foreign(kind, tmp_path):
    """A target that holds something of the user's."""
    path = tmp_path / "mine"
    match kind:
        case "file":
            path.write_text("mine")
        case "folder":
            path.mkdir()
            (path / "notes.txt").write_text("mine")
        case "policy.json of another program":
            path.mkdir()
            (path / "policy.json").write_text('{"kind": "other"}')
        case "policy.json without an object":
            path.mkdir()
            (path / "policy.json").write_text("[1]")
        case "another program's model":
            path.write_bytes(onnx.ModelProto(producer_name="other").SerializeToString())
    return path


@pytest.mark.parametrize(
    ("kind", "form", "message"),
    [
        ("file", "numpy", "is a file; name a directory"),
        ("folder", "numpy", "not empty and not an earlier export"),
        ("policy.json of another program", "numpy", "not empty and not an earlier export"),
        ("policy.json without an object", "numpy", "not empty and not an earlier export"),
        ("file", "onnx", "exists and is not an earlier export"),
        ("folder", "onnx", "is a directory; name a file"),
        ("another program's model", "onnx", "exists and is not an earlier export"),
    ],
)
def test_what_is_not_an_export_is_not_overwritten(kind, form, message, agent, tmp_path):
    path = foreign(kind, tmp_path)
    before = {x: x.read_bytes() for x in [path, *path.rglob("*")] if x.is_file()}
    with pytest.raises(UserError, match=message):
        policygrad.export(agent, path, format=form)
    assert {x: x.read_bytes() for x in [path, *path.rglob("*")] if x.is_file()} == before


@pytest.mark.parametrize("form", FORMATS)
def test_a_target_below_a_file_is_refused(form, agent, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the export to"):
        policygrad.export(agent, tmp_path / "file" / "policy", format=form)


@pytest.mark.parametrize("form", ["tensorflow", "ONNX", "", None])
def test_another_format_is_refused(form, agent, tmp_path):
    with pytest.raises(UserError, match="numpy, onnx"):
        policygrad.export(agent, tmp_path / "policy", format=form)


def test_what_is_no_run_is_refused(agent, tmp_path):
    with pytest.raises(RunError, match="no run or policy at"):
        policygrad.export(tmp_path / "none", tmp_path / "policy")
    with pytest.raises(UserError, match=r"Agent\(policy, observation_space, action_space\)"):
        policygrad.export(agent.policy, tmp_path / "policy")
    for seed in (0, 1):
        (tmp_path / "seeds" / f"seed-{seed}").mkdir(parents=True)
        (tmp_path / "seeds" / f"seed-{seed}" / "config.json").touch()
    with pytest.raises(UserError, match=r"holds 2 runs.*seed-0"):
        policygrad.export(tmp_path / "seeds", tmp_path / "policy")


# ----- policies that have no description


class Own(eqx.Module):
    bias: jax.Array

    def __call__(self, observation):
        return Categorical(self.bias)


class Remembering(Own):
    def initial_carry(self):
        return jnp.zeros(1)

    def __call__(self, observation, carry):
        return Categorical(self.bias), carry


@dataclass(frozen=True)
class Linear:
    """An architecture whose network is no `MLP`."""

    def build(self, key, example, outputs, *, last_scale=1.0):
        return eqx.nn.Linear(4, outputs, key=key)

    def to_json(self):
        return {}


@dataclass(frozen=True)
class Sigmoids:
    """An architecture of layers with an activation of its own."""

    activation: str = "sigmoid"

    def build(self, key, example, outputs, *, last_scale=1.0):
        activation = getattr(jax.nn, self.activation)
        return mlp(key, 4, outputs, (8,), activation=activation, last_scale=last_scale)

    def to_json(self):
        return {"activation": self.activation}


def policy_of(world, **settings):
    return policygrad.network_policy(
        jax.random.key(0), world.observations, world.actions, **settings
    )


def other_encoder():
    policy = policy_of(WORLDS["sees box"])
    normaliser = policygrad.ObservationNormaliser.of(np.zeros(4, np.float32), jnp.sin)
    return eqx.tree_at(lambda p: p.normaliser, policy, normaliser)


NOT_EXPORTED = {
    "own class": (lambda: Own(jnp.zeros(3)), "policy of the class .*Own"),
    "memory": (lambda: Remembering(jnp.zeros(3)), "policy of the class .*Remembering"),
    "function": (lambda: lambda observation: Categorical(jnp.zeros(3)), "policy of the class"),
    "own network": (lambda: policy_of(WORLDS["sees box"], network=Linear()), "network of Linear"),
    "own activation": (
        lambda: policy_of(WORLDS["sees box"], network=Sigmoids()),
        "network of Sigmoids",
    ),
    "own encoder": (other_encoder, "encoder of its own"),
    "gated memory": (
        lambda: policy_of(WORLDS["sees box"], memory=Memory()),
        "policy of the class .*RecurrentPolicy",
    ),
}


@pytest.mark.parametrize("name", NOT_EXPORTED)
@pytest.mark.parametrize("form", FORMATS)
def test_other_policies_are_refused_with_a_way_on(name, form, tmp_path):
    make, message = NOT_EXPORTED[name]
    agent = policygrad.Agent(make(), FOUR, WORLDS["sees box"].actions)
    with pytest.raises(UserError, match=f"{message}.*jax2onnx") as caught:
        policygrad.export(agent, tmp_path / "policy", format=form)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "policy").exists()


@pytest.mark.parametrize(
    ("shape", "network", "message"),
    [
        ((20, 20, 3), None, "network of Convolutional"),
        ((4, 20, 20, 3), FullyConnected(), "several pictures whose channels stand last"),
    ],
    ids=["convolutions", "pictures in a row"],
)
@pytest.mark.parametrize("form", FORMATS)
def test_pictures_that_cannot_be_exported_are_refused(shape, network, message, form, tmp_path):
    seen = spaces.Box(0, 255, shape, np.uint8)
    policy = policygrad.network_policy(jax.random.key(0), seen, spaces.Discrete(2), network=network)
    agent = policygrad.Agent(policy, seen, spaces.Discrete(2))
    with pytest.raises(UserError, match=f"{message}.*jax2onnx"):
        policygrad.export(agent, tmp_path / "policy", format=form)


def test_the_value_of_a_shared_network_is_left_out(tmp_path):
    world = WORLDS["sees box"]
    agent = policygrad.Agent(policy_of(world, valued=True), FOUR, world.actions)
    given = load(policygrad.export(agent, tmp_path / "policy")).distribution(np.ones(4))
    expected = np.asarray(agent(np.ones(4)).log_probs)
    np.testing.assert_allclose(given["log_probabilities"], expected, rtol=1e-5, atol=1e-5)


def test_layers_of_an_architecture_of_ones_own_are_exported(tmp_path):
    policy = policy_of(WORLDS["sees box"], network=Sigmoids("relu"))
    agent = policygrad.Agent(policy, FOUR, WORLDS["sees box"].actions)
    given = load(policygrad.export(agent, tmp_path / "policy")).distribution(np.ones(4))
    expected = np.asarray(agent(np.ones(4)).log_probs)
    np.testing.assert_allclose(given["log_probabilities"], expected, rtol=1e-5, atol=1e-5)

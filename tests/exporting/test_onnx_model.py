"""The exported policy for ONNX: where it runs, and what the file says of itself."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from gymnasium import spaces

import policygrad
from policygrad.core.errors import UserError
from tests.exporting.worlds import FOUR, WORLDS, World, agent_of, masked

ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("jax", "jaxlib", "policygrad", "gymnasium", "onnx"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Refuse())
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
inputs = {
    "observation/x": np.ones((1, 2, 3), np.float32),
    "observation/action_mask": np.array([[0, 1, 1, 0]], np.int8),
}
action, log_probabilities = session.run(None, inputs)
print(action[0])
"""


def test_it_runs_without_jax_and_without_this_library(tmp_path):
    agent = agent_of(World(masked(4, x=spaces.Box(-1, 1, (2, 3))), spaces.Discrete(4, start=1)))
    path = policygrad.export(agent, tmp_path / "policy.onnx", format="onnx")
    ran = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(path)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    observation = {"x": np.ones((2, 3), np.float32), "action_mask": np.array([0, 1, 1, 0], np.int8)}
    assert int(ran.stdout) == agent.act(observation)


def test_inputs_have_the_types_of_the_spaces(tmp_path):
    world = World(
        spaces.Dict(
            image=spaces.Box(0, 255, (4, 4, 3), np.uint8),
            place=spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float64)]),
        ),
        spaces.Box(-1, 1, (2,), np.float64),
    )
    path = policygrad.export(agent_of(world), tmp_path / "policy.onnx", format="onnx")
    session = onnxruntime.InferenceSession(path)
    assert {x.name: (x.type, x.shape) for x in session.get_inputs()} == {
        "observation/image": ("tensor(uint8)", ["batch", 4, 4, 3]),
        "observation/place/0": ("tensor(int64)", ["batch"]),
        "observation/place/1": ("tensor(double)", ["batch", 2]),
    }
    assert {x.name: (x.type, x.shape) for x in session.get_outputs()} == {
        "action": ("tensor(double)", ["batch", 2]),
        "mean": ("tensor(float)", ["batch", 2]),
        "log_std": ("tensor(float)", ["batch", 2]),
    }


def test_a_mask_that_permits_nothing_is_read_as_one_that_permits_all(tmp_path):
    agent = agent_of(WORLDS["masked multi-discrete"])
    path = policygrad.export(agent, tmp_path / "policy.onnx", format="onnx")
    x = np.zeros((1, 4), np.float32)
    masks = np.ones((2, 1, 10), np.int8)
    masks[1, :, :2] = 0  # the first of three choices
    session = onnxruntime.InferenceSession(path)
    free, forbidden = (
        session.run(["action"], {"observation/x": x, "observation/action_mask": mask})[0]
        for mask in masks
    )
    np.testing.assert_array_equal(free, forbidden)


def test_the_file_describes_itself(tmp_path):
    agent = agent_of(World(FOUR, spaces.Box(-2, 3, (2,))))
    path = policygrad.export(agent, tmp_path / "policy.onnx", format="onnx")
    model = onnx.load(path)
    said = {x.key: json.loads(x.value) for x in model.metadata_props}
    assert model.producer_name == "policygrad"
    assert said["versions"]["policygrad"] == policygrad.__version__
    assert said["spaces"] == [str(agent.observation_space), str(agent.action_space)]
    assert said["action"]["kind"] == "gaussian"


def test_without_onnx_the_command_that_installs_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx.helper", None)
    with pytest.raises(UserError, match=r"pip install 'policygrad\[onnx\]'"):
        policygrad.export(agent_of(WORLDS["acts box"]), tmp_path / "policy.onnx", format="onnx")

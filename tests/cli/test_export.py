"""`policygrad export`: where it writes, what it prints, and mistakes in one line."""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from policygrad.cli import run
from tests.exporting.worlds import load


@pytest.fixture
def run_path(trained, tmp_path):
    """A copy of a run, to be written into."""
    return shutil.copytree(trained.path, tmp_path / "run")


def test_both_formats_go_into_the_run_unless_told_otherwise(run_path, trained, capsys):
    observation = np.ones((1, 4), np.float32)
    expected = trained.agent.act(observation[0])
    assert run(["export", str(run_path)]) == 0
    assert run(["export", str(run_path), "--format", "onnx"]) == 0
    folder, file = run_path / "policy-numpy", run_path / "policy.onnx"
    assert capsys.readouterr().out.split() == [str(folder), str(file)]
    assert load(folder).act(observation) == expected
    session = onnxruntime.InferenceSession(file)
    assert session.run(["action"], {"observation": observation})[0] == expected


def test_a_policy_file_is_exported_beside_it(run_path):
    assert run(["export", str(run_path / "policy.safetensors")]) == 0
    assert (run_path / "policy-numpy" / "policy.py").exists()


def test_out_and_json(run_path, tmp_path, capsys):
    out = tmp_path / "elsewhere" / "policy"
    assert run(["export", str(run_path), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(out), "format": "numpy"}
    assert sorted(x.name for x in out.iterdir()) == ["policy.json", "policy.npz", "policy.py"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nothing"], "no run or policy at nothing"),
        (["RUN", "--out", "RUN"], "is not empty and not an earlier export"),
        (["RUN", "--out", "RUN/config.json"], "is a file; name a directory"),
        (["RUN", "--format", "onnx", "--out", "RUN"], "is a directory; name a file"),
        (["RUN", "--format", "onnx", "--out", "RUN/config.json"], "is not an earlier export"),
    ],
)
def test_mistakes_are_one_line(argv, message, run_path, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(["export", *(x.replace("RUN", str(run_path)) for x in argv)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert message in err


def test_its_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom policygrad.cli import main\n"
        "try: main(['export', '--help'])\nexcept SystemExit: pass\n"
        "assert not {'jax', 'onnx', 'matplotlib'} & sys.modules.keys()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "policy-numpy" in ran.stdout

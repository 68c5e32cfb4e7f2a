"""Exports on disk: a folder for NumPy, or one ONNX file."""

import hashlib
import importlib.metadata
import io
import json
import platform
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from policygrad import __version__
from policygrad.core.errors import UserError
from policygrad.core.shell import user_path
from policygrad.exporting import numpy_policy
from policygrad.exporting.description import Description, describe
from policygrad.exporting.onnx_model import is_export, onnx_content, require_onnx
from policygrad.policies import Agent
from policygrad.runs import seed_directories, storage
from policygrad.runs.policy_files import load
from policygrad.training.result import Run

Format = Literal["numpy", "onnx"]
KIND = "policy exported by policygrad"
LARGEST_ONNX = 2**31  # bytes: protobuf's limit


def export(
    run: Run | Agent | str | Path,
    path: str | Path,
    *,
    format: Format = "numpy",  # noqa: A002
) -> Path:
    """Write a policy for machines without JAX and without this library.

    Encoding, normalisation, masks, and the scaling and clipping of actions are inside.

    Args:
        run: what `train` returned, an `Agent`, a run directory, a checkpoint or a policy file.
        path: where to write. An earlier export of the same format is replaced.
        format: "numpy": a folder with policy.py, policy.json and policy.npz, for NumPy alone;
            "onnx": one file, for onnxruntime and others. It needs the package onnx.

    Returns:
        The path that was written.

    Raises:
        UserError: the path holds something else or cannot be written, or the policy is not one of
            `network_policy` with fully connected layers.
        RunError: there is no such run, or it is damaged.
    """
    path = user_path(path)
    if format not in get_args(Format):
        raise UserError(f"format must be one of {', '.join(get_args(Format))}, got {format!r}")
    if format == "onnx":
        require_onnx()
    agent = _agent_of(run)
    description = describe(agent)
    about = {
        "kind": KIND,
        "versions": {
            "policygrad": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("jax", "numpy")},
        },
        "spaces": [str(agent.observation_space), str(agent.action_space)],
    }
    try:
        if format == "onnx":
            _write_onnx(path, description, about)
        else:
            _write_numpy(path, description, about)
    except OSError as error:
        raise UserError(f"cannot write the export to {path}: {error.strerror or error}") from error
    return path


def _agent_of(run: Run | Agent | str | Path) -> Agent:
    if isinstance(run, Run):
        return run.agent
    if isinstance(run, Agent):
        return run
    if not isinstance(run, (str, Path)):
        raise UserError(
            "run must be what train returned, an Agent, or the path of a run or policy, got "
            f"{type(run).__name__}; Agent(policy, observation_space, action_space) makes an Agent"
        )
    run = user_path(run)
    if seeds := seed_directories(run):
        raise UserError(f"{run} holds {len(seeds)} runs; name one of them, such as {seeds[0]}")
    return load(run)


def _write_onnx(path: Path, description: Description, about: dict[str, Any]) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a directory; name a file, such as {path / 'policy.onnx'}")
    size = path.stat().st_size if path.exists() else 0
    if size > LARGEST_ONNX or (size > 0 and not is_export(path.read_bytes())):
        raise UserError(f"{path} exists and is not an earlier export; name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_atomically(path, onnx_content(description, about))


def _write_numpy(path: Path, description: Description, about: dict[str, Any]) -> None:
    """Write the folder. The JSON comes first: by it a folder that is half written is known."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; name a directory")
    if path.exists() and any(path.iterdir()) and not _is_export(path):
        raise UserError(f"{path} is not empty and not an earlier export; name another directory")
    arrays = io.BytesIO()
    np.savez(arrays, **description.arrays)  # pyright: ignore[reportArgumentType]
    sha256 = hashlib.sha256(arrays.getvalue()).hexdigest()
    body = {"format": numpy_policy.FORMAT, **about, "sha256": sha256, **description.data}
    body["checksum"] = numpy_policy.checksum(body)
    path.mkdir(parents=True, exist_ok=True)
    storage.write_atomically(path / "policy.json", (json.dumps(body, indent=1) + "\n").encode())
    storage.write_atomically(path / "policy.npz", arrays.getvalue())
    storage.write_atomically(path / "policy.py", Path(numpy_policy.__file__).read_bytes())


def _is_export(path: Path) -> bool:
    try:
        return json.loads((path / "policy.json").read_bytes()).get("kind") == KIND
    except (OSError, ValueError, AttributeError):
        return False

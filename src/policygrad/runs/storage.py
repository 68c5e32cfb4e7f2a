"""Arrays and JSON on disk: a safetensors file, and a JSON file with its checksum. Never a pickle.

Both files are written under temporary names, flushed to the disk and renamed. The JSON file is
written last. It holds the checksums of the arrays and of itself. An interrupted write, a flipped
bit or a file from elsewhere is therefore noticed before anything is read, and the error names it.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jaxtyping import PyTree

from policygrad.core.errors import EnvironmentFailure, RunError, UserError
from policygrad.core.modules import is_array


class OtherStructure(RunError):
    """What was saved is whole, and is of another structure than what it is read into."""


FORMAT = 2  # of what is written; earlier ones are read as far as they mean the same


def pair(stem: Path) -> tuple[Path, Path]:
    """The paths of the arrays and of the JSON for a stem. The stem may contain dots."""
    return stem.with_name(stem.name + ".safetensors"), stem.with_name(stem.name + ".json")


def save(stem: Path, arrays: dict[str, np.ndarray], data: dict[str, Any]) -> None:
    """Write `stem.safetensors` and `stem.json`.

    The JSON file of an older pair is removed first. At no moment can two files that do not belong
    together be read as a pair.
    """
    tensors = safetensors.numpy.save({k: np.asarray(v, order="C") for k, v in arrays.items()})
    body = {"format": FORMAT, "sha256": hashlib.sha256(tensors).hexdigest(), **data}
    body["checksum"] = checksum(body)
    tensors_path, path = pair(stem)
    path.unlink(missing_ok=True)
    write_atomically(tensors_path, tensors)
    write_atomically(path, (json.dumps(body, indent=1) + "\n").encode())


def load(stem: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a pair back.

    Raises:
        RunError: a file is missing, damaged, of another program, or of a newer format. The message
            names the file.
    """
    tensors_path, path = pair(stem)
    body = read_checked_json(path)
    try:
        content = tensors_path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {tensors_path}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != body.get("sha256"):
        raise RunError(
            f"{tensors_path} is damaged, truncated or not what was saved: its checksum does not "
            f"match the one in {path.name}"
        )
    try:
        return safetensors.numpy.load(content), body
    except Exception as error:  # safetensors names no type for all that it raises
        raise RunError(f"{tensors_path} is not a safetensors file: {error}") from error


@contextlib.contextmanager
def rebuilding(source: Path, problem: str) -> Iterator[None]:
    """Turn what is raised while values are made from a file into a RunError that names the file.

    Only what a file says is interpreted inside. A file whose checksum holds may still hold anything
    at all, if it was signed anew.

    Args:
        source: the file.
        problem: what is wrong with a file that raises, such as "describes no policy".
    """
    try:
        yield
    except (RunError, EnvironmentFailure):
        raise
    except UserError as error:
        raise RunError(f"{source}: {error}") from error
    except Exception as error:
        raise RunError(f"{source} {problem}: {type(error).__name__}: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; RunError, which names the file, if it holds none."""
    try:
        body = json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged or not JSON: {error}") from error
    if not isinstance(body, dict):
        raise RunError(f"{path} is damaged: it holds {type(body).__name__}, not an object")
    return body


def read_checked_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, check its format and its checksum, and return it without the checksum."""
    body = read_json(path)
    version = body.get("format")
    if not isinstance(version, int) or version > FORMAT:
        raise RunError(
            f"{path} has format {version!r}, and this version reads up to {FORMAT}; upgrade "
            "policygrad to read it"
        )
    if body.pop("checksum", None) != checksum(body):
        raise RunError(f"{path} is damaged or was edited: its checksum does not match its content")
    return body


def signed(data: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with the format and a checksum of its content."""
    body = {"format": FORMAT, **data}
    return {**body, "checksum": checksum(body)}


def read_signed(path: Path) -> dict[str, Any]:
    """What `signed` was given; files of earlier versions, which were not signed, are read too."""
    body = read_json(path)
    if not body.keys() & {"format", "checksum"}:
        return body
    return {k: v for k, v in read_checked_json(path).items() if k != "format"}


def checksum(body: dict[str, Any]) -> str:
    """The checksum of a JSON object."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all, even if the machine stops."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Flush a directory, so that a rename in it is kept even if the machine stops."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """The array leaves of a pytree with the names under which they are saved."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/") or "value", leaf)
        for path, leaf in leaves
        if is_array(leaf)
    ]


def to_arrays(tree: PyTree, prefix: str) -> dict[str, np.ndarray]:
    """The arrays of a pytree under names that begin with the prefix."""
    return {
        f"{prefix}/{name}": np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for name, leaf in named_leaves(tree)
    }


def from_arrays(
    like: PyTree,
    arrays: dict[str, np.ndarray],
    prefix: str,
    source: Path,
    *,
    shapes: bool = True,
    owner: Callable[[str], str] = lambda name: "network",
) -> PyTree:
    """A pytree of the structure of `like` with the saved arrays in it.

    Args:
        like: the structure; its leaves that are not arrays are kept.
        arrays: as `load` returned them.
        prefix: as given to `to_arrays`.
        source: the file that errors name.
        shapes: whether shapes and types must be those of `like`.
        owner: the name of an array -> what it is of, for errors.

    Raises:
        OtherStructure: an array is missing, is not in `like`, or has another shape or type. A
            number of another precision (64 bits in place of 32, or the reverse) is converted.
    """
    saved = {
        k.removeprefix(f"{prefix}/"): v for k, v in arrays.items() if k.startswith(prefix + "/")
    }
    expected = dict(named_leaves(like))
    if missing := sorted(expected.keys() - saved.keys()):
        name = f"{prefix}/{missing[0]}"
        raise OtherStructure(f"{source} lacks {name}: it was saved from another {owner(name)}")
    if extra := sorted(saved.keys() - expected.keys()):
        name = f"{prefix}/{extra[0]}"
        raise OtherStructure(
            f"{source} holds {name}, which is not expected here: it was saved from another "
            f"{owner(name)}"
        )

    def restored(path: Any, leaf: Any) -> Any:
        if not is_array(leaf):
            return leaf
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "value"
        value, name = saved[name], f"{prefix}/{name}"
        if _is_key(leaf):
            data = jax.random.key_data(leaf)
            if value.dtype != data.dtype or value.shape[-1:] != data.shape[-1:]:
                raise OtherStructure(f"{source}: {name} does not hold random keys")
            return jax.random.wrap_key_data(jnp.asarray(value))
        if shapes and value.shape != leaf.shape:
            raise OtherStructure(
                f"{source}: {name} has the shape {list(value.shape)}, expected "
                f"{list(leaf.shape)}: it was saved from another {owner(name)}"
            )
        if shapes or isinstance(leaf, jax.Array):
            value = _in_precision(value, leaf.dtype, f"{source}: {name}", owner(name))
        return jnp.asarray(value) if isinstance(leaf, jax.Array) else value

    return jax.tree_util.tree_map_with_path(restored, like)


def _in_precision(value: np.ndarray, dtype: Any, what: str, owner: str) -> np.ndarray:
    """Numbers in the precision of a type; OtherStructure if they are of another kind, or
    do not fit."""
    if value.dtype == dtype:
        return value
    converted = None
    if value.dtype.kind == np.dtype(dtype).kind and value.dtype.kind in "iuf":
        with np.errstate(over="ignore"):
            converted = value.astype(dtype)
        of = (lambda x: x) if value.dtype.kind in "iu" else np.isinf  # digits may go, not the size
        converted = None if np.any(of(converted) != of(value)) else converted
    if converted is None:
        raise OtherStructure(
            f"{what} holds {value.dtype}, expected {dtype}, and cannot be converted without loss: "
            f"the {owner} that it was saved from computes in other types"
        )
    return converted

import hashlib
import io
import json
import os
import pickle
import stat
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.core.errors import RunError
from policygrad.runs import RunDirectory, storage
from tests.worlds import environment_variables

ARRAYS = {
    "policy/weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "state/count": np.int32(3),
    "environments/seed": np.array([1, 2], np.uint32),
}
DATA = {"env_steps": 12, "network": {"hidden": [8]}, "name": "ein Näme", "nothing": None}


@pytest.fixture
def stem(tmp_path):
    storage.save(tmp_path / "state", ARRAYS, DATA)
    return tmp_path / "state"


def test_checksums_of_files_that_were_written_before_hold():
    body = {"b": [1, 2.5, None], "a": {"d": "ein Näme", "c": True}}
    written = "75a5c673f453df998c61e53e91576067"
    assert storage.checksum(body).startswith(written)
    assert storage.checksum(dict(reversed(body.items()))).startswith(written)


def test_arrays_of_any_order_in_memory_are_saved(tmp_path):
    columns = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    storage.save(tmp_path / "a", {"x": columns, "y": columns.T[::2]}, {})
    arrays, _ = storage.load(tmp_path / "a")
    np.testing.assert_array_equal(arrays["x"], columns)
    np.testing.assert_array_equal(arrays["y"], columns.T[::2])


def test_saving_leaves_no_file_open(tmp_path):
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("this system does not list open files")
    before = len(list(open_files.iterdir()))
    for _ in range(5):
        storage.save(tmp_path / "a", ARRAYS, DATA)
    assert len(list(open_files.iterdir())) == before


def test_a_name_that_begins_alike_is_another_name(tmp_path):
    arrays = {"state/count": np.int32(3), "states/count": np.int32(4)}
    found = storage.from_arrays({"count": np.int32(0)}, arrays, "state", tmp_path)
    assert int(found["count"]) == 3


def test_round_trip(stem):
    arrays, data = storage.load(stem)
    assert arrays.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert arrays[name].dtype == value.dtype
        np.testing.assert_array_equal(arrays[name], value)
    assert {k: data[k] for k in DATA} == DATA
    assert sorted(p.name for p in stem.parent.iterdir()) == ["state.json", "state.safetensors"]


def test_saving_again_replaces(stem):
    storage.save(stem, {"x": np.zeros(2)}, {"env_steps": 13})
    arrays, data = storage.load(stem)
    assert list(arrays) == ["x"]
    assert data["env_steps"] == 13


def test_content_is_on_the_disk_before_its_name_and_the_name_before_what_follows(
    tmp_path, monkeypatch
):
    events = []

    def fsync(descriptor):
        found = os.fstat(descriptor)
        events.append("directory" if stat.S_ISDIR(found.st_mode) else f"{found.st_size} bytes")

    def replace(source, target):
        events.append(f"named {target.name}")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    storage.write_atomically(tmp_path / "a", b"12345")
    assert events == ["5 bytes", "named a", "directory"]
    assert not list(tmp_path.iterdir())  # nor is a temporary file left where it was not named


def test_save_that_stops_between_its_files_leaves_no_old_one_to_be_read_with_a_new_one(
    stem, monkeypatch
):
    write = storage.write_atomically

    def interrupted(path, content):
        if path.suffix == ".json":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(storage, "write_atomically", interrupted)
    with pytest.raises(KeyboardInterrupt):
        storage.save(stem, ARRAYS, {"env_steps": 13})
    with pytest.raises(RunError, match=r"cannot read .*state\.json"):
        storage.load(stem)


@pytest.mark.parametrize("bit", [0, 3, 7])
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_bit_flip_at_every_place_is_noticed(stem, suffix, bit):
    path = stem.with_suffix(suffix)
    content = path.read_bytes()
    good = storage.load(stem)
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            arrays, data = storage.load(stem)
        except RunError as error:
            assert str(path) in str(error) or stem.name in str(error)
            assert "\n" not in str(error).strip()
            continue
        # white space between two values means nothing; whatever was read is what was saved
        assert suffix == ".json"
        assert data == good[1]
        assert all(np.array_equal(arrays[k], v) for k, v in ARRAYS.items())


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_truncation_at_every_length_is_noticed(stem, suffix):
    path = stem.with_suffix(suffix)
    content = path.read_bytes()
    for length in range(len(content.rstrip())):
        path.write_bytes(content[:length])
        with pytest.raises(RunError):
            storage.load(stem)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_missing_file_is_named(stem, suffix):
    stem.with_suffix(suffix).unlink()
    with pytest.raises(RunError, match=f"state{suffix}"):
        storage.load(stem)


def forged(stem, **changes):
    """The JSON with changes and a checksum that fits: damage that no checksum can notice."""
    path = stem.with_suffix(".json")
    body = json.loads(path.read_text())
    body.pop("checksum")
    for name, value in changes.items():
        if value is None:
            body.pop(name)
        else:
            body[name] = value
    body["checksum"] = storage.checksum(body)
    path.write_text(json.dumps(body))


@pytest.mark.parametrize("version", [3, 1000, "1", 1.5, [1]])
def test_newer_or_unknown_format_is_refused(stem, version):
    forged(stem, format=version)
    with pytest.raises(RunError, match=r"format .*reads up to 2; upgrade"):
        storage.load(stem)


@pytest.mark.parametrize("name", ["format", "sha256"])
def test_entry_that_is_missing_is_a_damaged_file(stem, name):
    forged(stem, **{name: None})
    with pytest.raises(RunError):
        storage.load(stem)


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", "[" * 100_000, "\x00", '{"a": 1}'])
def test_other_json_is_refused(stem, text):
    stem.with_suffix(".json").write_text(text)
    with pytest.raises(RunError, match=r"state\.json"):
        storage.load(stem)


class Payload:
    """Unpickled, it would create a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def object_array(path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(path)], object), allow_pickle=True)
    return buffer.getvalue()


HOSTILE = {"pickle": lambda path: pickle.dumps(Payload(path)), "object array": object_array}
every_payload = pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)


def test_payloads_do_their_work_when_executed(tmp_path):
    pickle.loads(HOSTILE["pickle"](tmp_path / "a"))
    np.load(io.BytesIO(HOSTILE["object array"](tmp_path / "b")), allow_pickle=True)
    assert (tmp_path / "a").exists()
    assert (tmp_path / "b").exists()


@every_payload
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_pickle_in_either_file_is_refused_unexecuted(stem, tmp_path, suffix, hostile):
    mark = tmp_path / "executed"
    stem.with_suffix(suffix).write_bytes(hostile(mark))
    with pytest.raises(RunError):
        storage.load(stem)
    assert not mark.exists()


@every_payload
def test_pickle_with_a_checksum_that_fits_is_refused_unexecuted(stem, tmp_path, hostile):
    mark = tmp_path / "executed"
    content = hostile(mark)
    stem.with_suffix(".safetensors").write_bytes(content)
    forged(stem, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(RunError, match="not a safetensors file"):
        storage.load(stem)
    assert not mark.exists()


# ----- pytrees


def test_pytree_round_trip():
    tree = {
        "a": (jnp.arange(3), [np.float32(2.0)]),
        "key": jax.random.key(3),
        "f": jnp.tanh,
        "n": None,
        "host": np.zeros(2),
    }
    arrays = storage.to_arrays(tree, "x")
    back = storage.from_arrays(tree, arrays, "x", Path("here"))
    assert back["f"] is jnp.tanh
    np.testing.assert_array_equal(back["a"][0], tree["a"][0])
    assert isinstance(back["a"][0], jax.Array)
    assert isinstance(back["host"], np.ndarray)
    assert jax.random.key_data(back["key"]).tolist() == jax.random.key_data(tree["key"]).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("x/b"), "lacks x/b"),
        (lambda a: a.update({"x/c": np.zeros(1)}), "holds x/c"),
        (lambda a: a.update({"x/b": np.zeros(3, np.float32)}), r"the shape \[3\], expected \[2\]"),
        (lambda a: a.update({"x/b": np.zeros(2, np.int32)}), "holds int32, expected float32"),
    ],
)
def test_arrays_of_another_structure_are_refused(change, message):
    tree = {"a": np.zeros((2, 2), np.float32), "b": np.zeros(2, np.float32)}
    arrays = storage.to_arrays(tree, "x")
    change(arrays)
    with pytest.raises(RunError, match=message):
        storage.from_arrays(tree, arrays, "x", Path("here"))


# ----- killed while saving


SAVER = """
import sys
from pathlib import Path
import numpy as np
from policygrad.runs import RunDirectory

run = RunDirectory(Path(sys.argv[1]))
first = max([int(p.name) for p in run.checkpoints()], default=-1) + 1
print("ready", flush=True)
for step in range(first, first + 1_000_000):
    arrays = {f"a{i}": np.full(2000, step, np.int64) for i in range(5)}
    run.save_checkpoint(step, arrays, {"env_steps": step}, keep=2)
    run.save_policy(arrays, {"env_steps": step})
"""


def kill_while_saving(path, kills):
    rng = np.random.default_rng(kills)
    saved = []
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(path)],
            stdout=subprocess.PIPE,
            env=environment_variables(),
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        while not RunDirectory(path).checkpoints():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.06))
        process.kill()
        process.wait()
        process.stdout.close()
        newest = RunDirectory(path).newest_checkpoint()
        arrays, data = storage.load(newest / "state")
        assert data["env_steps"] == int(newest.name)
        assert all((v == data["env_steps"]).all() for v in arrays.values())
        assert len(arrays) == 5
        saved.append(data["env_steps"])
        try:  # the two files of a policy belong together or are refused together
            arrays, data = storage.load(path / "policy")
            assert all((v == data["env_steps"]).all() for v in arrays.values())
        except RunError:
            pass
    assert saved == sorted(saved)
    assert saved[-1] > saved[0] >= 0
    left = [p for p in (path / "checkpoints").iterdir() if p.name.startswith(".")]
    assert len(left) <= 1  # the next save clears what a kill left behind


def test_newest_checkpoint_loads_after_kills(tmp_path):
    kill_while_saving(RunDirectory.create(tmp_path / "run").path, 5)


@pytest.mark.slow
def test_newest_checkpoint_loads_after_fifty_kills(tmp_path):
    kill_while_saving(RunDirectory.create(tmp_path / "run").path, 50)

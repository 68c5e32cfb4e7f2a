"""Damaged files: whoever reads them says so in one line, or reads what was there before; nobody
hangs, fails with a traceback, or takes memory for what a file only claims to hold."""

import contextlib
import io
import json
import random
import resource
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import policygrad
from policygrad.cli import run
from policygrad.core.errors import PolicygradError
from tests.runs import damage
from tests.worlds import TINY

MISSING = "holds no metrics of updates"
MOST_BYTES = 400 * 2**20  # beyond what the process held before
TIMES = {"seconds", "steps_per_second", "timings", "path", "out", "runs"}
COMMANDS = {
    "evaluate": ["--episodes", "2", "--num-envs", "2", "--json"],
    "resume": ["--total-steps", "192", "--json"],
    "plot": ["--json"],
    "diagnose": ["--episodes", "8", "--no-gradients", "--json"],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is whole."""
    path = tmp_path_factory.mktemp("damaged") / "whole"
    settings = TINY | {"total_steps": 160, "checkpoint_seconds": 0}
    policygrad.train("gymnasium/CartPole-v1", out=path, **settings)
    return path


def untimed(data: Any) -> Any:
    """The data without what differs from one time to the next."""
    if isinstance(data, dict):
        return {k: untimed(v) for k, v in data.items() if k not in TIMES}
    return [untimed(x) for x in data] if isinstance(data, list) else data


def read(reader: str, path: Path) -> tuple[int, Any]:
    """The exit code of a reader, and what it read."""
    if reader == "load":
        try:
            agent = policygrad.load(path)
        except PolicygradError as error:
            assert str(path) in str(error), error
            return error.exit_code, None
        return 0, [np.asarray(x).tolist() for x in jax.tree.leaves(agent.policy)]
    out, err = io.StringIO(), io.StringIO()
    words = [reader, str(path), *COMMANDS[reader]]
    if reader == "plot":
        words += ["--out", str(path.parent / "plot.png")]
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        code = run(words)
    assert all(MISSING in str(warning.message) for warning in told), [str(w.message) for w in told]
    if code:
        assert "Traceback" not in err.getvalue()
        assert err.getvalue().strip(), f"{reader} says nothing and exits with {code}"
        return code, None
    found = untimed(json.loads(out.getvalue()))
    if reader == "resume":
        found = found, read("load", path)
    if told:
        return 0, None  # read, and what is missing was told
    return 0, found


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """Fail where more is allocated than a small run needs."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    yield
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert taken < MOST_BYTES, f"{taken / 2**20:.0f} MiB"


def files_of(path: Path) -> list[Path]:
    found = [p.relative_to(path) for p in path.rglob("*") if p.is_file()]
    return sorted(p for p in found if p.suffix in (".json", ".jsonl", ".safetensors"))


def readers_of(file: Path) -> list[str]:
    """Who reads a file."""
    if "checkpoints" in file.parts:
        return ["resume", "diagnose"]
    return {
        "config.json": ["evaluate", "resume", "plot", "diagnose", "load"],
        "metrics.jsonl": ["plot", "diagnose", "resume"],
        "summary.json": ["diagnose", "plot"],
    }.get(file.name, ["load", "evaluate"])


def damaged(whole: Path, folder: Path, seed: int) -> tuple[Path, Path, str, bool]:
    """A copy of a run with one damaged file, which file, a reader, and whether it was signed."""
    rng = random.Random(seed)
    copy = folder / str(seed) / "run"
    shutil.copytree(whole, copy)
    newest = max((copy / "checkpoints").iterdir()).relative_to(copy)
    files = [f for f in files_of(copy) if "checkpoints" not in f.parts or newest in f.parents]
    file = rng.choice(files)
    sign = rng.random() < 0.5
    path = copy / file
    if file.suffix == ".jsonl" and sign:
        damage.damage_lines(path, rng)
    elif sign:
        damage.damage_signed(path, rng)
    else:
        path.write_bytes(rng.choice(damage.RAW)(path.read_bytes(), rng))
    return copy, file, rng.choice(readers_of(file)), sign


def check(whole: Path, folder: Path, right: dict[str, Any], seed: int) -> str:
    """Damage one file and read it; how it ended."""
    copy, file, reader, sign = damaged(whole, folder, seed)
    same = (copy / file).read_bytes() == (whole / file).read_bytes()
    try:
        with bounded_memory():
            code, found = read(reader, copy)
    except BaseException as error:
        raise AssertionError(f"seed {seed}: {reader} of a damaged {file}: {error!r}") from error
    finally:
        shutil.rmtree(copy)
    if code == 0 and not sign and not same:
        # a file without a new checksum: it was noticed, or made no difference
        told = f"seed {seed}: {reader} read a damaged {file} in silence"
        assert found in (None, right[reader]), told
    return f"{'signed' if sign else 'raw'}, {'refused' if code else 'read'}"


@pytest.fixture(scope="module")
def right(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the readers read of the whole run."""
    found = {}
    for reader in ("load", *COMMANDS):
        copy = tmp_path_factory.mktemp("right") / "run"
        shutil.copytree(whole, copy)
        code, found[reader] = read(reader, copy)
        assert code == 0
    return found


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_a_hundred_damaged_files(
    whole: Path, right: dict[str, Any], tmp_path: Path, first: int
) -> None:
    for seed in range(first, first + 20):
        check(whole, tmp_path, right, seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_thousand_damaged_files(whole: Path, right: dict[str, Any], tmp_path: Path) -> None:
    ends = [check(whole, tmp_path, right, seed) for seed in range(1000, 3000)]
    counts = {end: ends.count(end) for end in sorted(set(ends))}
    print(counts)
    assert counts["raw, refused"] > 500

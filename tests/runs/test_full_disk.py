"""Disks that are full, read-only or gone: one line that says so, and what was saved stays whole."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import policygrad
from policygrad.core.errors import WriteError
from policygrad.runs import MetricsFile, RunDirectory, storage
from policygrad.runs.directory import STATE
from policygrad.training import ending
from tests.worlds import DUCK, TINY, python

LONG = TINY | {"total_steps": 320, "checkpoint_seconds": 0}


def fails_from(function, number, code):
    """The function, which the system refuses from the so-and-so-many-th call on."""
    calls = []

    def call(*args, **kwargs):
        calls.append(args)
        if len(calls) >= number:
            raise OSError(code, os.strerror(code))
        return function(*args, **kwargs)

    return call


REASONS = [errno.ENOSPC, errno.EROFS, errno.EIO]


@pytest.mark.parametrize("code", REASONS, ids=os.strerror)
@pytest.mark.parametrize(
    ("where", "name"),
    [(storage, "write_atomically"), (MetricsFile, "write"), (os, "replace"), (os, "fsync")],
    ids=["writes", "metrics", "renames", "flushes"],
)
@pytest.mark.parametrize("number", [2, 9])
def test_fault_06_a_disk_that_refuses_costs_nothing_that_was_saved(
    tmp_path, monkeypatch, code, where, name, number
):
    path = tmp_path / "a b"
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fails_from(getattr(where, name), number, code))
        with pytest.raises(WriteError, match=os.strerror(code)) as caught:
            policygrad.train(DUCK, out=path, **LONG)
    message = str(caught.value)
    assert "\n" not in message
    assert f"cannot write {path}" in message
    directory = RunDirectory(path)
    assert not list(path.rglob("*.tmp"))
    if not directory.checkpoints():
        assert "policygrad train …" in message or "policygrad resume" in message
    else:
        assert f"policygrad resume '{path}'" in message
        for checkpoint in directory.checkpoints():
            storage.load(checkpoint / STATE)
        assert policygrad.resume(path, env=DUCK).summary["env_steps"] == 320


@pytest.mark.parametrize("at", [1, 4])
def test_fault_06_a_run_whose_directory_is_removed_ends_at_once(tmp_path, at):
    path, seen = tmp_path / "a", []

    def remove(run):
        seen.append(run["update"])
        if run["update"] == at:
            shutil.rmtree(path)

    settings = TINY | {"total_steps": 320}
    with pytest.raises(WriteError, match="was removed"):
        policygrad.train(DUCK, out=path, on_update=remove, **settings)
    assert seen[-1] == at


def test_fault_06_a_run_whose_directory_is_moved_ends_at_its_next_save(tmp_path):
    path = tmp_path / "a"

    def move(run):
        if run["update"] == 2:
            path.rename(tmp_path / "b")

    with pytest.raises(WriteError, match="removed or moved"):
        policygrad.train(DUCK, out=path, on_update=move, **LONG)
    resumed = policygrad.resume(tmp_path / "b", env=DUCK)
    assert resumed.summary["env_steps"] == 320


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 kB, where this process may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], capture_output=True
    )
    if made.returncode:
        pytest.skip("this process may make no file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.skipif(not shutil.which("mount"), reason="no mount")
def test_case_15_a_disk_that_is_full_ends_the_command_in_one_line(small_disk):
    out = small_disk / "a"
    done = python(
        "-m", "tests.runs.command", "train", "CartPole-v1", "--out", str(out),
        "--num-envs", "4", "--batch-steps", "32", "--total-steps", "2000",
        "--checkpoint-seconds", "0", cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "No space left on device" in last
    assert f"policygrad resume {out}" in last
    assert "Traceback" not in done.stderr
    for checkpoint in RunDirectory(out).checkpoints():
        storage.load(checkpoint / STATE)


@pytest.mark.skipif(not shutil.which("mount"), reason="no mount")
def test_case_14_a_read_only_run_is_read_and_not_resumed(small_disk, trained):
    path = small_disk / "run"
    path.mkdir()
    for name in ("config.json", "metrics.jsonl", "policy.json", "policy.safetensors"):
        shutil.copy(trained.path / name, path / name)
    shutil.copytree(trained.path / "checkpoints", path / "checkpoints")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(WriteError, match="Read-only file system"):
        policygrad.resume(path, total_steps=128)
    policygrad.load(path)
    assert policygrad.evaluate(path, episodes=1, max_episode_steps=2).seed == 0
    policygrad.plots.learning_curve([path])


# ----- the picture


@pytest.mark.parametrize(
    "error",
    [ImportError("no such backend"), OSError(28, "full"), ValueError(), MemoryError()],
    ids=repr,
)
def test_case_04_a_picture_that_fails_costs_nothing(tmp_path, monkeypatch, capsys, error):
    def draw(path):
        raise error

    monkeypatch.setattr(ending, "draw_curve", draw)
    run = policygrad.train(DUCK, out=tmp_path / "a b", **TINY)
    assert run.summary["env_steps"] == 64
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"draw it with: policygrad plot '{run.path}'" in told
    assert RunDirectory(tmp_path / "a b").read_summary()["interrupted"] is False

"""One writer a run."""

import os
import signal
import subprocess
import sys

import pytest

import policygrad
from policygrad.core.errors import UserError
from policygrad.runs import RunDirectory, lock
from tests.worlds import TINY, environment_variables

HOLD = """
import sys, time
from pathlib import Path
from policygrad.runs import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=environment_variables(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_fault_07_a_second_writer_is_refused_and_told_who_writes(tmp_path, holder):
    with (
        pytest.raises(UserError, match=rf"is being written by process {holder.pid}; wait"),
        lock.held(tmp_path),
    ):
        pass


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_fault_07_a_lock_ends_with_its_holder_however_it_ends(tmp_path, holder, signum):
    holder.send_signal(signum)
    holder.wait()
    with lock.held(tmp_path):
        assert int((tmp_path / lock.HOLDER).read_text()) == os.getpid()
    assert not (tmp_path / lock.HOLDER).exists()


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def acquire(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr(lock.FileLock, "acquire", acquire)
    with pytest.warns(UserWarning, match="without locks: nothing keeps"), lock.held(tmp_path):
        pass


def test_fault_07_a_second_resume_is_refused(tmp_path):
    path, refused = tmp_path / "a", []

    def again(metrics):
        if not refused:
            with pytest.raises(UserError, match=f"written by process {os.getpid()}") as caught:
                policygrad.resume(path, total_steps=1000)
            refused.append(caught.value)

    policygrad.train("CartPole-v1", out=path, on_update=again, **TINY)
    assert len(refused) == 1
    policygrad.resume(path, total_steps=128)  # the lock is free again


def test_fault_07_a_second_train_is_refused(tmp_path):
    with RunDirectory.begun(tmp_path / "a"), pytest.raises(UserError, match="written by process"):
        policygrad.train("CartPole-v1", out=tmp_path / "a", **TINY)


def test_fault_07_who_only_reads_needs_no_lock(tmp_path):
    path, read = tmp_path / "a", []

    def look(run):
        read.append((policygrad.load(path), RunDirectory.open(path).read_config()))

    policygrad.train("CartPole-v1", out=path, on_update=look, checkpoint_seconds=0, **TINY)
    assert len(read) == 2


def test_a_failed_run_gives_its_lock_back(tmp_path):
    path = tmp_path / "a"

    def fail(run):
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        policygrad.train("CartPole-v1", out=path, on_update=fail, **TINY)
    assert policygrad.resume(path).summary["env_steps"] == 64

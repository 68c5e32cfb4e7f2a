"""A run is whole at every moment: processes killed while they save, and every crash state."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import policygrad
from policygrad.runs import RunDirectory, storage
from policygrad.runs.directory import STATE, SUMMARY
from tests.worlds import ROOT, environment_variables

# every checkpoint here holds the state of the first one, which had made fewer updates
pytestmark = pytest.mark.filterwarnings("ignore:.*holds no metrics of updates")


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a run on disk that ended."""
    shutil.copytree(trained.path, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


class Killed:
    """Children that save a run, each killed after a random time."""

    def __init__(self, run, seed):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.runs.saving", str(run.path), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment_variables(),
        )
        assert self._line() == "ready"

    def _line(self):
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def next(self):
        """Kill one more; returns the steps up to which it surely saved."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self._line())

    def close(self):
        self.process.communicate()


def check_whole(run, at_least):
    """What every reader finds is whole and new; returns the steps of the newest checkpoint."""
    newest = run.newest_checkpoint()
    steps = int(newest.name)
    assert steps >= at_least
    assert storage.load(newest / STATE)[1]["env_steps"] == steps
    assert 1 <= len(run.checkpoints()) <= 4
    policygrad.load(run.path)
    if (run.path / "policy.json").exists():
        assert storage.read_checked_json(run.path / "policy.json").get("env_steps", steps) == steps
    if (run.path / "best").exists() and run.read_best() is not None:
        policygrad.load(run.path / "best")
    run.read_metrics()
    return steps


def kill(run, times, resume_every, seed):
    killed, steps, resumed = Killed(run, seed), 0, 0
    try:
        for number in range(times):
            steps = check_whole(run, max(steps, killed.next()))
            if number % resume_every == resume_every - 1:
                again = policygrad.resume(run.path, total_steps=steps + 32)
                assert again.summary["env_steps"] == steps + 32
                resumed += 1
    finally:
        killed.close()
    leftovers = [p for p in run.path.rglob("*.tmp") if p.parent.name == "checkpoints"]
    assert len(leftovers) <= 1
    return resumed


def test_killed_while_it_saves_a_run_is_whole_and_resumes(run):
    assert kill(run, 24, 8, seed=1) == 3


@pytest.mark.slow
def test_300_kills_while_saving_all_resume(run):
    assert kill(run, 300, 1, seed=2) == 300


def test_killed_before_the_oldest_is_removed_over_and_over(tmp_path, monkeypatch):
    """Where no process lives long enough to remove a checkpoint after it wrote one."""
    run = RunDirectory.create(tmp_path / "run")

    def crash_after_the_rename(root):
        if root == run.path / "checkpoints":
            raise Crash

    monkeypatch.setattr(storage, "sync_directory", crash_after_the_rename)
    for steps in range(32, 32 * 11, 32):
        with pytest.raises(Crash):
            run.save_checkpoint(steps, arrays_of(steps), {"env_steps": steps}, keep=3)
        assert int(run.newest_checkpoint().name) == steps
        assert len(run.checkpoints()) <= 4


# ----- every crash state


class Crash(BaseException):
    """The process ends here: nothing that comes after reaches the disk."""


class Disk:
    """Counts what reaches the disk, and lets nothing reach it from a certain number on."""

    NAMES = ("replace", "rename", "unlink", "mkdir", "rmdir", "fsync", "open")

    def __init__(self, patch, last):
        self.count, self.last = 0, last
        for name in self.NAMES:
            patch.setattr(os, name, self.counted(getattr(os, name)))

    def counted(self, function):
        def call(*args, **kwargs):
            self.count += 1
            if self.count > self.last:
                raise Crash
            return function(*args, **kwargs)

        return call


def arrays_of(steps):
    return {"policy/x": np.full(3, steps, np.float32)}


def ends_goes_on_and_ends(run):
    """What a run writes that is resumed twice, from 64 steps on."""
    for steps in (96, 128):
        run.go_on()
        run.save_checkpoint(steps - 16, arrays_of(steps - 16), {"env_steps": steps - 16}, keep=2)
        run.save_checkpoint(steps, arrays_of(steps), {"env_steps": steps}, keep=2)
        run.save_best(steps, arrays_of(steps), {"metric": "x", "value": float(steps)})
        run.save_policy(arrays_of(steps), {"env_steps": steps})
        run.write_json(SUMMARY, {"env_steps": steps})


def newest_policy(run):
    """The steps of what `load` would read: the policy file if there is one, else a checkpoint."""
    path = run.path / "policy"
    stem = path if path.with_suffix(".json").exists() else run.newest_checkpoint() / STATE
    arrays, data = storage.load(stem)
    assert arrays["policy/x"][0] == data["env_steps"]
    return data["env_steps"]


def test_fault_01_at_every_moment_the_newest_policy_is_read(tmp_path, monkeypatch):
    """From each crash state the newest policy is at least as new as the newest checkpoint."""
    begun = RunDirectory.create(tmp_path / "begun")
    begun.save_checkpoint(64, arrays_of(64), {"env_steps": 64}, keep=2)
    begun.save_policy(arrays_of(64), {"env_steps": 64})
    begun.write_json(SUMMARY, {"env_steps": 64})
    crashes = 0
    for last in range(10_000):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(begun.path, tmp_path / "run")
        run = RunDirectory(tmp_path / "run")
        with monkeypatch.context() as patch:
            Disk(patch, last)
            try:
                ends_goes_on_and_ends(run)
            except Crash:
                crashes += 1
            else:
                break
        newest = int(run.newest_checkpoint().name)
        assert newest_policy(run) >= newest >= 64
        if (run.path / SUMMARY).exists():
            assert run.read_summary()["env_steps"] == newest
        if (run.path / "best").is_dir() and (best := run.read_best()):
            assert best["value"] <= newest
    assert crashes > 100
    assert newest_policy(run) == 128

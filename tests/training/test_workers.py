"""Seeds in worker processes: what comes back of them, and how they end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import gymnasium
import jax
import numpy as np
import optax
import pytest

import policygrad
from policygrad.core.errors import UserError
from policygrad.processes.worker import Worker, WorkerEnded
from tests.slow import params
from tests.worlds import TINY, Chain, environment_variables, python


class Hangs(gymnasium.Env):
    """Sleeps for ever at its 50th step."""

    def __init__(self, **kwargs):
        self.observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 50:
            time.sleep(1000)
        return np.zeros(1, np.float32), 0.0, False, False, {}


class Exits(Hangs):
    """Ends its process in its 50th step, as a crash does."""

    how = "exit"

    def step(self, action):
        self.steps += 1
        if self.steps == 50:
            if self.how == "exit":
                os._exit(7)
            os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros(1, np.float32), 0.0, False, False, {}


class Killed(Exits):
    how = "kill"


assert Chain  # for the scripts below, which import it from here
SEEDS = TINY | {"total_steps": 10**9}


@pytest.mark.parametrize(
    ("env", "message"),
    [(Exits, "ended with exit code 7"), (Killed, "was killed by SIGKILL (as the system does")],
)
def test_a_worker_that_dies_says_how(tmp_path, env, message):
    result = policygrad.train_seeds(env, range(1), jobs=1, out=tmp_path / "a", **SEEDS)
    assert not result.runs
    assert message in str(result.failures[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("env", lambda lock=threading.Lock(): Hangs()),  # noqa: B008
        ("env_kwargs", {"f": lambda: 0}),
        ("env_kwargs", {"lock": threading.Lock()}),
        ("env_kwargs", {"connections": sys._getframe()}),
        ("env_kwargs", {"generator": (x for x in ())}),
        ("optimiser", optax.chain(optax.scale(1.0))),
    ],
)  # fmt: skip
def test_case_05_what_cannot_be_sent_is_named_with_the_remedy(name, value):
    given = {"env": Hangs, name: value}
    with pytest.raises(UserError, match=f"{name} cannot be sent to a worker process .*; pass"):
        policygrad.train_seeds(given.pop("env"), range(2), jobs=2, **SEEDS, **given)


@pytest.mark.parametrize(
    "kind",
    params(
        ["a lambda", "a local function", "a local class", "a partial"],
        {"a local function", "a partial"},
    ),
)
def test_what_makes_the_environment_need_stand_in_no_module(kind):
    length = 3

    def local():
        return Chain(length)

    class Local(Chain):
        pass

    made = {
        "a lambda": lambda: Chain(length),
        "a local function": local,
        "a local class": Local,
        "a partial": partial(lambda n: Chain(n), length),
    }
    result = policygrad.train_seeds(made[kind], [1], jobs=1, **TINY)
    assert not result.failures
    alone = policygrad.train(made[kind], seed=1, **TINY)
    assert result.runs[1].env is made[kind]
    for a, b in zip(
        jax.tree.leaves(result.runs[1].policy), jax.tree.leaves(alone.policy), strict=True
    ):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


UNGUARDED = """
import policygrad
result = policygrad.train_seeds("CartPole-v1", range(2), jobs=2, total_steps=64, num_envs=4,
                                batch_steps=32)
print("trained", sorted(result.runs))
"""


def test_case_05_a_script_without_a_guard_gets_one_message(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = python(str(script), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith('Put what the script does under `if __name__ == "__main__":`')
    )
    assert "trained" not in done.stdout


def test_case_05_a_script_from_a_pipe_gets_one_message(tmp_path):
    done = python("-", cwd=tmp_path, input=UNGUARDED)
    assert done.returncode == 1
    assert "is no file; save the script to a file" in done.stderr.strip().splitlines()[-1]


SCRIPT = """
import sys
import policygrad
from tests.training.test_workers import {env}
if __name__ == "__main__":
    policygrad.train_seeds({env}, range(2), jobs=2, out=sys.argv[1], num_envs=4, batch_steps=32,
                           total_steps=10**9, checkpoint_seconds=0)
"""


@pytest.fixture
def parent(tmp_path, request):
    """A process that trains two seeds in workers, and the processes that it started."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(env=request.param))
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "out"], env=environment_variables(),
        stderr=subprocess.PIPE, cwd=tmp_path,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    files = [tmp_path / "out" / f"seed-{seed}" / "metrics.jsonl" for seed in (0, 1)]
    while not all(f.exists() and f.stat().st_size for f in files) and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int((f.parent / ".lock.pid").read_text()) for f in files]
    yield process, workers, tmp_path / "out"
    for pid in (process.pid, *workers):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def gone(pids, seconds):
    """Whether processes end within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        alive = []
        for pid in pids:
            with contextlib.suppress(FileNotFoundError):
                status = Path(f"/proc/{pid}/stat").read_text()
                alive += [pid] if status.rpartition(")")[2].split()[0] != "Z" else []
        if not alive:
            return True
        time.sleep(0.1)
    return False


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc")


@needs_proc
@pytest.mark.parametrize("parent", ["Hangs"], indirect=True)
def test_fault_04_two_interrupts_end_seeds_that_hang(parent):
    process, workers, _ = parent
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.wait(20)
    assert gone(workers, 5)


@needs_proc
@pytest.mark.parametrize("parent", ["Chain"], indirect=True)
@pytest.mark.parametrize(
    "signum",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_fault_04_workers_save_and_do_not_outlive_their_parent(parent, signum):
    process, workers, out = parent
    process.send_signal(signum)
    process.wait(60)
    assert gone(workers, 30)
    for seed in (0, 1):
        summary = json.loads((out / f"seed-{seed}" / "summary.json").read_text())
        assert summary["interrupted"]
        policygrad.load(out / f"seed-{seed}")


def test_a_worker_that_has_died_does_not_cost_the_others_their_end(monkeypatch, tmp_path):
    sent, send = [], Worker.send

    def dead(worker, message):
        sent.append(message)
        send(worker, message)
        if len(sent) == 1:
            raise WorkerEnded("ended with exit code 1")

    def fail(seed, metrics):
        raise RuntimeError("mine")

    monkeypatch.setattr(Worker, "send", dead)
    with pytest.raises(RuntimeError, match="mine"):
        policygrad.train_seeds(Chain, range(2), out=tmp_path / "a", jobs=2, on_update=fail, **SEEDS)
    assert len(sent) >= 1

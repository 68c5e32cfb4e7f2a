"""Requests to stop: which signals are taken, what the first does, and what the second."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import policygrad
from policygrad.runs import RunDirectory
from policygrad.training.ending import StoppedEarly
from policygrad.training.signals import Terminated, stop_requests
from tests.slow import params
from tests.worlds import DUCK, ROOT, TINY, environment_variables

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
named = pytest.mark.parametrize("signum", SIGNALS, ids=lambda s: s.name)


@named
def test_fault_05_a_signal_saves_like_ctrl_c(tmp_path, signum):
    path = tmp_path / "a"

    def send(run):
        if run["update"] == 3:
            os.kill(os.getpid(), signum)

    told = f"{signum.name}: the run stopped after 96 of its 320 environment steps"
    with pytest.warns(StoppedEarly, match=f"{told} and is saved; continue with: policygrad resume"):
        run = policygrad.train(DUCK, out=path, on_update=send, **TINY | {"total_steps": 320})
    assert run.interrupted
    assert run.summary["stopped_by"] == signum.name
    assert run.exit_code == 128 + signum
    assert run.summary["env_steps"] == 96
    assert RunDirectory(path).newest_checkpoint().name == "000000000096"
    assert policygrad.resume(path, env=DUCK).exit_code == 0


@named
def test_fault_05_a_second_signal_stops_at_once(signum):
    with stop_requests() as stop:
        os.kill(os.getpid(), signum)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt) as caught:
            os.kill(os.getpid(), signum)
            time.sleep(5)
    assert getattr(caught.value, "exit_code", 130) == 128 + signum
    assert isinstance(caught.value, Terminated) == (signum != signal.SIGINT)


@named
def test_handlers_are_given_back(signum):
    before = signal.getsignal(signum)
    with stop_requests():
        assert signal.getsignal(signum) is not before
    assert signal.getsignal(signum) is before


def own(*_):
    """A handler of the program's own."""


@pytest.mark.parametrize(
    ("signum", "handler"),
    [*((signum, signal.SIG_IGN) for signum in SIGNALS), *((s, own) for s in SIGNALS[1:])],
)
def test_a_signal_that_the_program_handles_or_ignores_stays_its_own(signum, handler):
    before = signal.signal(signum, handler)
    try:
        with stop_requests() as stop:
            os.kill(os.getpid(), signum)
            assert not stop.is_set()
            assert signal.getsignal(signum) is handler
    finally:
        signal.signal(signum, before)


def test_a_worker_is_not_stopped_at_once_by_a_second_signal():
    with stop_requests(second_stops_at_once=False) as stop:
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), signum)
        assert stop.by == "SIGTERM"


def test_other_threads_handle_no_signal():
    found = []

    def elsewhere():
        with stop_requests() as stop:
            found.append(stop.is_set())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [False]


@pytest.mark.parametrize("signum", params({s.name: s for s in SIGNALS[1:]}, {"SIGHUP"}))
def test_fault_05_the_command_saves_and_exits_with_the_signal(tmp_path, signum):
    out = tmp_path / "a"
    flags = ["--num-envs", "4", "--batch-steps", "32", "--total-steps", "100000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.runs.command", "train", "CartPole-v1", "--out", out, *flags],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment_variables(),
    )  # fmt: skip
    metrics = out / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signum)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert b"continue with: policygrad resume" in told
    assert b"Traceback" not in told
    assert json.loads((out / "summary.json").read_text())["stopped_by"] == signum.name
    policygrad.load(out)

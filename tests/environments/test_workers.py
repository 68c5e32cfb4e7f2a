"""Environments that hang, die or do not close, in worker processes and in this one."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

import policygrad
from policygrad import environments
from policygrad.core.errors import EnvironmentFailure, UserError
from policygrad.processes.scripts import GUARD
from tests.worlds import TINY, Chain, environment_variables, python


class Bad(Chain):
    """Misbehaves at its second step, or at its end."""

    def __init__(self, what="nothing"):
        super().__init__()
        self.what = what

    def step(self, action):
        if self.time == 1:
            match self.what:
                case "sleep":
                    time.sleep(1000)
                case "spin":
                    while True:
                        pass
                case "swallow":
                    while True:
                        with contextlib.suppress(Exception):
                            time.sleep(1000)
                case "raise":
                    raise ZeroDivisionError("no")
                case "sys.exit":
                    sys.exit(3)
                case "os._exit":
                    os._exit(7)
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)

    def close(self):
        if self.what == "raise in close":
            raise ValueError("it sticks")
        if self.what == "sleep in close":
            time.sleep(1000)


class Sleeper(Chain):
    """Does not come back from its second reset."""

    def reset(self, **kwargs):
        self.resets = getattr(self, "resets", 0) + 1
        if self.resets == 2:
            time.sleep(1000)
        return super().reset(**kwargs)


def play(lanes):
    """Two steps of two environments."""
    lanes.start(0)
    for _ in range(2):
        lanes.step(np.zeros(2, int))


def opened(what, **settings):
    return environments.make(Bad, 2, kwargs={"what": what}, **settings)


@pytest.mark.parametrize("what", ["sleep", "spin", "swallow"])
def test_fault_04_a_step_that_hangs_is_interrupted_in_this_process(what):
    before = signal.getsignal(signal.SIGALRM)
    lanes, started = opened(what, step_timeout=0.2), time.monotonic()
    with pytest.raises(EnvironmentFailure, match=r"environment 0 did not return within 0.2 s at s"):
        play(lanes)
    assert time.monotonic() - started < 5
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_fault_04_a_reset_that_hangs_is_interrupted():
    lanes = environments.make(Sleeper, 1, step_timeout=0.2)
    lanes.start(0)
    with pytest.raises(EnvironmentFailure, match=r"did not return within 0.2 s at reset of its"):
        lanes.start(0)


class NeverBegins(Chain):
    """Does not come back from any reset."""

    def reset(self, **kwargs):
        time.sleep(1000)


@pytest.mark.parametrize("kind", ["here", "workers", "vector"])
def test_a_first_reset_that_hangs_is_interrupted_when_lanes_are_made(kind):
    env = SyncVectorEnv([NeverBegins] * 2) if kind == "vector" else NeverBegins
    with pytest.raises(EnvironmentFailure, match=r"did not return within 0.3 s"):
        environments.make(env, 2, step_timeout=0.3, processes=kind == "workers")


class Counts(Chain):
    """Tells how often each of its objects was reset and closed."""

    made: ClassVar[list["Counts"]] = []

    def __init__(self, limit=None):
        super().__init__()
        self.resets = self.closed = 0
        self.made.append(self)
        if len(self.made) == limit:
            self.action_space = spaces.Discrete(5)

    def reset(self, **kwargs):
        self.resets += 1
        return super().reset(**kwargs)

    def close(self):
        self.closed += 1


def test_looking_for_masks_resets_no_environment_of_the_run(monkeypatch):
    monkeypatch.setattr(Counts, "made", [])
    lanes = environments.make(Counts, 2)
    lanes.start(0)
    assert [env.resets for env in lanes.vector.envs] == [1, 1]
    lanes.close()
    assert [env.closed for env in Counts.made] == [1, 1, 1]  # one was made only to look


def test_looking_for_masks_leaves_an_object_that_is_returned_again_open(monkeypatch):
    monkeypatch.setattr(Counts, "made", [])
    env = Counts()
    environments.make(lambda: env, 1).start(0)
    assert env.closed == 0


def test_looking_for_masks_needs_no_second_environment():
    left = [Chain()]
    environments.make(lambda: left.pop(), 1).start(0)
    assert not left


def test_an_environment_that_is_refused_is_closed(monkeypatch):
    monkeypatch.setattr(Counts, "made", [])
    with pytest.raises(UserError, match="the action space of environment 1"):
        environments.make(Counts, 2, kwargs={"limit": 2})
    assert [env.closed for env in Counts.made] == [1, 1]


def test_fault_04_a_limit_outside_of_the_main_thread_needs_processes():
    found = []

    def make():
        try:
            opened("nothing", step_timeout=1.0)
        except UserError as error:
            found.append(str(error))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert "add --processes" in found[0]


def test_steps_within_the_limit_are_as_without_one():
    play(opened("nothing", step_timeout=30.0))


DEATHS = {
    "raise": "environment [01] raised ZeroDivisionError at step 2 of its episode 1: no",
    "sys.exit": "environment [01] raised SystemExit at step 2 of its episode 1",
    "os._exit": r"worker process of environment [01] ended with exit code 7 at step 2 of its episo",
    "kill": r"process of environment [01] was killed by SIGKILL \(as the system .*\) at step 2",
}


@pytest.mark.slow
@pytest.mark.parametrize(("what", "found"), DEATHS.items())
def test_fault_03_a_worker_that_dies_is_one_error_that_names_it(what, found):
    lanes = opened(what, processes=True)
    with pytest.raises(EnvironmentFailure, match=found):
        play(lanes)
    assert_closes(lanes)


@pytest.mark.slow
def test_fault_04_workers_that_hang_are_ended():
    lanes = opened("sleep", processes=True, step_timeout=0.5)
    with pytest.raises(EnvironmentFailure, match=r"environment 0, 1 did not return within 0.5 s"):
        play(lanes)
    assert_closes(lanes)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["sleep in close", "raise in close"])
def test_fault_03_closing_neither_hangs_nor_raises(what):
    lanes = opened(what, processes=True)
    play(lanes)
    if what == "raise in close":
        with pytest.warns(RuntimeWarning, match="raised ValueError: it sticks in close"):
            assert_closes(lanes)
    else:
        assert_closes(lanes)


def processes_of(lanes):
    return [worker.process for worker in lanes.vector._workers]


def assert_closes(lanes):
    processes, started = processes_of(lanes), time.monotonic()
    lanes.close()
    assert time.monotonic() - started < 20
    assert all(process.exitcode is not None for process in processes)


@pytest.mark.slow
def test_case_05_a_lambda_is_sent_to_workers_and_what_cannot_be_sent_is_named():
    lanes = environments.make(lambda: Chain(3), 2, processes=True)
    play(lanes)
    lanes.close()
    lock = threading.Lock()
    with pytest.raises(UserError, match=r"cannot be sent to a worker process .*lock"):
        environments.make(lambda: lock and Chain(3), 2, processes=True)


SCRIPT = """
import policygrad
from tests.worlds import Chain, TINY
policygrad.train(Chain, processes=True, **TINY)
"""


@pytest.mark.slow
def test_case_05_a_script_without_a_guard_is_told_so_once(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = python(str(tmp_path / "script.py"), timeout=200)
    assert done.returncode == 1
    assert done.stderr.count(GUARD) == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.strip().endswith(GUARD + ", or leave --processes out")


@pytest.mark.slow
def test_a_script_without_a_guard_that_resumes_is_told_so_once(tmp_path):
    """Its worker would find the run held by its parent."""
    policygrad.train(Chain, out=tmp_path / "run", processes=True, **TINY)
    script = f"""
import policygrad
from tests.worlds import Chain
policygrad.resume({str(tmp_path / "run")!r}, env=Chain, total_steps=128)
"""
    (tmp_path / "script.py").write_text(script)
    done = python(str(tmp_path / "script.py"), timeout=200)
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.strip().endswith(GUARD + ", or leave --processes out")


@pytest.mark.slow
def test_case_05_a_script_from_a_pipe_is_told_what_to_do():
    done = python("-", input=SCRIPT, timeout=200)
    assert done.returncode == 1
    assert "<stdin> is no file; save the script to a file, and run that" in done.stderr
    assert "or leave --processes out" in done.stderr
    assert done.stderr.count("Traceback") == 1


HANGING = """
import signal, policygrad
from tests.environments.test_workers import Bad
from tests.worlds import TINY
if __name__ == "__main__":  # Ctrl-C as in a terminal, also where the tests run in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("begins", flush=True)
    policygrad.train(Bad, env_kwargs={"what": "sleep"}, processes=%s, **TINY)
"""


def children(pid):
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [int(x) for x in found.stdout.split()]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def hanging(tmp_path, processes):
    """A training whose environments hang, and its child processes."""
    path = tmp_path / "hanging.py"
    path.write_text(textwrap.dedent(HANGING % processes))
    process = subprocess.Popen(
        [sys.executable, str(path)],
        env=environment_variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    end, found = time.monotonic() + 120, []
    while processes and len(found) < 5 and time.monotonic() < end:  # 4 workers and a tracker
        time.sleep(0.5)
        found = children(process.pid)
    time.sleep(15)
    return process, found


@pytest.mark.slow
@pytest.mark.parametrize("processes", [True, False])
def test_fault_04_two_ctrl_c_end_a_run_whose_step_hangs(tmp_path, processes):
    process, workers = hanging(tmp_path, processes)
    with process:  # which closes its pipes
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(60) != 0
        finally:
            process.kill()
    assert_end(workers)


@pytest.mark.slow
def test_workers_leave_signals_to_all_to_their_parent():
    lanes = opened("nothing", processes=True)
    lanes.start(0)
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        for process in processes_of(lanes):
            os.kill(process.pid, number)
    time.sleep(0.2)
    play(lanes)
    assert_closes(lanes)


@pytest.mark.slow
def test_a_script_ends_that_does_not_close_its_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from policygrad import environments\n"
        "from tests.worlds import Chain\n"
        "if __name__ == '__main__':\n"
        "    lanes = environments.make(Chain, 1, processes=True)\n"
        "    lanes.start(0)\n"
        "    print('made')\n"
    )
    done = python(str(script), timeout=100)
    assert (done.returncode, done.stdout) == (0, "made\n"), done.stderr


@pytest.mark.slow
def test_fault_04_workers_end_with_their_parent(tmp_path):
    process, workers = hanging(tmp_path, True)
    assert len(workers) >= 4
    with process:
        process.kill()
    assert_end(workers)


def assert_end(workers):
    end = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.2)
    assert not any(map(alive, workers))

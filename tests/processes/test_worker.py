"""A process that works for this one: messages, and how it ends."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from policygrad.core.errors import UserError
from policygrad.processes.scripts import GUARD
from policygrad.processes.signals import SENT_TO_ALL
from policygrad.processes.worker import Worker, WorkerEnded, how_it_ended, ready
from tests.processes.work import echo, handle_signals, ignore_signals, sleep
from tests.worlds import environment_variables, python


@pytest.fixture
def started():
    """Starts workers, and ends them after the test."""
    workers = []

    def start(*arguments, **settings):
        workers.append(Worker(*arguments, **settings))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()
        assert worker.process.exitcode is not None


def test_a_worker_is_sent_arguments_and_exchanges_messages(started):
    worker = started(echo, 1, "two")
    assert worker.receive() == (1, "two")
    worker.send({"a": [1.5]})
    assert worker.receive() == {"a": [1.5]}
    worker.send(None)
    worker.join()
    assert worker.process.exitcode == 0


def test_those_that_sent_something_are_ready(started):
    workers = [started(echo), started(echo)]
    for worker in workers:
        worker.receive()
    assert ready(workers, 0.01) == []
    workers[1].send("a")
    assert ready(workers) == [workers[1]]
    assert workers[1].receive() == "a"
    workers[0].kill()
    assert ready(workers) == [workers[0]]


@pytest.mark.parametrize("by", ["exit", "kill"])
def test_a_worker_that_ends_by_itself_says_how(started, by):
    worker = started(echo)
    worker.receive()
    if by == "exit":
        worker.send(7)
    else:
        os.kill(worker.process.pid, signal.SIGKILL)
    how = {"exit": "ended with exit code 7", "kill": "was killed by SIGKILL"}[by]
    with pytest.raises(WorkerEnded, match=how):
        worker.receive()
    with pytest.raises(WorkerEnded, match=how):
        worker.send("late")


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (0, "ended with exit code 0"),
        (3, "ended with exit code 3"),
        (None, "ended with exit code None"),
        (-9, "was killed by SIGKILL (as the system does where memory runs out)"),
        (-11, "was killed by SIGSEGV"),
        (-63, "was killed by 63"),
    ],
)
def test_exit_codes_are_told_in_words(code, how):
    assert how_it_ended(code) == how


def test_what_a_killed_worker_has_sent_is_still_received(started):
    worker = started(sleep)
    ready([worker])
    worker.kill()
    assert worker.receive() == "sleeps"


def test_a_worker_that_is_forgotten_is_ended():
    worker = Worker(sleep)
    worker.receive()
    process = worker.process
    del worker
    gc.collect()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL


def test_signals_are_kept_from_a_worker_until_it_lets_them_in(started):
    worker = started(handle_signals)
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.receive() is True
    worker.send("go on")
    assert worker.receive() == signal.SIGTERM


def test_a_worker_may_leave_signals_to_its_parent(started):
    worker = started(ignore_signals)
    worker.receive()
    for number in SENT_TO_ALL:
        os.kill(worker.process.pid, number)
    worker.send("a")
    assert worker.receive() == "a"


def test_where_no_process_can_be_started_it_is_an_error(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    with pytest.raises(UserError, match="no worker processes can be started here"):
        Worker(echo)


# ----- how the process that started it ends


SCRIPT = """
import sys, time
from policygrad.processes.worker import Worker
from tests.processes.work import last_will
if __name__ == "__main__":
    worker = Worker(last_will, sys.argv[1], grace=float(sys.argv[2]))
    print(worker.receive(), flush=True)
    time.sleep(float(sys.argv[3]))
"""


def parent_of_one(tmp_path, grace, seconds):
    """A process with one worker, and the worker's number."""
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = [tmp_path / "script.py", tmp_path / "will", grace, seconds]
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment_variables(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def seconds_until_gone(pid, most=20.0):
    started = time.monotonic()
    while time.monotonic() - started < most:
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except FileNotFoundError:
            break
        if status.rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.05)
    return time.monotonic() - started


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc")


@needs_proc
@pytest.mark.parametrize("grace", [0.0, 3.0])
def test_a_worker_ends_with_its_parent_after_the_grace(tmp_path, grace):
    process, worker = parent_of_one(tmp_path, grace, 1000)
    with process:
        process.kill()
    assert grace * 0.8 <= seconds_until_gone(worker) < grace + 5
    if grace:
        assert (tmp_path / "will").read_text() == "saved"


@needs_proc
def test_a_script_that_ends_ends_its_workers(tmp_path):
    process, worker = parent_of_one(tmp_path, 100.0, 0)
    with process:
        assert process.wait(20) == 0
    assert seconds_until_gone(worker) < 5


UNGUARDED = """
from policygrad.processes.worker import Worker
from tests.processes.work import echo
Worker(echo, instead=", or do without").receive()
"""


def test_case_05_a_script_without_a_guard_is_told_so_once(tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = python(str(tmp_path / "script.py"), timeout=100)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.strip().endswith(GUARD + ", or do without")


def test_a_worker_may_be_started_in_a_thread(started):
    found = []
    thread = threading.Thread(target=lambda: found.append(started(echo).receive()))
    thread.start()
    thread.join()
    assert found == [()]

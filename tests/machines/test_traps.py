"""What a user of many workers may walk into: each is an error at once, or does not happen."""

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import types
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import policygrad
from policygrad import cli
from policygrad.core.errors import UserError
from policygrad.environments import names
from policygrad.machines import cluster as cluster_
from policygrad.machines import places as places_
from policygrad.machines.cluster import Cluster
from policygrad.machines.versions import Versions
from policygrad.runs import RunDirectory
from tests.training.test_training import wait_for_lines
from tests.worlds import ROOT, TINY, Chain, environment_variables, python

ray = pytest.importorskip("ray")


# ----- what Ray is started with


@pytest.fixture
def started(monkeypatch):
    """The arguments of `ray.init`, which starts nothing."""
    calls = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **given: calls.append(given))
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append("shutdown"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return calls


def test_ray_is_started_without_a_dashboard_in_bounds_and_in_a_folder_of_its_own(started):
    before = dict(os.environ)
    cluster = Cluster()
    given = started[0]
    folder = Path(given["_temp_dir"])
    assert given["include_dashboard"] is False
    assert given["object_store_memory"] <= 2**30
    assert given["address"] == "local"
    assert folder.is_dir()
    assert folder.name.startswith(f"policygrad-{os.getpid()}-")
    assert len(str(folder)) < 40  # its sockets have paths of at most 107 bytes
    assert dict(os.environ) == before  # authentication too is left as it is
    assert not [name for name in given if "auth" in name.lower() or "token" in name.lower()]
    cluster.close()
    cluster.close()
    assert started[1:] == ["shutdown"]
    assert not folder.exists()


def test_a_start_that_fails_leaves_no_folder(started, monkeypatch):
    folders = []

    def fail(**given):
        folders.append(Path(given["_temp_dir"]))
        raise RuntimeError("no")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(RuntimeError, match="no"):
        Cluster()
    assert not folders[0].exists()


def test_ray_that_the_caller_has_started_is_left_as_it_is(started, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    Cluster().close()
    assert started == []


def test_an_address_beside_ray_that_runs_elsewhere_is_refused(started, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    joined = types.SimpleNamespace(gcs_address="10.0.0.1:6379")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: joined)
    Cluster("10.0.0.1:6379").close()
    with pytest.raises(
        UserError, match=r"connected to 10\.0\.0\.1:6379 .*got the address 10\.0\.0\.2"
    ):
        Cluster("10.0.0.2:6379")
    assert not started


def test_handlers_of_signals_stay(started, monkeypatch):
    mine = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def handle(**given):
        for each in mine:
            signal.signal(each, signal.SIG_IGN)

    monkeypatch.setattr(ray, "init", handle)
    monkeypatch.setattr(ray, "shutdown", handle)
    cluster = Cluster()
    assert {each: signal.getsignal(each) for each in mine} == mine
    cluster.close()
    assert {each: signal.getsignal(each) for each in mine} == mine


# ----- addresses


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def silent():
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_ray_address_is_used_and_a_flag_goes_first(started, listening, silent, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", listening)
    Cluster().close()
    assert started[0]["address"] == listening
    assert "_temp_dir" not in started[0]
    monkeypatch.setenv("RAY_ADDRESS", silent)
    Cluster(listening).close()
    assert started[2]["address"] == listening
    monkeypatch.setenv("RAY_ADDRESS", "")
    Cluster().close()
    assert started[4]["address"] == "local"


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_nothing_answers_at_the_address(silent, by, monkeypatch, capsys):
    began, flags = time.monotonic(), ["--ray", silent] if by == "flag" else []
    if by == "variable":
        monkeypatch.setenv("RAY_ADDRESS", silent)
    assert cli.run(["train", "CartPole-v1", "--workers", "2", *flags]) == 2
    assert time.monotonic() - began < 15
    said = capsys.readouterr().err
    assert said.startswith(f"policygrad: nothing answers at {silent} (--ray, or RAY_ADDRESS): ")
    assert "`ray start --head`" in said


def test_a_machine_that_never_answers_is_given_up(monkeypatch, started):
    def wait(address, timeout):
        assert timeout < 15
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", wait)
    with pytest.raises(UserError, match=r"nothing answers at 10\.0\.0\.1:6379 .*: timed out"):
        Cluster("10.0.0.1:6379")


@pytest.mark.parametrize(
    "address", ["", "here", "here:", ":", "10.0.0.1", "10.0.0.1:head", "http://x/", "a:-1", "a:1.5"]
)
def test_what_is_no_address_is_told_so(address, started):
    with pytest.raises(UserError, match=r"is no address of a Ray cluster, which is host:port"):
        Cluster(address)
    assert started == []


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "no.such.machine.invalid:6379", "::1:1"])
def test_an_address_that_leads_nowhere_is_told_so(address, started):
    with pytest.raises(UserError, match="nothing answers at"):
        Cluster(address)
    assert started == []


def test_what_ray_says_of_a_cluster_that_it_cannot_join_is_passed_on(
    started, listening, monkeypatch
):
    def refuse(**given):
        raise RuntimeError("Version mismatch:\n    Ray: 2.50")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UserError, match=rf"at {listening} .*: Version mismatch: Ray: 2.50"):
        Cluster(listening)


# ----- room


def cluster_of(*nodes):
    """A cluster of machines with so many CPUs; None is one that is gone."""
    found = object.__new__(Cluster)
    found.address = "10.0.0.1:6379"
    rows = [
        {"Alive": cpus is not None, "Resources": {"CPU": float(cpus or 8)} if cpus != 0 else {}}
        for cpus in nodes
    ]
    found.ray = SimpleNamespace(nodes=lambda: rows)
    return found


@pytest.mark.parametrize(
    ("nodes", "workers", "cpus"),
    [((2,), 2, 1), ((2,), 4, 0.5), ((2,), 6, 1 / 3), ((1, 1, 1), 3, 1), ((4, None), 4, 1),
     ((4, 0, 4), 2, 4), ((0.3,), 3, 0.1)],
)  # fmt: skip
def test_workers_that_find_room_are_let_in(nodes, workers, cpus):
    cluster_of(*nodes).require(workers, cpus)


@pytest.mark.parametrize(
    ("nodes", "workers", "cpus", "words"),
    [
        ((2,), 3, 1, "--workers 3 ask for 3 CPUs, and the cluster at 10.0.0.1:6379 has 2; ask for "
         "at most 2 workers, or let some share a CPU: --cpus-per-worker 0.6666"),
        ((2,), 5, 0.5, "ask for 2.5 CPUs, .* has 2; ask for at most 4 .*--cpus-per-worker 0.4"),
        ((4, None), 5, 1, "ask for 5 CPUs, .* has 4; .* at most 4 workers"),
        ((1, 1, 1), 1, 2, "ask for 2 CPUs, .* has 3 on 3 machines, and a worker is on one; let so"),
        ((3, 3), 3, 2, "ask for 6 CPUs, .* has 6 on 2 machines, .*at most 2 .*cpus-per-worker 1.5"),
        ((0,), 1, 1, "ask for 1 CPUs, .* has 0; "),
    ],
)  # fmt: skip
def test_more_cpus_than_there_are_name_both_numbers(nodes, workers, cpus, words):
    with pytest.raises(UserError, match=words):
        cluster_of(*nodes).require(workers, cpus)


@pytest.mark.parametrize("nodes", [(2,), (3, 3), (1, 2, 5), (16,), (0.5, 7)])
@pytest.mark.parametrize("workers", [9, 17, 64])
def test_the_share_that_is_advised_finds_room(nodes, workers):
    cluster = cluster_of(*nodes)
    with pytest.raises(UserError) as caught:
        cluster.require(workers, 4)
    cluster.require(workers, float(str(caught.value).rpartition("--cpus-per-worker ")[2]))


def test_more_workers_than_blocks_are_refused_before_anything_is_started(monkeypatch):
    monkeypatch.setattr(places_, "Cluster", lambda address: pytest.fail("it was started"))
    with pytest.raises(
        UserError, match=r"--workers 3 are more than the 2 blocks .*--num-envs 4 in"
    ):
        policygrad.train(Chain, collector=policygrad.remote(3), lanes_per_block=2, **TINY)


# ----- what must be there


def test_ray_that_is_not_installed_is_named_with_its_extra(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        names.importlib.util, "find_spec", lambda n: None if n == "ray" else find(n)
    )
    assert cli.run(["train", "CartPole-v1", "--workers", "2"]) == 2
    assert "pip install 'policygrad[ray]'" in capsys.readouterr().err


def test_versions_that_differ_are_named():
    mine = Versions("3.11.7", "0.9.0", "0.9.1", "1.0")
    mine.refuse_others(Versions("3.11.7", "0.9.0", "0.9.1", "1.0"), "node7")
    with pytest.raises(UserError) as caught:
        mine.refuse_others(Versions("3.12.1", "0.9.0", "0.9.1", "1.1"), "node7")
    assert str(caught.value) == (
        "the worker on node7 has python 3.12.1, and this process 3.11.7; policygrad 1.1, and this "
        "process 1.0: install the same versions on all machines"
    )


def test_what_environments_are_made_of_is_compared_too():
    mine = Versions("3.11.7", "0.9.0", "0.9.1", "1.0", gymnasium="1.2.0", mujoco="3.3", ale_py="1")
    theirs = replace(mine, gymnasium="1.1.0", mujoco=None, envpool="1.2.2")
    with pytest.raises(UserError) as caught:
        mine.refuse_others(theirs, "node7")
    assert str(caught.value) == (
        "the worker on node7 has gymnasium 1.1.0, and this process 1.2.0; no mujoco, and this "
        "process 3.3; envpool 1.2.2, and this process none: install the same versions on all "
        "machines"
    )
    with pytest.raises(UserError, match="has no ale-py, and this process 1:"):
        mine.refuse_others(replace(mine, ale_py=None), "node7")


def test_versions_are_those_that_are_installed(monkeypatch):
    here = Versions.here()
    for name in ("jax", "jaxlib", "numpy", "gymnasium"):
        assert getattr(here, name) == importlib.import_module(name).__version__
    there = {"jax": "0.9.0", "jaxlib": "0.9.0"}

    def version(name):
        if name not in there:
            raise PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr("importlib.metadata.version", version)
    without = Versions.here()
    assert (without.jax, without.envpool, without.policygrad) == ("0.9.0", None, here.policygrad)


# ----- JAX waits until a worker is pinned


def test_the_module_of_workers_imports_no_jax():
    done = python("-c", "import sys, policygrad.machines.worker; print('jax' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


PINNED = """
import os, sys
seen = []

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in ("jax", "jaxlib"):
            seen.append(sorted(os.sched_getaffinity(0)))

sys.meta_path.insert(0, Finder())
from policygrad.machines.worker import Worker
allowed = sorted(os.sched_getaffinity(0))
assert not seen
Worker().prepare(len(allowed) + 1, True)
import jax
print(seen[0] == [allowed[1 % len(allowed)]], jax.config.jax_enable_x64)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are not pinned here")
def test_a_worker_is_pinned_before_jax_is_imported():
    done = python("-c", PINNED)
    assert done.stdout == "True True\n", done.stderr


# ----- nothing is left

LONG = [
    "--num-envs", "4", "--lanes-per-block", "1", "--batch-steps", "32", "--hidden", "8",
    "--critic-epochs", "1", "--workers", "2",
]  # fmt: skip


class Command:
    """`policygrad train` in a process of its own, as from a terminal, and all that it starts."""

    def __init__(self, *arguments):
        self.shared = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
        command = [sys.executable, "-m", "policygrad", "train", *map(str, arguments)]
        self.process = subprocess.Popen(
            ["env", "--default-signal=INT,TERM,HUP", *command], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=environment_variables(), start_new_session=True,
            cwd=ROOT,
        )  # fmt: skip
        self.started = set()

    def look(self):
        """Remember what it has started so far; returns its workers."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.started |= set(psutil.Process(self.process.pid).children(recursive=True))
        found = []
        for each in self.started:
            with contextlib.suppress(psutil.Error):
                if each.name().startswith("ray::Work") and each.status() != "zombie":
                    found.append(each)
        return found

    def trains(self, path, rows=3):
        wait_for_lines(path / "metrics.jsonl", rows, self.process)
        assert len(self.look()) == 2

    def ends(self, timeout=120):
        """Its exit code and what it printed, once it and all that it started are gone."""
        while self.process.poll() is None and timeout > 0:
            self.look()
            time.sleep(0.2)
            timeout -= 0.2
        out, err = self.process.communicate(timeout=1)
        _, left = psutil.wait_procs(self.started, 15)
        assert not left
        assert not list(Path("/tmp").glob(f"policygrad-{self.process.pid}-*"))
        deadline = time.monotonic() + 10
        while self.shared_memory_left() and time.monotonic() < deadline:
            time.sleep(0.2)  # another program may be between closing its file and removing it
        assert not self.shared_memory_left()
        return self.process.returncode, out, err

    def shared_memory_left(self):
        """New files that no process has open: those of other programs have an owner."""
        if not os.path.isdir("/dev/shm"):
            return []
        new = [f"/dev/shm/{name}" for name in set(os.listdir("/dev/shm")) - self.shared]
        used = ""
        for maps in Path("/proc").glob("[0-9]*/maps"):
            with contextlib.suppress(OSError):
                used += "".join(x for x in maps.read_text().splitlines() if "/dev/shm" in x)
        return [path for path in new if path not in used]

    def signal(self, signum):
        """As a terminal does: to the whole group."""
        os.killpg(self.process.pid, signum)


def test_a_run_that_lost_a_worker_prints_only_json_and_leaves_nothing(tmp_path):
    command = Command(
        "gymnasium/CartPole-v1", *LONG, "--total-steps", 32 * 400, "--out", tmp_path / "a",
        "--json",
    )  # fmt: skip
    command.trains(tmp_path / "a")
    command.look()[0].kill()
    code, out, err = command.ends()
    assert code == 0, err
    summary = json.loads(out)
    assert summary["worker_restarts"] == 1
    assert summary["exact"] is True
    assert "is lost" in err
    assert "Traceback" not in err


def test_ctrl_c_saves_and_leaves_nothing(tmp_path):
    path = tmp_path / "a"
    command = Command("gymnasium/CartPole-v1", *LONG, "--total-steps", 10**8, "--out", path)
    command.trains(path)
    command.signal(signal.SIGINT)
    code, _, err = command.ends()
    assert code == 130, err
    assert "Traceback" not in err
    assert f"policygrad resume {path}" in err
    rows, summary = RunDirectory(path).read_metrics(), RunDirectory(path).read_summary()
    assert summary["interrupted"] is True
    assert summary["stopped_by"] == "SIGINT"
    assert summary["worker_restarts"] == 0
    assert rows[-1]["env_steps"] == summary["env_steps"]
    run = policygrad.resume(path, total_steps=summary["env_steps"] + 32)
    assert run.summary["resumed_exactly"] is True


@pytest.mark.slow
@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGHUP], [signal.SIGINT] * 2])
def test_other_signals_leave_nothing(signals, tmp_path):
    path = tmp_path / "a"
    env = "gymnasium/CartPole-v1"
    hangs = len(signals) == 2
    if hangs:  # a step that does not come back
        env = "tests.machines.troubles:Troubled-v0"
    more = ["--env-kwargs", '{"what": "hang", "at": 100}'] if hangs else []
    command = Command(env, *LONG, *more, "--total-steps", 10**8, "--out", path)
    command.trains(path)
    for signum in signals:
        time.sleep(2 if hangs else 0)
        command.signal(signum)
    code, _, err = command.ends()
    assert code == 128 + signals[0], err
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--env-kwargs", '{"what": "raise", "at": 100}'], 1, "the pole is not there"),
        (["--cpus-per-worker", "1000"], 2, "--workers 2 ask for 2000 CPUs, and this machine has"),
    ],
)
def test_errors_leave_nothing(more, code, words, tmp_path):
    env = "tests.machines.troubles:Troubled-v0"
    command = Command(env, *LONG, *more, "--total-steps", 32 * 60, "--out", tmp_path / "a")
    found, out, err = command.ends()
    assert found == code, err
    assert words in err
    assert out == ""
    assert ("Traceback" in err) == (code == 1)  # of the environment, in the worker
    assert ("troubles.py" in err) == (code == 1)


@pytest.mark.slow
def test_what_is_killed_leaves_a_folder_that_the_next_run_removes(tmp_path):
    path = tmp_path / "a"
    command = Command("gymnasium/CartPole-v1", *LONG, "--total-steps", 10**8, "--out", path)
    command.trains(path)
    command.process.kill()
    command.process.communicate()
    _, left = psutil.wait_procs(command.started, 150)  # Ray's agents end a minute later
    assert not left
    cluster_._sweep("/tmp")
    assert not list(Path("/tmp").glob(f"policygrad-{command.process.pid}-*"))


SCRIPT = """
import signal, sys, policygrad
from tests.worlds import TINY
signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD]
if __name__ == "__main__":
    before = [signal.getsignal(each) for each in signals]
    run = policygrad.train("gymnasium/CartPole-v1", collector=policygrad.remote(1), **TINY)
    print([signal.getsignal(each) for each in signals] == before, run.summary["updates"])
"""


@pytest.mark.slow
def test_a_script_keeps_its_handlers_of_signals(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = python(str(tmp_path / "script.py"), timeout=200)
    assert done.stdout == "True 2\n", done.stderr
    assert done.stderr == ""

"""Runs on workers of Ray's that are killed, hang or fail: nothing of a run changes."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import threading
import time
import warnings

import jax
import numpy as np
import psutil
import pytest

import policygrad
from policygrad import cli
from policygrad.core.errors import EnvironmentFailure, UserError
from policygrad.machines.cluster import Cluster
from policygrad.machines.crew import Crew
from policygrad.machines.places import STATE_EVERY
from policygrad.machines.staff import DEATHS, InAWorker
from policygrad.machines.versions import Versions
from policygrad.runs import RunDirectory
from tests.machines.troubles import Slow, Troubled, TroubledDrift, usable
from tests.training.test_training import assert_bitwise, without_clock
from tests.worlds import TINY, TINY_FLAGS, Drift

ray = pytest.importorskip("ray")
SEGMENTS = TINY | {"lanes_per_block": 1, "total_steps": 32 * 20, "seed": 5}
EPISODES = SEGMENTS | {
    "batch_steps": None, "batch_episodes": 6, "max_episode_steps": 300, "total_steps": 400
}  # fmt: skip
OF_WORKERS = ("worker_restarts", "inexact_restarts", "transport_seconds")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Ray, started once; what the library starts of it is then only the workers."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, logging_level="error",
            object_store_memory=100 * 2**20, log_to_driver=False,
        )  # fmt: skip
        yield
        ray.shutdown()
    for each, handler in before.items():
        signal.signal(each, handler)


def workers():
    """The processes of Ray's workers that were given work."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("ray::Work") and process.status() != "zombie":
                found.append(process)
    return found


@pytest.fixture(autouse=True)
def no_worker_is_left():
    yield
    end = time.monotonic() + 20
    while workers() and time.monotonic() < end:
        time.sleep(0.1)
    assert not workers()


def killing_at(*updates):
    """A callback that kills a worker after these updates."""

    def kill(metrics):
        if metrics["update"] in updates:
            victim = workers()[0]
            victim.kill()
            victim.wait(10)

    return kill


def of_the_run(run):
    """Its metrics, without those that tell how long it took, and where."""
    rows = without_clock(run.metrics)
    return [{k: v for k, v in row.items() if k not in OF_WORKERS} for row in rows]


def assert_same(ours, theirs):
    assert_bitwise(ours, theirs)
    assert of_the_run(ours) == of_the_run(theirs)
    assert [row["update"] for row in ours.metrics] == list(range(1, len(ours.metrics) + 1))


KILLED = {
    "segments": (Troubled, {"what": "kill", "at": 100}, SEGMENTS),
    "episodes": (TroubledDrift, {"at": 30}, EPISODES),
    "compiled": ("gymnax/CartPole-v1", None, SEGMENTS),
}


@pytest.mark.filterwarnings("ignore:the worker:UserWarning")
@pytest.mark.parametrize(
    ("env", "kwargs", "settings"),
    [pytest.param(*each, id=name, marks=() if name == "segments" else pytest.mark.slow)
     for name, each in KILLED.items()],
)  # fmt: skip
def test_killed_workers_change_nothing(env, kwargs, settings, tmp_path):
    """Killed within a batch, between two, and after more than the batches of one state."""
    quiet = None if kwargs is None else kwargs | {"flag": str(tmp_path)}  # which is there already
    local = policygrad.train(env, env_kwargs=quiet, **settings)
    at = (2, STATE_EVERY + 2) if settings is SEGMENTS else (2,)
    kwargs = None if kwargs is None else kwargs | {"flag": str(tmp_path / "flag")}
    run = policygrad.train(
        env, env_kwargs=kwargs, out=tmp_path / "run", collector=policygrad.remote(2),
        on_update=killing_at(*at), checkpoint_seconds=0.0, **settings,
    )  # fmt: skip
    assert_same(run, local)
    kills = len(at) + (kwargs is not None)
    assert (tmp_path / "flag").exists() == (kwargs is not None)
    assert run.summary["worker_restarts"] == kills
    assert run.summary["exact"] is True
    rows = RunDirectory(tmp_path / "run").read_metrics()
    assert rows[-1]["worker_restarts"] == kills
    assert rows[0]["worker_restarts"] == 0
    assert rows[-1]["inexact_restarts"] == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the worker:UserWarning")
def test_a_worker_that_hangs_is_replaced(tmp_path):
    kwargs = {"what": "hang", "at": 60}
    local = policygrad.train(Troubled, env_kwargs=kwargs | {"flag": str(tmp_path)}, **SEGMENTS)
    run = policygrad.train(
        Troubled, env_kwargs=kwargs | {"flag": str(tmp_path / "flag")},
        collector=policygrad.remote(2, worker_timeout=30.0), **SEGMENTS,
    )  # fmt: skip
    assert_same(run, local)
    assert run.summary["worker_restarts"] == 1


def without_folders(error):
    """The text of an error; a worker may have imported the same file from where it is installed."""
    return re.sub(r'File ".*/', 'File "', str(error))


@pytest.mark.parametrize("what", ["raise", pytest.param("sys.exit", marks=pytest.mark.slow)])
def test_an_environment_that_raises_is_a_failure_of_the_environment(what, tmp_path):
    out = tmp_path / "run"
    kwargs = {"what": what, "at": 100}
    with pytest.raises(EnvironmentFailure) as alone:
        policygrad.train(Troubled, env_kwargs=kwargs, **SEGMENTS)
    with pytest.raises(EnvironmentFailure) as caught:
        policygrad.train(
            Troubled, env_kwargs=kwargs, out=out, collector=policygrad.remote(2), **SEGMENTS
        )
    assert without_folders(caught.value) == without_folders(alone.value)
    assert isinstance(caught.value.__cause__, InAWorker)
    told = str(caught.value.__cause__)
    assert "troubles.py" in told
    assert ("ZeroDivisionError: the pole is not there" if what == "raise" else "SystemExit") in told
    assert "go on from" in caught.value.__notes__[0]
    assert RunDirectory(out).read_summary()["worker_restarts"] == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the worker:UserWarning")
def test_an_environment_that_always_kills_its_process_ends_the_run():
    with pytest.raises(EnvironmentFailure, match=f"{DEATHS} workers died of the same request"):
        policygrad.train(
            Troubled, env_kwargs={"what": "kill"}, collector=policygrad.remote(1), **SEGMENTS
        )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the worker:UserWarning")
@pytest.mark.filterwarnings("ignore:the environments of:UserWarning")
def test_envpool_goes_on_with_fresh_episodes_and_says_so(tmp_path):
    pytest.importorskip("envpool")
    run = policygrad.train(
        "envpool/CartPole-v1", out=tmp_path / "a", collector=policygrad.remote(2),
        on_update=killing_at(3), **SEGMENTS | {"lanes_per_block": 2},
    )  # fmt: skip
    rows = RunDirectory(tmp_path / "a").read_metrics()
    assert [row["update"] for row in rows] == list(range(1, len(rows) + 1))
    assert [rows[i]["inexact_restarts"] for i in (0, -1)] == [0, 1]
    assert run.summary["exact"] is False
    assert run.summary["worker_restarts"] == run.summary["inexact_restarts"] == 1


def test_a_run_is_resumed_on_another_number_of_workers_and_on_none(tmp_path):
    whole = policygrad.train(Drift, **SEGMENTS)

    def stop(at):
        return lambda m: policygrad.STOP if m["update"] == at else None

    out = tmp_path / "a"
    policygrad.train(Drift, out=out, collector=policygrad.remote(2), on_update=stop(4), **SEGMENTS)
    policygrad.resume(out, env=Drift, collector=policygrad.remote(1), on_update=stop(8))
    policygrad.resume(out, env=Drift, on_update=stop(12))
    run = policygrad.resume(out, env=Drift, collector=policygrad.remote(4, cpus_per_worker=0.5))
    assert run.summary["resumed_exactly"] is True
    assert_same(run, whole)


def test_a_worker_has_a_processor_and_a_thread_of_its_own():
    cluster = Cluster()
    crew = Crew(cluster, policygrad.remote(2))
    for number, hand in enumerate(crew.hands):
        hand.duties.append(number)
    found = crew.ask(lambda numbers: (usable, (numbers,)), lambda numbers: (usable, (numbers,)))
    crew.close()
    allowed = sorted(os.sched_getaffinity(0))
    expected = [[allowed[(os.getpid() + n) % len(allowed)]] for n in (0, 1)]
    assert [found[n][0] for n in (0, 1)] == expected
    assert all(variables == ["1", os.environ.get("XLA_FLAGS", ""), "cpu"]
               for _, variables in found.values())  # fmt: skip


def test_versions_of_workers_that_differ_are_named(monkeypatch):
    here = dataclasses.replace(Versions.here(), jax="0.1.2")
    monkeypatch.setattr(Versions, "here", lambda: here)
    with pytest.raises(UserError, match=r"has jax .*, and this process 0\.1\.2: install the same"):
        policygrad.train(Drift, collector=policygrad.remote(1), **SEGMENTS)


# ----- the command

FLAGS = [*map(str, TINY_FLAGS), "--lanes-per-block", "1"]


def test_the_command_trains_and_resumes_on_workers(tmp_path, capsys):
    out, alone = str(tmp_path / "a"), str(tmp_path / "b")
    env = "tests.machines.troubles:Troubled-v0"
    workers = ["--workers", "1", "--worker-timeout", "300", "--cpus-per-worker", "0.5"]
    assert cli.run(["train", env, *FLAGS, *workers, "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["worker_restarts"] == 0
    assert cli.run(["train", env, *FLAGS, "--total-steps", "128", "--out", alone]) == 0
    assert cli.run(["resume", out, "--total-steps", "128", "--workers", "1"]) == 0
    ours, theirs = (policygrad.load(path).policy for path in (out, alone))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.slow
def test_the_command_trains_seeds_on_workers(tmp_path, capsys):
    out = str(tmp_path / "a")
    flags = ["--seeds", "0..2", "--workers", "2", "--out", out, "--json"]
    assert cli.run(["train", "gymnasium/CartPole-v1", *map(str, TINY_FLAGS), *flags]) == 0
    assert [each["seed"] for each in json.loads(capsys.readouterr().out)] == [0, 1, 2]


UNSENDABLE = threading.Lock()


@pytest.mark.parametrize(
    ("env", "kwargs", "name"),
    [
        (lambda: UNSENDABLE and Drift(), {}, "env"),
        (Troubled, {"what": UNSENDABLE}, "env_kwargs"),
    ],
)
def test_what_cannot_be_sent_to_workers_is_named(env, kwargs, name, monkeypatch):
    monkeypatch.setattr(env, "__module__", "__main__")  # so that it goes by its content
    with pytest.raises(UserError, match=f"{name} cannot be sent to a worker process"):
        policygrad.train(env, env_kwargs=kwargs, collector=policygrad.remote(1), **SEGMENTS)


# ----- seeds

SEEDS = TINY | {"total_steps": 32 * 20, "checkpoint_seconds": 0.0}


class Told:
    """A callback of seeds that remembers, and kills the worker of a seed at an update."""

    def __init__(self, out=None, seed=None, at=5):
        self.updates, self.rows = {}, {}
        self.out, self.seed, self.at = out, seed, at

    def __call__(self, seed, metrics):
        self.updates.setdefault(seed, []).append(metrics["update"])
        self.rows.setdefault(seed, []).append(metrics)
        if seed == self.seed and metrics["update"] >= self.at:
            self.seed = None
            os.kill(int((self.out / f"seed-{seed}" / ".lock.pid").read_text()), signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:the worker:UserWarning")
def test_a_killed_worker_costs_no_seed_anything(tmp_path):
    told = Told(tmp_path / "a", seed=1)
    result = policygrad.train_seeds(
        Slow, range(3), out=tmp_path / "a", jobs=policygrad.remote(2), on_update=told, **SEEDS
    )
    assert told.seed is None  # so it was killed
    assert not result.failures
    for seed in range(3):
        alone = policygrad.train(Slow, seed=seed, **SEEDS)
        assert_bitwise(result.runs[seed], alone)
        assert without_clock(result.runs[seed].metrics) == without_clock(alone.metrics)
        assert told.updates[seed] == list(range(1, 21))
        assert without_clock(told.rows[seed]) == without_clock(alone.metrics)
    left = {path.name for path in (tmp_path / "a").iterdir()}
    assert left == {"seed-0", "seed-1", "seed-2"}


@pytest.mark.slow
def test_a_seed_that_fails_does_not_cost_the_others():
    kwargs = {"seconds": 0.0, "ceiling": 14.0}
    alone = {}
    for seed in range(4):
        with contextlib.suppress(EnvironmentFailure):
            alone[seed] = policygrad.train(Slow, env_kwargs=kwargs, seed=seed, **SEEDS)
    assert 0 < len(alone) < 4
    result = policygrad.train_seeds(
        Slow, range(4), env_kwargs=kwargs, jobs=policygrad.remote(2), **SEEDS
    )
    assert result.runs.keys() == alone.keys()
    for seed, run in alone.items():
        assert_bitwise(result.runs[seed], run)
        assert result.runs[seed].path is None
        assert without_clock(result.runs[seed].metrics) == without_clock(run.metrics)
    for error in result.failures.values():
        assert "ZeroDivisionError" in str(error)
        assert "too high" in str(error)


@pytest.mark.slow
def test_a_callback_of_seeds_that_raises_ends_all(tmp_path):
    def fail(seed, metrics):
        if metrics["update"] >= 3:
            raise RuntimeError("mine")

    settings = SEEDS | {"total_steps": 10**7}
    with pytest.raises(RuntimeError, match="mine"):
        policygrad.train_seeds(
            Slow, range(3), out=tmp_path / "a", jobs=policygrad.remote(2), on_update=fail,
            **settings,
        )  # fmt: skip
    for seed in (0, 1):
        assert RunDirectory(tmp_path / "a" / f"seed-{seed}").read_summary()["interrupted"]
    assert not (tmp_path / "a" / "seed-2").exists()


@pytest.mark.slow
def test_compiled_seeds_on_workers_equal_those_alone():
    result = policygrad.train_seeds(
        "gymnax/CartPole-v1", [0, 3], jobs=policygrad.remote(2), **SEEDS
    )
    for seed, run in result.runs.items():
        assert_bitwise(run, policygrad.train("gymnax/CartPole-v1", seed=seed, **SEEDS))
    assert np.isfinite(result.runs[3].summary["return_mean"])

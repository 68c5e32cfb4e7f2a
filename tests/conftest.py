"""What every test shares: one compilation cache a session, so that equal graphs compile once."""

import gc
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything loads XLA
# most of a session's time is compiling, and what is compiled runs for milliseconds
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import pytest

import policygrad
from policygrad.devices.compiled_code import memory_maps_are_scarce
from tests.worlds import TINY

IN_FULL = (  # tests whose cases take next to no time
    "tests/core/", "tests/diagnostics/test_logged_rules.py", "tests/diagnostics/test_rules.py",
    "tests/environments/test_reading.py", "tests/gradients/groups/test_weights.py", "tests/logs/",
    "tests/maths/", "tests/report/", "tests/runs/test_rows.py", "tests/spaces/",
    "tests/test_documented_code.py", "tests/test_equations.py", "tests/test_floors.py",
)  # fmt: skip
ON_DEMAND = (  # the longest: processes that start, die and start again, full disks, pictures
    "tests/cli/test_watch.py", "tests/environments/test_atari.py", "tests/machines/",
    "tests/processes/", "tests/rollout/test_blocks.py", "tests/rollout/test_infos_of_programs.py",
    "tests/runs/test_full_disk.py", "tests/test_broken_environments.py",
    "tests/training/test_pictures.py", "tests/training/test_videos.py",
    "tests/training/test_workers.py", "tests/training/test_x64.py", "tests/watching/",
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Of a test with many cases the first and the last run by default; the others, and what is
    ON_DEMAND, with `-m slow`."""
    cases = {}
    for item in items:
        if item.nodeid.startswith(ON_DEMAND):
            item.add_marker(pytest.mark.slow)
        many = hasattr(item, "callspec") and not item.nodeid.startswith(IN_FULL)
        if many and item.get_closest_marker("slow") is None:
            cases.setdefault(item.nodeid.split("[")[0], []).append(item)
    for of_test in cases.values():
        for item in of_test[1:-1]:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory, worker_id):
    """Workers share it, and the tests' subprocesses inherit it through the environment."""
    session = tmp_path_factory.getbasetemp()
    folder = str((session if worker_id == "master" else session.parent) / "jax-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.0")
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        yield folder


@pytest.fixture(scope="session")
def seconds_since_maps_were_counted():
    return [0.0]


@pytest.fixture(autouse=True)
def few_memory_maps(seconds_since_maps_were_counted):
    """A session compiles more than a process may hold, in the tests' own functions too.

    To count the maps takes some 10 ms, and a second of compiling adds a few hundred of 65,530.
    """
    (seconds,), began = seconds_since_maps_were_counted, time.perf_counter()
    yield
    seconds += time.perf_counter() - began
    if seconds > 1:
        seconds = 0.0
        if memory_maps_are_scarce(0.4):
            jax.clear_caches()
            gc.collect()
    seconds_since_maps_were_counted[:] = [seconds]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A tiny run of CartPole on disk. Tests that change it copy it first."""
    path = tmp_path_factory.mktemp("runs") / "cartpole"
    return policygrad.train("CartPole-v1", out=path, **TINY)


@pytest.fixture(scope="session")
def trained_compiled(tmp_path_factory):
    """A tiny run of gymnax's CartPole on disk."""
    path = tmp_path_factory.mktemp("runs") / "gymnax"
    return policygrad.train("gymnax/CartPole-v1", out=path, **TINY)

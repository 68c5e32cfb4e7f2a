"""What every test shares: one compilation cache a session, so that equal graphs compile once."""

import gc
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything loads XLA

import jax
import pytest

import policygrad
from policygrad.devices.compiled_code import memory_maps_are_scarce
from tests.worlds import TINY


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Subprocesses of the tests inherit it through the environment."""
    folder = str(tmp_path_factory.mktemp("jax-cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
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

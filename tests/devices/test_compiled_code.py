"""A process does not run out of memory maps by compiling, and other code keeps its programs."""

import gc
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad
from policygrad.devices import compiled_code
from policygrad.devices.compiled_code import compiled, compiled_for_modules, free_compiled_code
from tests.worlds import TINY, GymnaxChain


@pytest.fixture
def full(tmp_path, monkeypatch):
    """A process that holds 60 of 100 memory maps."""
    maps, limit = tmp_path / "maps", tmp_path / "limit"
    maps.write_text("one\n" * 60)
    limit.write_text("100\n")
    monkeypatch.setattr(compiled_code, "MAPS", maps)
    monkeypatch.setattr(compiled_code, "LIMIT", limit)


class Counted:
    """A function that counts how often it is traced."""

    def __init__(self):
        self.traced = 0

    def __call__(self, x):
        self.traced += 1
        return 2 * x


def test_our_programs_are_freed_where_maps_are_scarce_and_those_of_others_are_kept(full):
    ours, theirs = Counted(), Counted()
    double, users = compiled(ours), jax.jit(theirs)
    for function in (double, users, double, users):
        function(jnp.ones(3))
    free_compiled_code(0.9)  # 60 of 100 are not scarce
    double(jnp.ones(3))
    assert (ours.traced, theirs.traced) == (1, 1)
    free_compiled_code()
    for function in (double, users):
        assert function(jnp.ones(3)).tolist() == [2, 2, 2]
    assert (ours.traced, theirs.traced) == (2, 1)


@pytest.mark.slow
def test_other_code_keeps_its_programs_while_the_library_trains(full):
    theirs = Counted()
    users = jax.jit(theirs)
    users(jnp.ones(3))
    policygrad.train(GymnaxChain(), **TINY)
    users(jnp.ones(3))
    assert theirs.traced == 1


def test_freeing_gives_the_memory_maps_back(monkeypatch, tmp_path):
    """Of a real process, counted by the system."""

    def held():
        gc.collect()
        return compiled_code.MAPS.read_bytes().count(b"\n")

    @compiled
    def work(x):
        return jax.lax.scan(lambda carry, row: (jnp.sin(carry + row), carry), x[0], jnp.sort(x @ x))

    limit = tmp_path / "limit"
    monkeypatch.setattr(compiled_code, "LIMIT", limit)
    if not compiled_code.MAPS.exists():
        pytest.skip("the system does not say")
    before = held()
    for size in range(2, 14):
        work(np.ones((size, size), np.float32))
    full = held()
    limit.write_text(str(full))
    free_compiled_code()
    assert full - before > 60
    assert held() - before < (full - before) / 4


def test_a_system_that_does_not_say_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled_code, "MAPS", tmp_path / "none")
    ours = Counted()
    double = compiled(ours)
    double(jnp.ones(3))
    free_compiled_code(0.0)
    double(jnp.ones(3))
    assert ours.traced == 1


def test_every_function_that_the_library_compiles_can_be_freed_and_no_other_is():
    source = compiled_code.Path(policygrad.__file__).parent
    for path in source.rglob("*.py"):
        if path.name != "compiled_code.py":
            found = re.search(r"@jax\.jit|jax\.jit[(,]|filter_jit|clear_caches", path.read_text())
            assert not found, f"{path}: {found}"


def test_modules_cross_with_what_they_hold_besides_arrays():
    traced = []

    @compiled_for_modules
    def apply(module, x, *, times):
        traced.append(times)
        return {"module": module, "y": module["activation"](module["weight"] * x) * times}

    module = {"activation": jnp.tanh, "weight": np.float32(2)}
    for x in (1.0, 3.0):
        result = apply(module, jnp.asarray(x), times=3)
        assert result["module"]["activation"] is jnp.tanh
        assert np.isclose(result["y"], 3 * np.tanh(2 * x))
    assert traced == [3]
    apply(module | {"activation": jnp.sin}, jnp.ones(()), times=3)
    apply(module, jnp.ones(()), times=2)
    assert traced == [3, 3, 2]

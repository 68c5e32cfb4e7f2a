"""A run that goes on holds no more memory than it did."""

import gc
import tracemalloc

import jax
import pytest
from gymnasium.vector import AutoresetMode

import policygrad
from policygrad.environments import replay
from tests.worlds import TINY, Chain, DuckChain, chain_vector

ENVS = {
    "lanes seeded alone": lambda: Chain,
    "lanes seeded together": lambda: chain_vector(AutoresetMode.NEXT_STEP, TINY["num_envs"]),
    "compiled": DuckChain,
}


@pytest.mark.slow
@pytest.mark.parametrize("make", ENVS.values(), ids=ENVS)
def test_fault_02_a_run_holds_no_memory_of_the_steps_that_it_made(make, tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "MOST_BYTES", 2**12)  # of the log, soon reached
    held, buffers = [], []

    def measure(row):
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
        buffers.append(len(jax.live_arrays()))

    measure.needs_state = False
    gc.freeze()  # what earlier tests left behind is not looked through at every update
    tracemalloc.start()
    try:
        settings = TINY | {"total_steps": 120 * 32, "out": tmp_path / "a"}
        policygrad.train(make(), on_update=measure, **settings)
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    assert len(held) >= 120
    # the least of many: some are those of a refit that may or may not have ended
    assert min(buffers[90:]) <= min(buffers[30:60])
    grown = (min(held[90:]) - min(held[30:60])) / (60 * 32)
    assert grown < 40, f"{grown:.0f} bytes a step"

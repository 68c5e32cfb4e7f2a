import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.devices import chunks
from policygrad.devices.chunks import (
    chunk_rows,
    flat_rows,
    map_in_chunks,
    sum_and_map_in_chunks,
    sum_in_chunks,
)
from policygrad.devices.order import RowOrder

CHUNK = chunk_rows()
SIZES = [1, CHUNK, 2 * CHUNK - 1, 2 * CHUNK, 3 * CHUNK, 3 * CHUNK + 17]


@pytest.mark.parametrize("rows", SIZES)
def test_sum_is_that_of_all_rows(rows):
    seen = []

    def total(x):
        seen.append(len(x["a"]))
        return {"squares": jnp.sum(x["a"] ** 2), "columns": jnp.sum(x["b"], axis=0)}

    data = {"a": jnp.arange(rows), "b": jnp.ones((rows, 3), jnp.int32)}
    result = sum_in_chunks(total, data)
    assert result["squares"] == np.sum(np.arange(rows) ** 2)
    np.testing.assert_array_equal(result["columns"], [rows] * 3)
    assert max(seen) < 2 * CHUNK
    assert (CHUNK in seen) == (rows == CHUNK or rows >= 2 * CHUNK)


@pytest.mark.parametrize("rows", SIZES)
def test_map_is_that_of_every_row(rows):
    x = jnp.arange(2.0 * rows * 3).reshape(rows, 2, 3)
    result = map_in_chunks(lambda row: (jnp.sum(row), row[0]), x)
    np.testing.assert_array_equal(result[0], np.sum(x, axis=2))
    np.testing.assert_array_equal(result[1], x[:, :, 0])


def test_rows_in_an_order_are_computed_and_no_other():
    """Any number of them in one program, and in no more chunks than they fill."""
    rows = np.random.default_rng(0).permutation(1000)
    x = jnp.arange(1000.0)
    called = []

    def of_chunk(x):
        jax.debug.callback(lambda: called.append(len(x)))
        return jnp.sum(x**2), 2 * x

    @jax.jit
    def of(count):
        order = RowOrder(count, lambda positions: jnp.asarray(rows)[positions])
        return sum_and_map_in_chunks(of_chunk, x, 64, order)

    for count in (0, 1, 64, 65, 600, 1000):
        called.clear()
        summed, mapped = of(jnp.int32(count))
        jax.effects_barrier()
        taken = rows[:count]
        np.testing.assert_allclose(summed, np.sum(taken.astype(float) ** 2), rtol=1e-6)
        np.testing.assert_array_equal(mapped, np.where(np.isin(x, taken), 2 * x, 0))
        assert called == [64] * -(-count // 64)


def test_a_gpu_takes_at_once_what_a_cpu_takes_in_chunks(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    seen = []
    sum_in_chunks(lambda x: seen.append(len(x)) or jnp.sum(x), jnp.ones(3 * CHUNK))
    assert seen == [3 * CHUNK]


def test_gradients_flow_through_chunks():
    rows = jnp.linspace(0, 1, 4 * CHUNK)
    slope = jax.grad(lambda w: sum_in_chunks(lambda x: jnp.sum(jnp.sin(w * x)), rows))(2.0)
    assert np.isclose(slope, np.sum(rows * np.cos(2 * rows)), rtol=1e-5)


def test_flat_rows_go_time_first():
    np.testing.assert_array_equal(flat_rows(np.arange(6).reshape(2, 3)), np.arange(6))


@pytest.mark.parametrize("rows", SIZES)
def test_arrays_of_no_numbers_keep_their_rows(rows):
    """What an environment of actions alone has for observations: Box(shape=(0,))."""
    nothing = flat_rows(np.zeros((rows, 1, 0), np.float32))
    assert nothing.shape == (rows, 0)
    count, mapped = sum_and_map_in_chunks(lambda x: (jnp.float32(len(x)), x), nothing)
    assert count == rows
    assert mapped.shape == (rows, 0)
    of_each = map_in_chunks(lambda x: (jnp.sum(x), x), nothing[:, None])
    assert (of_each[0].shape, of_each[1].shape) == ((rows, 1), (rows, 1, 0))


def test_rows_that_are_too_many_for_a_chunk_are_mapped_in_bounded_memory(monkeypatch):
    rows = jnp.arange(40.0).reshape(10, 4)

    def total(scale, rows):
        return jnp.sum(chunks.map_rows(lambda x: jnp.sin(scale * x), rows) ** 2)

    plain = jax.value_and_grad(total)(0.7, rows)
    monkeypatch.setattr(chunks, "NUMBERS", {"cpu": 8, "gpu": 8})
    assert chunks.chunk_rows(4) == 2
    in_chunks = jax.value_and_grad(total)(0.7, rows)
    np.testing.assert_allclose(in_chunks, plain, rtol=1e-6)
    text = str(jax.make_jaxpr(jax.grad(total))(0.7, rows))
    assert "scan" in text
    assert "remat" in text or "checkpoint" in text

"""What several CPU devices compute equals what one computes, bit for bit.

In processes of their own, since JAX counts its devices once.
"""

import json
import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.core.errors import UserError
from policygrad.core.trajectories import Trajectories
from policygrad.devices import chunks, sharing, starting
from policygrad.devices.chunks import map_in_chunks, sum_and_map_in_chunks
from policygrad.devices.sharing import UNSHARED, Sharing, parts_for, sharing_is, sharing_of
from policygrad.gradients.scores import column_moments
from policygrad.runs.policy_files import load
from tests.toy import Softmax
from tests.worlds import ROOT, environment_variables

SETTINGS = {"num_envs": 12, "batch_steps": 6144, "total_steps": 2 * 6144, "critic_epochs": 1}
VANILLA = {"entropy_coefficient": 0.01}
NATURAL = {"algorithm": "natural", "fisher_share": 1.0, "processors": 3}
PPO = {"algorithm": "ppo", "ppo_epochs": 1, "ppo_minibatches": 4, "processors": 2}
IN_PYTHON = """
import json, sys
import jax
import policygrad
from policygrad.devices import sharing
from tests.devices.test_sharing import weights
jax.devices()  # JAX has begun
sharing.processors_allowed = lambda: 2
for settings in json.loads(sys.argv[1]):
    run = policygrad.train("gymnax/CartPole-v1", **settings)
    metrics = [{k: v for k, v in m.items() if "second" not in k} for m in run.metrics]
    print(json.dumps([weights(run.policy), metrics]))
"""
COMMAND = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
from policygrad.cli import main
main(["train", "gymnax/CartPole-v1", *sys.argv[1:], "--out", "run"])
"""


def weights(policy):
    """The bits of all arrays."""
    return "".join(np.asarray(x).tobytes().hex() for x in jax.tree.leaves(policy))


def trained(devices, *cases):
    """Final policies and metrics of runs with such settings, where JAX shows so many devices."""
    done = subprocess.run(
        [sys.executable, "-c", IN_PYTHON, json.dumps([SETTINGS | case for case in cases])],
        env=environment_variables() | {"JAX_NUM_CPU_DEVICES": str(devices)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def on_one_device():
    """Policy and metrics of the run with `VANILLA`, computed on one device."""
    return trained(1, VANILLA)


@pytest.mark.slow
def test_two_devices_compute_the_bits_that_one_does(on_one_device):
    assert trained(2, VANILLA) == on_one_device


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "settings"), [(2, PPO), (3, NATURAL)], ids=["ppo", "natural"])
def test_several_devices_compute_the_bits_that_one_does(devices, settings):
    assert trained(devices, settings) == trained(1, settings)


@pytest.mark.slow
def test_same_seed_gives_the_same_policy_by_command_and_in_python(on_one_device, tmp_path):
    if not hasattr(os, "sched_setaffinity") or starting.processors_allowed() < 2:
        pytest.skip("needs Linux and two processors, which the command shows to JAX")
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in (SETTINGS | VANILLA).items()]
    env = environment_variables()
    env.pop("JAX_NUM_CPU_DEVICES", None)
    told = env.get("XLA_FLAGS", "").split()  # the others decide the bits
    env["XLA_FLAGS"] = " ".join(flag for flag in told if "device_count" not in flag)
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *flags],
        cwd=tmp_path, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert weights(load(tmp_path / "run").policy) == on_one_device[0][0]


@pytest.mark.parametrize(
    ("processors", "lanes", "rows", "parts"),
    [
        (1, 16, 2**20, 1),
        (2, 16, 8192, 2),
        (2, 16, 4095, 1),  # too few rows for two
        (4, 16, 8192, 4),
        (4, 16, 6144, 2),  # 16 lanes are not 3 times as many
        (4, 15, 8192, 3),
        (64, 7, 2**20, 7),
    ],
)
def test_parts_follow_from_processors_lanes_and_rows(monkeypatch, processors, lanes, rows, parts):
    monkeypatch.setattr(sharing, "processors_allowed", lambda: processors)
    assert parts_for(lanes, rows) == parts


def test_a_gpu_takes_a_batch_as_one_part(monkeypatch):
    monkeypatch.setattr(sharing, "processors_allowed", lambda: 8)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert parts_for(64, 2**20) == 1


@pytest.mark.parametrize(
    ("shown", "parts", "devices"), [(1, 4, 1), (2, 4, 2), (3, 4, 2), (8, 4, 4), (2, 3, 1)]
)
def test_devices_get_equally_many_parts(monkeypatch, shown, parts, devices):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1] * shown)
    assert sharing_of(parts, 12) == Sharing(parts, devices)


@pytest.mark.parametrize("parts", [5, 0, -1])
def test_parts_of_unequal_size_are_refused(parts):
    with pytest.raises(UserError, match=f"12 environments cannot be cut into {parts} parts"):
        sharing_of(parts, 12)


@pytest.fixture
def two_parts(monkeypatch):
    """Small chunks, and what is computed within is computed in two parts."""
    monkeypatch.setattr(chunks, "chunk_rows", lambda *_: 4)
    with sharing_is(Sharing(2)):
        yield


def test_parts_are_summed_and_mapped_as_the_whole_is(two_parts):
    seen = []

    def f(rows):
        seen.append(rows["a"].shape)
        return {"total": jnp.sum(rows["a"]), "n": len(rows["a"])}, (rows["a"] + 1, rows["b"] > 2)

    rows = {"a": jnp.arange(22, dtype=jnp.float32), "b": jnp.arange(44).reshape(22, 2)}
    sums, (a, b) = sum_and_map_in_chunks(f, rows)
    assert float(sums["total"]) == 231
    assert int(sums["n"]) == 22
    np.testing.assert_array_equal(a, np.arange(1, 23))
    np.testing.assert_array_equal(b, np.arange(44).reshape(22, 2) > 2)
    assert set(seen) == {(4,), (3,)}  # a part has 11 rows: two chunks and three rows
    doubled = map_in_chunks(lambda row: 2 * row, rows["b"][:, :, None].astype(jnp.float32))
    np.testing.assert_array_equal(doubled[:, :, 0], 2 * np.arange(44).reshape(22, 2))


def test_inside_a_part_nothing_is_cut_again(two_parts):
    """A sum over rows within a sum over columns, as the monitor of noise takes it."""
    shape = 8, 8
    key = jax.random.key(0)
    record = Trajectories(
        observations=jax.random.randint(key, shape, 0, 3),
        actions=jax.random.randint(jax.random.fold_in(key, 2), shape, 0, 2),
        rewards=jnp.zeros(shape),
        terminated=jnp.zeros(shape, bool),
        truncated=jnp.zeros(shape, bool),
        valid=jnp.ones(shape, bool),
        times=jnp.zeros(shape, jnp.int32),
        log_probs=jnp.zeros(shape),
        cut_observations=jnp.zeros((1, 8), jnp.int32),
        cut_times=jnp.zeros((1, 8), jnp.int32),
    )
    policy, psi = Softmax(jnp.eye(3, 2)), jax.random.normal(jax.random.fold_in(key, 1), shape)
    gradient, square = jax.jit(partial(column_moments))(policy, record, psi)
    with sharing_is(UNSHARED):
        expected, whole = jax.jit(partial(column_moments))(policy, record, psi)
    np.testing.assert_allclose(gradient.logits, expected.logits, rtol=1e-5)
    np.testing.assert_allclose(square, whole, rtol=1e-5)

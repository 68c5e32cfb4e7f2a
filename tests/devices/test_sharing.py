"""What several CPU devices share equals what one computes, but for rounding.

In processes of their own, since JAX counts its devices once.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

SETTINGS = {"num_envs": 16, "batch_steps": 4096, "total_steps": 3 * 4096, "critic_epochs": 1}
CODE = """
import json, sys
import jax, numpy as np
import policygrad
from policygrad.processors import processors
settings = json.loads(sys.argv[1])
run = policygrad.train("gymnax/CartPole-v1", **settings)
leaves = [np.asarray(x).ravel().tolist() for x in jax.tree.leaves(run.policy)]
mesh = processors(settings["num_envs"], settings["batch_steps"])
where = {len(x.sharding.device_set) for x in jax.tree.leaves(run.policy)}
metrics = [{k: v for k, v in m.items() if "second" not in k} for m in run.metrics]
print(json.dumps([1 if mesh is None else mesh.size, sorted(where), leaves, metrics]))
"""


def trained(devices, **settings):
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(SETTINGS | settings)],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "settings",
    [{"entropy_coefficient": 0.01}, {"algorithm": "natural", "fisher_share": 1.0}],
    ids=["vanilla", "natural"],
)
def test_two_processors_compute_what_one_does(settings):
    (one, _, weights, metrics), (two, where, shared_weights, shared_metrics) = (
        trained(devices, **settings) for devices in (1, 2)
    )
    assert (one, two, where) == (1, 2, [1])
    # the first update sees the same batch; later ones may differ by what rounding makes of it
    for name, value in metrics[0].items():
        assert shared_metrics[0][name] == pytest.approx(value, rel=2e-4, abs=1e-6), name
    assert [m["env_steps"] for m in metrics] == [m["env_steps"] for m in shared_metrics]
    for a, b in zip(weights, shared_weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.1, atol=0.02)
    assert trained(2, **settings)[2] == shared_weights


def test_small_batches_are_not_shared():
    assert trained(2, batch_steps=2048, total_steps=2048)[0] == 1

"""A cluster of three nodes on this machine, one of which goes while another one comes."""

import threading
import time

import jax
import numpy as np
import pytest

import policygrad

cluster_utils = pytest.importorskip("ray.cluster_utils")

RUN = {"total_steps": 20 * 480, "batch_steps": 480, "lanes_per_block": 2, "num_envs": 12}


def weights(run):
    return [np.asarray(x) for x in jax.tree.leaves(run.policy) if hasattr(x, "dtype")]


@pytest.fixture
def cluster():
    nodes = cluster_utils.Cluster()
    for _ in range(3):
        nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    nodes.wait_for_nodes()
    yield nodes
    nodes.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_node_that_goes_and_another_that_comes_change_nothing(cluster):
    seen = []

    def told(metrics):
        seen.append(metrics["update"])
        if metrics["update"] == 8:
            threading.Thread(target=change).start()
        time.sleep(0.3)

    def change():
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)

    told.needs_state = False
    remote = policygrad.remote(workers=3, address=cluster.address)
    run = policygrad.train("CartPole-v1", collector=remote, on_update=told, **RUN)
    alone = policygrad.train("CartPole-v1", **RUN)
    assert seen == list(range(1, 21))
    assert run.summary["worker_restarts"] >= 1
    assert run.summary["exact"]
    for a, b in zip(weights(run), weights(alone), strict=True):
        np.testing.assert_array_equal(a, b)

"""The shapes of a batch, told before it is collected."""

import jax
import pytest

from policygrad.policies import network_policy
from policygrad.policies.memory import Memory
from policygrad.rollout.engines import open_source

KEY = jax.random.key(0)
PLACES = ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "envpool/CartPole-v1"]


@pytest.mark.parametrize("env", PLACES)
@pytest.mark.parametrize("memory", [None, Memory()], ids=["no memory", "memory"])
def test_shapes_are_those_of_the_batch(env, memory):
    if env.startswith("envpool/"):
        pytest.importorskip("envpool")
    source = open_source(env, 3)
    policy = network_policy(
        KEY, source.observation_space, source.action_space, hidden=(4,), memory=memory
    )
    collector = source.segments(policy, KEY, 5)
    told = collector.shapes(policy)
    record = collector.collect(policy, KEY)
    collector.close()
    assert jax.tree.structure(told) == jax.tree.structure(record)
    for shape, array in zip(jax.tree.leaves(told), jax.tree.leaves(record), strict=True):
        assert (shape.shape, shape.dtype) == (array.shape, array.dtype)

"""The lane is the unit of work and of randomness: who steps it never shows in a record."""

from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.core.trajectories import join_lanes
from policygrad.maths.distributions import Categorical
from policygrad.rollout import open_source
from tests.worlds import Drift, DuckLottery

KEY = jax.random.key(5)
LANES = 8


def policy(observation):
    """Without a matrix product, which rounds by how many rows it has."""
    x = jnp.sum(observation)
    return Categorical(jnp.stack([x, -x]))


def collectors_of(env, kind, parts):
    """One collector for each part of the lanes, and how many of a batch's episodes are its."""
    share = LANES // parts
    for part in range(parts):
        source = open_source(env, share, first_lane=part * share)
        if "steps" in kind:
            yield source.segments(policy, KEY, kind["steps"])
        else:
            yield source.episodes(policy, KEY, share, 200)


@pytest.mark.parametrize("kind", [{"steps": 12}, {"episodes": LANES}], ids=["segments", "episodes"])
@pytest.mark.parametrize(
    ("env", "features"),
    [(Drift, 1), ("CartPole-v1", 4), (DuckLottery(), 1)],
    ids=["host", "CartPole", "compiled"],
)
def test_lanes_collected_apart_are_those_collected_together(env, features, kind):
    (together,) = collectors_of(env, kind, 1)
    apart = list(collectors_of(env, kind, 4))
    for i in range(2):
        key = jax.random.key(i)
        whole = together.collect(policy, key)
        records = [collector.collect(policy, key) for collector in apart]
        same(join_lanes(records), whole)
        assert len(np.unique(np.asarray(whole.observations).reshape(-1, features)[:, 0])) > 4


def same(ours, theirs):
    """Bitwise; behind an episode's end there is nothing to compare."""
    ours, theirs = (jax.tree.map(np.asarray, record) for record in (ours, theirs))
    np.testing.assert_array_equal(ours.valid, theirs.valid)
    for field in fields(ours):
        a, b = (getattr(record, field.name) for record in (ours, theirs))
        if (
            ours.whole_episodes
            and a is not None
            and not field.name.startswith(("cut", "whole", "group", "carry", "mostly"))
        ):
            a, b = a[ours.valid], b[ours.valid]
        np.testing.assert_array_equal(a, b, err_msg=field.name)

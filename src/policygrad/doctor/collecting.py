"""Fresh episodes with a run's policy, for the doctor to examine."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from policygrad.core.trajectories import Trajectories
from policygrad.rollout.collectors import unfinished_episodes
from policygrad.rollout.source import Source


def collect(
    source: Source, policy: Any, key: PRNGKeyArray, episodes: int, limit: int
) -> tuple[Trajectories, Bool[np.ndarray, " N"]]:
    """N whole episodes, as NumPy arrays; the source is closed.

    Args:
        source: of the environment.
        policy: the policy that acts; actions are sampled.
        key: consumed.
        episodes: N.
        limit: steps after which an episode is stopped. Its last step is marked as truncated.

    Returns:
        The record, and which episodes were stopped.
    """
    open_key, collect_key = jax.random.split(key)
    collector = source.episodes(policy, open_key, episodes, limit, keep_unfinished=True)
    record = jax.device_get(collector.collect(policy, collect_key))
    collector.close()
    unfinished = unfinished_episodes(record)
    valid = np.asarray(record.valid)
    last = valid & ~np.concatenate([valid[1:], np.zeros_like(valid[:1])])
    return replace(record, truncated=record.truncated | (last & unfinished)), unfinished

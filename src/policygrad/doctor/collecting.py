"""Fresh episodes with a run's policy, for the doctor to examine."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from policygrad.core.trajectories import Trajectories
from policygrad.rollout.collectors import unfinished_episodes
from policygrad.rollout.source import Source, episodes_of

Collected = tuple[Trajectories, Bool[np.ndarray, " N"]]


class FreshEpisodes:
    """Batches of whole episodes; each begins afresh, and depends on its own key alone.

    Args:
        source: of the environment.
        policy: the policy that acts; actions are sampled.
        key: of the environments; consumed.
        episodes: of the largest batch.
        limit: steps after which an episode is stopped. Its last step is marked as truncated.
        group_size: how many episodes in a row start from the same reset.
        with_greedy: whether a greedy episode is played from each start too.
    """

    def __init__(
        self,
        source: Source,
        policy: Any,
        key: PRNGKeyArray,
        episodes: int,
        limit: int,
        group_size: int = 1,
        with_greedy: bool = False,
    ) -> None:
        self._policy = policy
        self._collector = episodes_of(
            source, policy, key, episodes, limit, keep_unfinished=True, group_size=group_size,
            with_greedy=with_greedy,
        )  # fmt: skip

    def collect(self, key: PRNGKeyArray, episodes: int) -> Collected:
        """N episodes as NumPy arrays, and which of them were stopped. The key is consumed."""
        record = jax.device_get(self._collector.collect(self._policy, key, episodes))
        unfinished = unfinished_episodes(record)
        valid = np.asarray(record.valid)
        last = valid & ~np.concatenate([valid[1:], np.zeros_like(valid[:1])])
        return replace(record, truncated=record.truncated | (last & unfinished)), unfinished

    def close(self) -> None:
        """Release the environments."""
        self._collector.close()


def collect(source: Source, policy: Any, key: PRNGKeyArray, episodes: int, limit: int) -> Collected:
    """N whole episodes; the source is closed. Arguments and result as of `FreshEpisodes`."""
    open_key, collect_key = jax.random.split(key)
    fresh = FreshEpisodes(source, policy, open_key, episodes, limit)
    found = fresh.collect(collect_key, episodes)
    fresh.close()
    return found

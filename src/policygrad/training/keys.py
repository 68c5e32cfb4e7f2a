"""The parts of a run's randomness: one key each, split from the seed once."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Int, PRNGKeyArray


class RunKeys(NamedTuple):
    """The parts of a run's randomness; nothing else is drawn from its seed.

    Attributes:
        policy: the policy's first parameters.
        environments: the environments' first episodes.
        learner: the critic's first parameters.
        updates: from which the keys of every update follow.
    """

    policy: PRNGKeyArray
    environments: PRNGKeyArray
    learner: PRNGKeyArray
    updates: PRNGKeyArray

    @classmethod
    def of(cls, seed: int) -> "RunKeys":
        """The keys of a seed."""
        return cls(*jax.random.split(jax.random.key(seed), 4))


def keys_of_update(
    updates_key: PRNGKeyArray, update: Int[Array, ""] | int
) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """The keys of an update's collection, and of the update itself."""
    collect_key, update_key = jax.random.split(jax.random.fold_in(updates_key, update))
    return collect_key, update_key

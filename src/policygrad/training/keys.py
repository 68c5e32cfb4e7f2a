"""The random keys of a run, split from its seed once."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Int, PRNGKeyArray

from policygrad.devices.compiled_code import compiled


class RunKeys(NamedTuple):
    """The random keys of a run; nothing else is drawn from its seed.

    Attributes:
        policy: for the policy's initial parameters.
        environments: for the environments' first episodes.
        learner: for the critic's initial parameters.
        updates: the key from which the keys of every update follow.
    """

    policy: PRNGKeyArray
    environments: PRNGKeyArray
    learner: PRNGKeyArray
    updates: PRNGKeyArray

    @classmethod
    def of(cls, seed: int) -> "RunKeys":
        """The keys of a seed."""
        return cls(*_first_keys(seed))


@compiled  # one program in place of one for each operation
def _first_keys(seed: Int[Array, ""] | int) -> tuple[PRNGKeyArray, ...]:
    return tuple(jax.random.split(jax.random.key(seed), 4))


@compiled
def keys_of_update(
    updates_key: PRNGKeyArray, update: Int[Array, ""] | int
) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """The keys of an update's collection, and of the update itself."""
    collect_key, update_key = jax.random.split(jax.random.fold_in(updates_key, update))
    return collect_key, update_key

"""The table: known values of a finite task's states."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policygrad.core.trajectories import Trajectories
from policygrad.gradients.baselines.base import Pointwise, State


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Table(Pointwise):
    """b(s, t) = an entry of a table `[S]` or `[T, S]`; observations are state indices."""

    given: Any

    may_bootstrap = True

    def init(self, key: PRNGKeyArray, observation: PyTree) -> State:
        return jnp.asarray(self.given, float)

    def value(self, state: State, observation: PyTree, time: Int[Array, ""]) -> Float[Array, ""]:
        if state.ndim == 1:
            return state[observation]
        return state[jnp.minimum(time, len(state) - 1), observation]

    def fit(
        self,
        state: State,
        key: PRNGKeyArray,
        trajectories: Trajectories,
        targets: Float[Array, "T B"],
        weights: Float[Array, "T B"],
    ) -> State:
        return state

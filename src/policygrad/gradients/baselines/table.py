"""The table: known values of a finite task's states."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policygrad.gradients.baselines.base import State, StateBaseline


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Table(StateBaseline):
    """b(s, t) = an entry of a table `[S]` or `[T, S]`; observations are state indices."""

    given: Any

    may_bootstrap = True

    def init(self, key: PRNGKeyArray, observation: PyTree) -> State:
        return jnp.asarray(self.given, float)

    def value(self, state: State, observation: PyTree, time: Int[Array, ""]) -> Float[Array, ""]:
        if state.ndim == 1:
            return state[observation]
        return state[jnp.minimum(time, len(state) - 1), observation]

    def given_state(self) -> State | None:
        return jnp.asarray(self.given, float)

    def tabulate(self, state: State, states: int, horizon: int | None) -> Float[np.ndarray, "*T S"]:
        shape = np.shape(state)
        wanted = (states,) if len(shape) == 1 else (horizon, states)
        if shape != wanted:
            raise ValueError(f"has shape {shape}, the MDP needs {wanted}")
        return super().tabulate(state, states, horizon)

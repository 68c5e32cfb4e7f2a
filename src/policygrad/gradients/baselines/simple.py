"""Baselines without regression: none, constant, per time step, leave-one-out."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policygrad.core.trajectories import Trajectories, episodes_in
from policygrad.gradients.baselines.base import (
    Baseline,
    FitBatch,
    State,
    StateBaseline,
    weighted_mean,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Zero(StateBaseline):
    """b = 0: no baseline."""

    subtracts: ClassVar[bool] = False

    def init(self, key: PRNGKeyArray, observation: PyTree) -> State:
        return ()

    def value(self, state: State, observation: PyTree, time: Int[Array, ""]) -> Float[Array, ""]:
        return jnp.zeros(())

    def given_state(self) -> State | None:
        return ()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Constant(StateBaseline):
    """b = a number: given, or the mean target of the batches before."""

    given: float | Float[Array, ""] | None = None

    def init(self, key: PRNGKeyArray, observation: PyTree) -> State:
        return jnp.zeros(()) if self.given is None else jnp.asarray(self.given, float)

    def value(self, state: State, observation: PyTree, time: Int[Array, ""]) -> Float[Array, ""]:
        return state

    def fit(self, state: State, key: PRNGKeyArray, batch: FitBatch) -> State:
        del key
        return state if self.given is not None else weighted_mean(batch.returns, batch.steps)

    def given_state(self) -> State | None:
        return None if self.given is None else jnp.asarray(self.given, float)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TimeDependent(StateBaseline):
    """b(t) = mean target at each time step; times beyond the horizon share its last entry."""

    horizon: int = field(default=1000, metadata={"static": True})

    def init(self, key: PRNGKeyArray, observation: PyTree) -> State:
        return jnp.zeros(self.horizon)

    def value(self, state: State, observation: PyTree, time: Int[Array, ""]) -> Float[Array, ""]:
        return state[jnp.minimum(time, self.horizon - 1)]

    def fit(self, state: State, key: PRNGKeyArray, batch: FitBatch) -> State:
        del key
        times = jnp.minimum(batch.trajectories.times, self.horizon - 1).reshape(-1)
        counted = jnp.where(batch.steps > 0, batch.steps * batch.returns, 0.0)
        total = jnp.zeros_like(state).at[times].add(counted.reshape(-1))
        seen = jnp.zeros_like(state).at[times].add(batch.steps.reshape(-1))
        # a time that this batch never reached keeps its number
        return jnp.where(seen > 0, total / jnp.maximum(seen, 1e-12), state)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LeaveOneOut(Baseline):
    """b of one episode at step t = mean, over the OTHER episodes of its batch, of their return."""

    couples_episodes = True

    def init(self, key: PRNGKeyArray, observation: PyTree) -> State:
        return ()

    def predict(
        self, state: State, trajectories: Trajectories, returns: Float[Array, "T B"]
    ) -> Float[Array, "T B"]:
        if returns.shape[1] < 2:
            raise ValueError(
                f"leave_one_out needs at least 2 episodes a batch, got {returns.shape[1]}; "
                "raise batch_episodes or choose another baseline"
            )
        others = episodes_in(trajectories) - 1
        return (jnp.sum(returns, axis=1, keepdims=True) - returns) / others

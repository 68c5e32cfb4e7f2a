"""What a baseline is: a value with pure functions, and a fitted state passed beside it."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policygrad.core.trajectories import Trajectories
from policygrad.devices.chunks import map_in_chunks

State = Any


class Baseline(ABC):
    """Something to subtract from the return of a step that does not depend on the step's action.

    Attributes:
        uses_own_batch: it is computed from the batch that it is applied to, so that its value for
            one episode must leave that episode out. Such a baseline needs whole episodes.
    """

    uses_own_batch: ClassVar[bool] = False

    @property
    def needs_whole_episodes(self) -> bool:
        """Whether segments, whose columns are no episodes, cannot be used."""
        return self.uses_own_batch

    @abstractmethod
    def init(self, key: PRNGKeyArray, observation: PyTree) -> State:
        """The state before any fit, for observations like this one. Consumes the key."""

    @abstractmethod
    def predict(
        self, state: State, trajectories: Trajectories, returns: Float[Array, "T B"]
    ) -> Float[Array, "T B"]:
        """`[T, B]`, b for every step. Only a baseline that uses its own batch reads `returns`."""

    @abstractmethod
    def fit(
        self,
        state: State,
        key: PRNGKeyArray,
        trajectories: Trajectories,
        targets: Float[Array, "T B"],
        weights: Float[Array, "T B"],
    ) -> State:
        """The state refitted to `targets`, AFTER it was used for the batch's weights (E9).

        Least squares with `weights` on the steps, which are zero where a step is not valid.
        Consumes the key.
        """


class Pointwise(Baseline):
    """A baseline that is a function of observation and time: the kind that can be tabulated.

    Attributes:
        may_bootstrap: it estimates the value of a state, so that it may stand in for the rewards
            behind a cut. A constant may not.
    """

    may_bootstrap: ClassVar[bool] = False

    @abstractmethod
    def value(self, state: State, observation: PyTree, time: Int[Array, ""]) -> Float[Array, ""]:
        """`[]`, b(s, t) of one observation (unbatched)."""

    def values(self, state: State, observations: PyTree, times: Int[Array, "T B"]) -> Array:
        """`[T, B]`, `value` of every row."""
        return map_in_chunks(lambda row: self.value(state, *row), (observations, times))

    def predict(
        self, state: State, trajectories: Trajectories, returns: Float[Array, "T B"]
    ) -> Float[Array, "T B"]:
        return self.values(state, trajectories.observations, trajectories.times)


def weighted_mean(values: Array, weights: Array) -> Float[Array, ""]:
    """Σ w x / Σ w, and 0 where all weights are."""
    return jnp.sum(weights * values) / jnp.maximum(jnp.sum(weights), 1e-12)

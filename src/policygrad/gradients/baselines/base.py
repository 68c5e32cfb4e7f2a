"""The interface of a baseline: a value with pure functions, and a fitted state passed beside it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policygrad.core.trajectories import Trajectories, successor_values
from policygrad.devices.chunks import map_in_chunks
from policygrad.devices.order import RowOrder, step_order

State = Any
Encode = Callable[[PyTree], Any]
# without a horizon, a baseline is compared at these times: it must not depend on the time
PROBED_TIMES = np.array([0, 1, 2, 3, 7, 50, 1000])


class FitBatch(NamedTuple):
    """All that a fit may read.

    Attributes:
        policy: the policy that acted.
        trajectories: the batch.
        returns: `[T, B]`, what the baseline was subtracted from.
        steps: `[T, B]`, the weight of each step; zero if it is not a transition.
        discounts: `[T, B]`, w: γ^t if it multiplies every score, else 1.
    """

    policy: Any
    trajectories: Trajectories
    returns: Float[Array, "T B"]
    steps: Float[Array, "T B"]
    discounts: Float[Array, "T B"]


class Baseline(ABC):
    """A number to subtract from the return of each step, which does not depend on its action.

    Attributes:
        couples_episodes: whether it is computed from the batch that it is applied to. Its value for
            one episode must then leave that episode out, and it needs whole episodes.
        may_bootstrap: whether it estimates the value of a state, and so may replace the rewards
            after a cut. A constant does not.
        subtracts: False if it stands for no baseline. Normalised advantages are then scaled but not
            centred, because the mean of a batch is a baseline too.
        takes_columns: whether it computes networks on whole columns of a record, their padding
            included, in place of steps.
    """

    couples_episodes: ClassVar[bool] = False
    may_bootstrap: ClassVar[bool] = False
    subtracts: ClassVar[bool] = True
    takes_columns: ClassVar[bool] = False

    @property
    def whole_episodes(self) -> bool:
        """Whether it needs whole episodes, and so cannot be used with segments."""
        return self.couples_episodes

    @abstractmethod
    def init(self, key: PRNGKeyArray, observation: PyTree) -> State:
        """The state before any fit, for observations like this one. Consumes the key."""

    @abstractmethod
    def predict(
        self, state: State, trajectories: Trajectories, returns: Float[Array, "T B"]
    ) -> Float[Array, "T B"]:
        """`[T, B]`, b for every step. Only a baseline that couples episodes reads `returns`."""

    def fit(self, state: State, key: PRNGKeyArray, batch: FitBatch) -> State:
        """The state refitted, AFTER it was used for the batch's weights (E9). Consumes the key.

        A baseline without anything to fit keeps its state.
        """
        del key, batch
        return state

    def reading(self, policy: Any) -> Self:
        """The same, for a policy whose values it reads, if it reads any."""
        del policy
        return self

    def for_lanes(self, state: State, lanes: int) -> State:
        """The state for records of so many lanes; it differs where something is carried in each."""
        del lanes
        return state

    def advance(self, state: State, trajectories: Trajectories) -> State:
        """The state for the record that follows this one, which it was fitted to."""
        del trajectories
        return state

    def bind(self, encode: Encode) -> Self:
        """The same, reading observations through `encode` if it has no encoder of its own."""
        del encode
        return self


class Critic(Baseline):
    """A baseline that has a value for what follows a step, too."""

    @abstractmethod
    def values_and_successors(
        self, state: State, trajectories: Trajectories
    ) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
        """`[T, B]` each: the values before every step, and those of its true successors.

        The successor is what a step bootstraps from where the record or a time limit cuts its
        episode.
        """


class StateBaseline(Critic):
    """A baseline that is a function of observation and time: the kind that can be tabulated."""

    @abstractmethod
    def value(self, state: State, observation: PyTree, time: Int[Array, ""]) -> Float[Array, ""]:
        """`[]`, b(s, t) of one observation (unbatched)."""

    def values(
        self,
        state: State,
        observations: PyTree,
        times: Int[Array, "T B"],
        order: RowOrder | None = None,
    ) -> Array:
        """`[T, B]`, `value` of every row, or of those in the order; zero elsewhere."""
        return map_in_chunks(lambda row: self.value(state, *row), (observations, times), order)

    def values_and_successors(
        self, state: State, trajectories: Trajectories
    ) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
        values = self._of_record(state, trajectories)
        cut_values = self.values(state, trajectories.cut_observations, trajectories.cut_times)
        check_shape(values, trajectories.rewards.shape, self, "values")
        check_shape(cut_values, trajectories.cut_times.shape, self, "values")
        return values, successor_values(values, cut_values, trajectories)

    def predict(
        self, state: State, trajectories: Trajectories, returns: Float[Array, "T B"]
    ) -> Float[Array, "T B"]:
        return self._of_record(state, trajectories)

    def _of_record(self, state: State, trajectories: Trajectories) -> Array:
        seen = trajectories.observations, trajectories.times
        return self.values(state, *seen, step_order(trajectories))

    def given_state(self) -> State | None:
        """The state of a baseline whose numbers were given; None if it has to be fitted."""
        return None

    def tabulate(self, state: State, states: int, horizon: int | None) -> Float[np.ndarray, "*T S"]:
        """b on every state of a finite task: `[T, S]`, or `[S]` without a horizon.

        Args:
            state: what was fitted, or `given_state()`.
            states: S; an observation is the index of its state.
            horizon: T; None for a task without one. b must then not depend on the time.

        Raises:
            ValueError: the numbers are of another task, not finite, or depend on the time without a
                horizon.
        """
        times = PROBED_TIMES if horizon is None else np.arange(horizon)
        over_states = jax.vmap(self.value, (None, 0, None))
        over_both = jax.vmap(over_states, (None, None, 0))
        state = jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, state)
        table = np.asarray(over_both(state, jnp.arange(states), jnp.asarray(times)), np.float64)
        if not np.all(np.isfinite(table)):
            raise ValueError(f"must be finite, got {table[~np.isfinite(table)][0]}")
        if horizon is not None:
            return table
        moved = np.abs(table - table[:1]).max()
        if moved > 0:
            raise ValueError(
                f"must not depend on the time without a horizon, but this one moves by {moved:g}; "
                "give the MDP a horizon"
            )
        return table[0]


class Regression(StateBaseline):
    """A class of functions of observation and time that is fitted by weighted least squares."""

    @abstractmethod
    def regress(
        self,
        state: State,
        key: PRNGKeyArray,
        trajectories: Trajectories,
        targets: Float[Array, "T B"],
        weights: Float[Array, "T B"],
    ) -> State:
        """The state whose values fit `targets` best, by weighted least squares.

        Args:
            state: the state that the fit starts from.
            key: consumed.
            trajectories: the batch.
            targets: `[T, B]`.
            weights: `[T, B]`; zero if a step does not count.
        """

    def fit(self, state: State, key: PRNGKeyArray, batch: FitBatch) -> State:
        """Regress the returns."""
        return self.regress(state, key, batch.trajectories, batch.returns, batch.steps)


def check_shape(found: Any, shape: tuple[int, ...], owner: Any, method: str) -> None:
    """Raise ValueError unless `[T, B]` came out: another shape would be broadcast."""
    if jnp.shape(found) != shape:
        raise ValueError(
            f"{type(owner).__name__}.{method} must give one number a step, {list(shape)} in all, "
            f"got the shape {list(jnp.shape(found))}"
        )


def weighted_mean(values: Array, weights: Array) -> Float[Array, ""]:
    """Σ w x / Σ w; 0 if all weights are 0. What has no weight may be NaN."""
    return jnp.sum(jnp.where(weights > 0, weights * values, 0.0)) / jnp.maximum(
        jnp.sum(weights), 1e-12
    )

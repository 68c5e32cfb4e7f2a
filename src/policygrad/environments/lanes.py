"""Lanes: B copies of an environment that are stepped together, whatever steps them.

To train in a simulator of your own, without Gymnasium, pass a class with the members of `Lanes` to
`policygrad.rollout.HostSource`.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces
from jaxtyping import PyTree

from policygrad.core.errors import EnvironmentFailure
from policygrad.environments.infos import Infos
from policygrad.environments.reading import reader
from policygrad.spaces.reading import Leaf, NotOfSpace

NONE: Infos = {}


class LaneStep(NamedTuple):
    """The result of one step of B lanes.

    Attributes:
        successors: pytree of `[B, ...]`, the true successors, taken before any reset.
        rewards: `[B]`.
        terminated: `[B]`, the task ended with this step.
        truncated: `[B]`, the episode was cut off although the task goes on.
        valid: `[B]`, False if a lane used the step to reset itself, which is not a transition; True
            if no lane ever does.
        infos: name -> (values `[B]`, flags `[B]` of the lanes that have it): numbers beside the
            reward, such as a success or a part of the reward.
    """

    successors: Any
    rewards: Any
    terminated: Any
    truncated: Any
    valid: Any = True
    infos: Infos = NONE


@runtime_checkable
class LaneMethods(Protocol):
    """The methods that step lanes; an object that has them is taken for lanes."""

    def start(self, seed: int) -> None:
        """Begin a fresh episode in every lane; all randomness after it follows from the seed."""
        ...

    def step(self, actions: Any) -> LaneStep:
        """One step of every lane, with actions `[B, ...]` of the action space."""
        ...

    def close(self) -> None:
        """Release the environments."""
        ...


class Lanes(LaneMethods, Protocol):
    """B copies of one environment in NumPy.

    A lane whose episode has ended begins the next one by itself, before its next observation is
    read. The next step may overwrite the arrays that were returned.

    Attributes:
        num_envs: B.
        observation_space, action_space: of one copy.
        time_limit: steps after which an episode is truncated at the latest; None if it may be at
            any step, or never.
        observations: pytree of `[B, ...]`, what the policy sees next; available after `start`.
        times: `[B]`, the steps that the running episodes already had; available after `start`.
    """

    num_envs: int
    observation_space: spaces.Space
    action_space: spaces.Space
    time_limit: int | None
    observations: Any
    times: Any


@runtime_checkable
class Restorable(Protocol):
    """Lanes that can be brought back to where they were, so that a run can be resumed exactly."""

    def snapshot(self) -> PyTree:
        """A pytree of arrays from which `restore` brings the lanes back."""
        ...

    def restore(self, snapshot: PyTree) -> bool:
        """Bring the lanes back; False if they did not come back exactly."""
        ...


@runtime_checkable
class Seeded(Protocol):
    """Lanes whose episodes can begin with seeds that are given, so that several start alike."""

    def start_with(self, seeds: Callable[[Iterable[int]], list[int]]) -> None:
        """Begin a fresh episode in every lane, each with a seed that is given.

        Args:
            seeds: lanes -> the seeds of the episodes that they begin. It is called here for all
                lanes, and in a step for those whose episode it ends, in ascending order.
        """
        ...


def copied(observations: Any, space: spaces.Space, num_envs: int) -> Any:
    """A checked copy of the observations of B lanes, which the lanes can go on with.

    The copy is needed because an environment may overwrite its arrays in the next step.

    Raises:
        EnvironmentFailure: another structure or shape than the space has, or values that do not fit
            in the types of a record.
    """
    try:
        return reader(space).map(
            lambda leaf, value: np.array(leaf.read(value, (num_envs,))), observations
        )
    except NotOfSpace as error:
        raise EnvironmentFailure(f"the environments returned {error}") from None


def owned(observations: Any, space: spaces.Space, num_envs: int) -> Any:
    """As `copied`, in the types and from the starts of a record."""
    return reader(space).map(Leaf.record, copied(observations, space, num_envs))


def owned_step(step: LaneStep, space: spaces.Space, num_envs: int) -> LaneStep:
    """A checked copy of the result of one step of B lanes.

    Raises:
        EnvironmentFailure: observations that are not of the space; rewards that are not numbers,
            flags that are not truth values, or either in another shape than `[B]`.
    """
    return LaneStep(
        owned(step.successors, space, num_envs),
        per_lane("rewards", step.rewards, num_envs, np.float32),
        per_lane("terminated", step.terminated, num_envs, bool),
        per_lane("truncated", step.truncated, num_envs, bool),
        np.ones(num_envs, bool)
        if step.valid is True
        else per_lane("valid", step.valid, num_envs, bool),
        step.infos,
    )


def per_lane(name: str, values: Any, num_envs: int, dtype: type) -> np.ndarray:
    """One number, or one truth value, of each of B lanes: `[B]`, checked and copied."""
    array = np.asarray(values)
    if dtype is bool and array.dtype.kind in "iuf" and np.isin(array, (0, 1)).all():
        array = array != 0
    if array.shape != (num_envs,) or array.dtype.kind not in ("b" if dtype is bool else "fiub"):
        expected = "True or False" if dtype is bool else "a real number"
        raise EnvironmentFailure(
            f"the environments gave {name} of shape {array.shape} and type {array.dtype}; "
            f"expected {expected} of each of {num_envs} environments: {array}"
        )
    if dtype is bool or array.dtype.kind != "f":
        return np.array(array, dtype)
    with np.errstate(over="ignore"):  # training refuses infinite rewards, by lane and step
        return np.array(array, dtype)

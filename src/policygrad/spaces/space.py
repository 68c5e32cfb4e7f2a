"""What every space is: a frozen, hashable record, made once from a Gymnasium space.

Compiled functions hold these records as static values. Policies are saved with their JSON. The
public interface takes and returns Gymnasium's spaces.
"""

import json
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Array, Bool, PyTree


class Space(ABC):
    """A space whose values a policy can read, or that an environment acts in."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Plain data, from which `space_from_json` makes the record again."""

    def to_json(self) -> str:
        """The description as JSON text: what is saved with a policy."""
        return json.dumps(self.description(), sort_keys=True)

    @abstractmethod
    def to_gymnasium(self) -> gymnasium.Space:
        """The same space as Gymnasium's own."""

    @abstractmethod
    def example(self) -> PyTree:
        """Zeros (or the lowest values), in the types that a record of a rollout holds."""

    @abstractmethod
    def features(self, observation: PyTree) -> PyTree:
        """One recorded observation as the floating-point arrays that a network reads.

        Every array keeps the shape of its part: a Box gives an array of its own shape, a Discrete
        its one-hot vector, a Dict a dict. Unbatched: callers `vmap`.
        """

    @property
    @abstractmethod
    def measured(self) -> tuple[bool, ...]:
        """For each array of `features`, in the order of its leaves: whether it holds measurements.

        Measurements are to be normalised; one-hot vectors and flags are not.
        """

    @property
    def pictures(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the pictures among the arrays of `features`."""
        return ()

    @abstractmethod
    def parts(self, values: PyTree) -> list[Array]:
        """The arrays of observations `[..., *shape]` that describe the state.

        They are what stands in the leaves, unchanged; a mask of actions is left out.
        """

    @property
    @abstractmethod
    def greatest_entropy(self) -> float:
        """The entropy of the uniform distribution, nats; NaN where there is none."""

    @abstractmethod
    def fits(self, other: "Space") -> bool:
        """Whether a policy for this space fits the other: equal but for the bounds of a Box, which
        count where they decide in which scale a picture is read."""


class ActionSpace(Space):
    """A space that a policy of this library can act in."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """How many network outputs a distribution over this space takes."""

    @property
    def deviations(self) -> int:
        """How many standard deviations it takes: one for each number in a Box."""
        return 0

    def permits_nothing(self, mask: Any) -> Bool[Array, "..."]:
        """`[...]`: whether masks `[..., n]` permit no action of this space."""
        return ~(mask > 0).any(axis=-1)

    def example_action(self) -> PyTree:
        """An action in the form in which `Distribution.sample` gives it, `[k]`."""
        return self.example()

    @abstractmethod
    def to_environment(self, actions: Any, xp: Any = np) -> Any:
        """Sampled actions `[..., k]` -> what the environment's `step` takes, `[..., *shape]`.

        Args:
            actions: as `Distribution.sample` gave them.
            xp: `numpy`, or `jax.numpy` inside compiled code.

        Raises:
            UnsupportedSpaceError: in compiled code, a space of numbers that do not fit in 32 bits.
        """


@lru_cache(maxsize=64)
def record_dtype(dtype: Any) -> np.dtype:
    """The type in which a record keeps numbers of this type: at most 32 bits, as on the device."""
    narrow = {"float64": np.float32, "int64": np.int32, "uint64": np.uint32}
    return np.dtype(narrow.get(str(np.dtype(dtype)), dtype))


def fits_32_bits(low: Any, high: Any) -> bool:
    """Whether all whole numbers between the bounds, inclusive, fit in a signed 32-bit integer."""
    return bool(np.min(low, initial=0) >= -(2**31) and np.max(high, initial=0) < 2**31)


def path_of(keys: tuple[Any, ...]) -> str:
    """Where a part of an observation stands: `observation['camera'][1]`."""
    return "observation" + "".join(f"[{key!r}]" for key in keys)

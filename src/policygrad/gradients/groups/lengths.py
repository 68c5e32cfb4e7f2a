"""What the sum of an episode's scores is divided by: nothing, its length, or one number for all."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import jax

from policygrad.gradients.groups.record import Groups, namespace


class LengthNormalisation(ABC):
    """The divisor ℓ_i of an episode's summed scores.

    Attributes:
        batch_wide, reads: as those of `GroupBaseline`.
    """

    @property
    def batch_wide(self) -> bool:
        """Whether it reads the other groups of the batch."""
        return False

    @property
    def reads(self) -> tuple[str, ...]:
        """The fields of `Groups` that it needs."""
        return ()

    @abstractmethod
    def of(self, groups: Groups) -> Any:
        """ℓ, `[..., G, k]` or of a shape that broadcasts to it; positive."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sum(LengthNormalisation):
    """ℓ = 1: scores are summed over the steps, as in the gradient."""

    def of(self, groups: Groups) -> Any:
        return 1.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Constant(LengthNormalisation):
    """ℓ = c, one number for all: the direction stays.

    Attributes:
        divisor: c.
    """

    divisor: float = 1.0

    def of(self, groups: Groups) -> Any:
        return self.divisor


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OwnLength(LengthNormalisation):
    """ℓ_i = L_i: a step counts less the longer its episode is. This changes the direction."""

    @property
    def reads(self) -> tuple[str, ...]:
        return ("lengths",)

    def of(self, groups: Groups) -> Any:
        return groups.lengths


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MeanLength(LengthNormalisation):
    """ℓ = the mean length, so that the sum over all is divided by the number of all steps.

    It contains the episode's own length. Over a batch that is one number for all, which changes
    the direction of the mean a little; over a group it also weighs the groups.

    Attributes:
        within_group: the mean length of the group, instead of that of the batch.
    """

    within_group: bool = field(default=False, metadata={"static": True})

    @property
    def batch_wide(self) -> bool:
        return not self.within_group

    @property
    def reads(self) -> tuple[str, ...]:
        return ("lengths",)

    def of(self, groups: Groups) -> Any:
        axes = (-1,) if self.within_group else (-2, -1)
        return namespace(groups.lengths).mean(groups.lengths, axis=axes, keepdims=True)

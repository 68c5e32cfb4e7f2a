"""What a group estimator divides the advantages of a group by: a spread, or nothing."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax

from policygrad.gradients.groups.record import (
    Groups,
    namespace,
    standard_deviation,
    standard_deviation_of_others,
)

STATIC: dict[str, Any] = {"static": True}


class Normalisation(ABC):
    """From the advantages R − b of a batch to those that multiply the scores.

    Attributes:
        batch_wide, reads, fewest_episodes, fewest_groups: as those of `GroupBaseline`.
    """

    batch_wide: ClassVar[bool] = False
    fewest_episodes: ClassVar[int] = 1
    fewest_groups: ClassVar[int] = 1

    @property
    def reads(self) -> tuple[str, ...]:
        """The fields of `Groups` that it needs, beside the returns."""
        return ()

    @abstractmethod
    def of(self, advantages: Any, groups: Groups) -> Any:
        """`[..., G, k]`, from advantages `[..., G, k]`."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Unchanged(Normalisation):
    """A."""

    def of(self, advantages: Any, groups: Groups) -> Any:
        del groups
        return advantages


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OverGroupDeviation(Normalisation):
    """A / (std(R_1 … R_k) + ε).

    With the group mean as baseline, |A| / std is at most (k−1)/√k with ddof = 1, and √(k−1) with
    ddof = 0: it cannot blow up.

    Attributes:
        epsilon: ε.
        ddof: 1 divides the squares by k − 1, as `torch.std` does; 0 by k.
    """

    epsilon: float = 1e-4
    ddof: int = field(default=1, metadata=STATIC)

    fewest_episodes = 2

    def of(self, advantages: Any, groups: Groups) -> Any:
        return over(advantages, standard_deviation(groups.returns, self.ddof) + self.epsilon)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OverDeviationOfOthers(Normalisation):
    """A_i / (std(R_j, j ≠ i) + ε).

    It blows up to A_i/ε where the others are equal: with one success among k answers it is 10⁶.
    Divide by the deviation of the whole group, or by none.

    Attributes:
        epsilon: ε.
        ddof: as `OverGroupDeviation`; the squares are divided by k − 1 − ddof.
        skip_equal: leave A_i undivided where the others are equal.
    """

    epsilon: float = 1e-6
    ddof: int = field(default=1, metadata=STATIC)
    skip_equal: bool = field(default=False, metadata=STATIC)

    fewest_episodes = 2

    def of(self, advantages: Any, groups: Groups) -> Any:
        spread = standard_deviation_of_others(groups.returns, self.ddof)
        divisor = spread + self.epsilon
        if self.skip_equal:
            divisor = namespace(spread).where(spread > 0, divisor, 1.0)
        return advantages / divisor


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OverBatch(Normalisation):
    """(A − mean(A)) / √(var(A) + ε), mean and variance over all episodes of the batch.

    Attributes:
        epsilon: ε.
        by_step: count each episode as often as it has steps, as code does that normalises tokens.
    """

    epsilon: float = 1e-8
    by_step: bool = field(default=False, metadata=STATIC)

    batch_wide = True

    @property
    def reads(self) -> tuple[str, ...]:
        return ("lengths",) if self.by_step else ()

    def of(self, advantages: Any, groups: Groups) -> Any:
        xp, axes = namespace(advantages), (-2, -1)
        counts: Any = groups.lengths if self.by_step else xp.ones_like(advantages)
        share = counts / xp.sum(counts, axis=axes, keepdims=True)
        # from one of them: the rounded mean of equal numbers may differ from the number
        shifted = advantages - advantages[..., :1, :1]
        centred = shifted - xp.sum(share * shifted, axis=axes, keepdims=True)
        variance = xp.sum(share * centred**2, axis=axes, keepdims=True)
        return over(centred, xp.sqrt(variance + self.epsilon))


def over(advantages: Any, divisor: Any) -> Any:
    """A / divisor; A where that is 0, as without ε it is where all are equal, and A is then 0."""
    return advantages / namespace(divisor).where(divisor > 0, divisor, 1.0)

"""What a group estimator subtracts from the return of each episode."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from policygrad.gradients.groups.record import (
    Groups,
    mean,
    mean_of_others,
    standard_deviation,
)


class GroupBaseline(ABC):
    """b_i, a number for each episode of a group.

    Attributes:
        batch_wide: whether it reads the other groups of the batch.
        reads: the fields of `Groups` that it needs, beside the returns.
        fewest_episodes: the smallest k.
        fewest_groups: the smallest G.
    """

    batch_wide: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()
    fewest_episodes: ClassVar[int] = 1
    fewest_groups: ClassVar[int] = 1

    @abstractmethod
    def of(self, groups: Groups) -> Any:
        """b, `[..., G, k]` or of a shape that broadcasts to it."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Zero(GroupBaseline):
    """b = 0."""

    def of(self, groups: Groups) -> Any:
        return 0.0 * groups.returns


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GroupMean(GroupBaseline):
    """b = Σ_j R_j / k. It contains the episode itself, which shortens the mean by 1 − 1/k."""

    fewest_episodes = 2

    def of(self, groups: Groups) -> Any:
        return mean(groups.returns)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LeaveOneOut(GroupBaseline):
    """b_i = Σ_{j≠i} R_j / (k − 1)."""

    fewest_episodes = 2

    def of(self, groups: Groups) -> Any:
        return mean_of_others(groups.returns)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LengthWeightedMean(GroupBaseline):
    """b = Σ_j L_j R_j / Σ_j L_j. It contains the episode itself."""

    reads = ("lengths",)
    fewest_episodes = 2

    def of(self, groups: Groups) -> Any:
        lengths: Any = groups.lengths
        return (lengths * groups.returns).sum(-1, keepdims=True) / lengths.sum(-1, keepdims=True)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Greedy(GroupBaseline):
    """b = the return of the greedy episode."""

    reads = ("greedy",)

    def of(self, groups: Groups) -> Any:
        greedy: Any = groups.greedy
        return greedy[..., None]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Value(GroupBaseline):
    """b = the value given for the state of the group."""

    reads = ("values",)

    def of(self, groups: Groups) -> Any:
        values: Any = groups.values
        return values[..., None]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Shrinkage(GroupBaseline):
    """b_i = (1 − λ) Σ_{j≠i} R_j / (k − 1) + λ m, with λ and m from the other groups alone.

        m = mean of the other groups' means,
        λ = v² / (v² + s² + ε),
        v² = mean of the other groups' variances (divided by k − 1), over k,
        s² = mean squared distance of the other groups' means from m.

    Attributes:
        epsilon: ε.
    """

    epsilon: float = 1e-6

    batch_wide = True
    fewest_episodes = 2
    fewest_groups = 2

    def of(self, groups: Groups) -> Any:
        returns = groups.returns
        episodes, count = returns.shape[-1], returns.shape[-2]
        means = returns.mean(-1)
        variances = standard_deviation(returns, ddof=1)[..., 0] ** 2 / episodes
        centre, v2 = mean_of_others(means), mean_of_others(variances)
        other = 1.0 - np.eye(count)
        s2 = (other * (means[..., None, :] - centre[..., :, None]) ** 2).sum(-1) / (count - 1)
        share = (v2 / (v2 + s2 + self.epsilon))[..., None]
        return (1 - share) * mean_of_others(returns) + share * centre[..., None]

"""A group estimator: a baseline, a normalisation and a divisor for the length.

k episodes are started from the same state: k answers to one prompt. With s_i = Σ_t z_it, the sum of
an episode's scores, and with R_1 … R_k and L_1 … L_k, the returns and lengths of the group,

    ĝ = (1/k) Σ_i w_i s_i,   w_i = N(R − b)_i / ℓ_i,

and the gradient of a batch is the mean of ĝ over its groups. b, N and ℓ are the three parts; each
estimator of the literature is a choice of them. KL penalties, clipping and importance ratios are
not part of it.
"""

from dataclasses import dataclass
from typing import Any

import jax

from policygrad.gradients.groups.baselines import GroupBaseline
from policygrad.gradients.groups.lengths import LengthNormalisation
from policygrad.gradients.groups.normalisation import Normalisation
from policygrad.gradients.groups.record import Groups


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GroupEstimator:
    """What multiplies the summed scores of each episode of a group.

    Attributes:
        baseline: b.
        normalisation: N.
        length: ℓ.
    """

    baseline: GroupBaseline
    normalisation: Normalisation
    length: LengthNormalisation

    @property
    def batch_wide(self) -> bool:
        """Whether the weights of a group depend on the other groups of the batch."""
        return any(x.batch_wide for x in (self.baseline, self.normalisation, self.length))

    @property
    def reads(self) -> tuple[str, ...]:
        """The fields of `Groups` that it needs, beside the returns."""
        parts = self.baseline, self.normalisation, self.length
        return tuple(dict.fromkeys(name for part in parts for name in part.reads))

    @property
    def fewest_episodes(self) -> int:
        """The smallest group."""
        return max(self.baseline.fewest_episodes, self.normalisation.fewest_episodes)

    @property
    def fewest_groups(self) -> int:
        """The smallest batch."""
        return max(self.baseline.fewest_groups, self.normalisation.fewest_groups)

    def check_size(self, groups: int, episodes: int) -> None:
        """Raise ValueError if a batch has too few groups, or a group too few episodes."""
        if episodes < self.fewest_episodes:
            raise ValueError(
                f"this estimator needs at least {self.fewest_episodes} episodes a group, "
                f"got {episodes}; raise the group size"
            )
        if groups < self.fewest_groups:
            raise ValueError(
                f"this estimator needs at least {self.fewest_groups} groups a batch, got {groups}"
            )

    def advantages(self, groups: Groups) -> Any:
        """N(R − b), `[..., G, k]`: what multiplies each score before the length divides it."""
        _check(self, groups)
        returns = groups.returns
        return self.normalisation.of(returns - self.baseline.of(groups), groups)

    def weights(self, groups: Groups) -> Any:
        """w = N(R − b) / ℓ, the weight of each episode's summed scores.

        Args:
            groups: a batch of groups, in NumPy or JAX arrays of floating-point numbers.

        Returns:
            `[..., G, k]`, of the same kind. They are constants: whoever differentiates stops here.

        Raises:
            ValueError: too few episodes or groups, arrays of other shapes, or a field that this
                estimator reads and that is None.
        """
        return self.advantages(groups) / self.length.of(groups)


def _check(estimator: GroupEstimator, groups: Groups) -> None:
    shape = groups.returns.shape
    if len(shape) < 2:
        raise ValueError(f"returns must have shape [..., G, k], got {shape}")
    estimator.check_size(*shape[-2:])
    for name in estimator.reads:
        given = getattr(groups, name)
        if given is None:
            raise ValueError(f"this estimator reads {name}, and the groups have none")
        wanted = shape if name == "lengths" else shape[:-1]
        if given.shape != wanted:
            raise ValueError(f"{name} must have shape {wanted}, got {given.shape}")

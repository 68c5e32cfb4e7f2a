"""A batch of whole episodes that is about as large as the noise scale of its gradient.

A batch of B = trΣ/‖G‖² episodes holds as much signal as noise. With far fewer episodes a step is
mostly noise; with far more, the additional episodes add little. ‖G‖² and trΣ are averaged over
updates separately, since the average of a ratio is not the ratio of averages:

    x ← 0.9 x + 0.1 measured,   x = ‖G‖², trΣ

The next batch is trΣ/‖G‖² rounded up to a power of two from 8 to 512. It at most doubles and at
most halves. It doubles if ‖G‖² is not positive. The size follows from earlier batches alone, so it
does not bias the gradient of a batch.

An update is compiled for every number of columns. So a batch of at most 64 episodes has 64 columns,
and a larger one 512; those without an episode are empty.

Source: McCandlish et al. 2018, appendix A.
"""

import math
from typing import NamedTuple

import numpy as np

from policygrad.diagnostics.monitor import GradientMoments
from policygrad.rollout.heights import power_of_two
from policygrad.training.config import FIRST_EPISODES

LEAST, FEW, MOST = 8, 64, 512
KEPT = 0.9


class AdaptiveBatch(NamedTuple):
    """The state of the adaptation, kept from update to update.

    Attributes:
        episodes: `[]`, number of episodes of the next batch.
        squared_norm, variance: `[]` each, averages of ‖G‖² and of trΣ of one episode. Both begin at
            zero, which scales both by the same factor and leaves their ratio unchanged.
    """

    episodes: np.int64
    squared_norm: np.float64
    variance: np.float64

    @classmethod
    def init(cls) -> "AdaptiveBatch":
        """The state before the first batch."""
        return cls(np.int64(FIRST_EPISODES), np.float64(0.0), np.float64(0.0))

    @property
    def noise_scale(self) -> float:
        """The noise scale of the averages, in episodes; infinite if ‖G‖² is not positive."""
        norm2 = float(self.squared_norm)
        return float(self.variance) / norm2 if norm2 > 0 else math.inf

    def after(self, moments: GradientMoments) -> "AdaptiveBatch":
        """The state after a batch with these moments, with the next size."""
        variance, norm2 = moments.variance_and_norm()
        known = self._replace(
            squared_norm=np.float64(KEPT * self.squared_norm + (1 - KEPT) * norm2),
            variance=np.float64(KEPT * self.variance + (1 - KEPT) * variance),
        )
        now = int(self.episodes)
        wanted = power_of_two(math.ceil(min(known.noise_scale, MOST)), LEAST)
        within = min(max(wanted, now // 2, LEAST), 2 * now, MOST)
        return known._replace(episodes=np.int64(within))


def columns_of(episodes: int) -> int:
    """The columns of a record of so many episodes: 64, or 512 if these do not suffice."""
    return FEW if episodes <= FEW else MOST

"""A batch of whole episodes that is about as large as the noise scale of its gradient.

A batch of B = trΣ/‖G‖² episodes holds as much signal as noise. With far fewer episodes a step is
mostly noise; with far more, the additional episodes add little. ‖G‖² and trΣ are averaged over
updates separately, since the average of a ratio is not the ratio of averages:

    x ← 0.9 x + 0.1 measured,   x = ‖G‖², trΣ

The next batch is trΣ/‖G‖² rounded up to a power of two from 8 to 512. It at most doubles and at
most halves. It doubles if ‖G‖² is not positive. The size follows from earlier batches alone, so it
does not bias the gradient of a batch.

An update is compiled for every pair of a size and a height (the rows that the longest episode of a
record is padded to). So heights are powers of two as well: 7 sizes and 7 heights up to 1,024 steps.

Source: McCandlish et al. 2018, appendix A.
"""

import math
from typing import NamedTuple

import numpy as np

from policygrad.core.trajectories import Trajectories
from policygrad.diagnostics.monitor import GradientMoments
from policygrad.rollout.heights import padded
from policygrad.training.config import FIRST_EPISODES

LEAST, MOST = 8, 512
LEAST_ROWS = 16
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


def of_few_heights(trajectories: Trajectories) -> Trajectories:
    """A record of whole episodes, padded to a height that is a power of two."""
    return padded(trajectories, power_of_two(trajectories.valid.shape[0], LEAST_ROWS))


def power_of_two(number: int, least: int) -> int:
    """The smallest power of two that is at least `number` and `least`, itself a power of two."""
    return max(least, 1 << max(number - 1, 0).bit_length())

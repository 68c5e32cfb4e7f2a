"""What an update tells the host."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int

from policygrad.algorithms.learner import Refitted, UpdateInfo
from policygrad.core.counting import LongCount
from policygrad.diagnostics.monitor import GradientMoments


class Refit(NamedTuple):
    """What the host is told of a refit.

    Attributes:
        explained_variance: `[]`, of the batch's returns, by what was fitted to them.
        sound: `[]`, nothing that was fitted is NaN or infinite.
    """

    explained_variance: Float[Array, ""]
    sound: Bool[Array, ""]


class UpdateReport(NamedTuple):
    """What an update tells the host.

    Attributes:
        info: of the learner.
        clipped_fraction: `[]`, of action components that the environment's bounds cut off.
        sound: `[]`, the batch held no NaN, no infinity, and no mask without a permitted action.
        steps: `[]`, transitions in the batch.
        episodes, recent_returns, recent_lengths: of the tally after the batch.
        refit: None until the refit has ended.
        moments: of the batch's gradient; without a meaning where the update is not monitored, None
            where none is.
    """

    info: UpdateInfo
    clipped_fraction: Float[Array, ""]
    sound: Bool[Array, ""]
    steps: Int[Array, ""]
    episodes: LongCount
    recent_returns: Float[Array, " 100"]
    recent_lengths: Int[Array, " 100"]
    refit: Refit | None = None
    moments: GradientMoments | None = None

    def completed(self, refitted: Refitted) -> "UpdateReport":
        """With what its refit told."""
        return self._replace(refit=Refit(refitted.explained_variance, refitted.sound))

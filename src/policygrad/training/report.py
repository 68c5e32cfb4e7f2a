"""What an update reports to the host."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int

from policygrad.algorithms.learner import Refitted, UpdateInfo
from policygrad.core.counting import LongCount
from policygrad.diagnostics.monitor import GradientMoments


class Refit(NamedTuple):
    """What a refit reports to the host.

    Attributes:
        explained_variance: `[]`, of the batch's returns, by the refitted baseline.
        sound: `[]`, whether everything that was fitted is finite.
    """

    explained_variance: Float[Array, ""]
    sound: Bool[Array, ""]


class GreedyReport(NamedTuple):
    """What the greedy episodes of a batch were.

    Attributes:
        return_mean: `[]`, undiscounted, in units of reward.
        steps: `[]`, all that were made.
    """

    return_mean: Float[Array, ""]
    steps: Int[Array, ""]


class UpdateReport(NamedTuple):
    """What an update reports to the host.

    Attributes:
        info: of the learner.
        clipped_fraction: `[]`, share of action components that the environment's bounds clip.
        sound: `[]`, whether the batch held no NaN, no number that is too large, and no mask without
            a permitted action.
        carried_sound: `[]`, whether what the policy carries, such as running statistics, is finite,
            or was not before.
        steps: `[]`, that the environments made for the batch.
        episodes, recent_returns, recent_lengths: of the tally after the batch.
        infos: `[2, N]`, of the tally: means of the last numbers of the infos and of their sums;
            None if there are none.
        refit: None until the refit has ended.
        moments: of the batch's gradient; meaningless if this update is not monitored, None if no
            update is.
        greedy: of the greedy episodes in the batch; None if there are none.
    """

    info: UpdateInfo
    clipped_fraction: Float[Array, ""]
    sound: Bool[Array, ""]
    carried_sound: Bool[Array, ""]
    steps: Int[Array, ""]
    episodes: LongCount
    recent_returns: Float[Array, " 100"]
    recent_lengths: Int[Array, " 100"]
    infos: Float[Array, "2 N"] | None = None
    refit: Refit | None = None
    moments: GradientMoments | None = None
    greedy: GreedyReport | None = None

    def completed(self, refitted: Refitted) -> "UpdateReport":
        """The report with the results of its refit."""
        return self._replace(refit=Refit(refitted.explained_variance, refitted.sound))

"""The noise of the gradient between starts and within them, of episodes that start in groups.

Let g be the gradient estimate of k episodes that start from one reset. Over resets, and over what
happens after each,

    tr Cov(g) = σ²_b + σ²_w / k,
    σ²_b = tr Cov(E[g | start]),   σ²_w = k E tr Cov(g | start).

σ²_b is the noise between groups: which starts a batch happens to hold. σ²_w is that within them, of
one episode. A batch of m groups of k has the variance (σ²_b + σ²_w / k) / m, so more episodes a
group cannot bring it below σ²_b / m.

Both are measured from starts that have r independent estimates each (random-effects analysis of
variance). With g_sj the j-th of start s, ḡ_s their mean, ḡ that of all m starts,

    W = r/(r − 1) · mean_s (mean_j ‖g_sj‖² − ‖ḡ_s‖²),             E W = σ²_w / k
    B = m/(m − 1) · (mean_s ‖ḡ_s‖² − ‖ḡ‖²) − W / r,               E B = σ²_b

Without a group estimator each episode is such an estimate, k = 1. A group estimator weighs an
episode by the others. So the group is cut into parts that are each weighed by themselves.
"""

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from policygrad.core.errors import UserError
from policygrad.core.plain import to_json
from policygrad.core.trajectories import Trajectories
from policygrad.diagnostics.batch_plan import BatchPlan, best_plan
from policygrad.diagnostics.intervals import GROUPS, GroupSums, Measured, squares_of_sums
from policygrad.diagnostics.streaming import ROWS, Episodes, Rows, flatten, stream, weights_of
from policygrad.gradients import scores
from policygrad.gradients.estimators import in_groups
from policygrad.gradients.groups.baselines import GroupBaseline
from policygrad.gradients.groups.estimator import GroupEstimator
from policygrad.gradients.groups.lengths import Sum
from policygrad.gradients.groups.normalisation import Unchanged
from policygrad.gradients.groups.record import Groups, mean_of_others
from policygrad.gradients.weights import Estimator, EstimatorState


@dataclass(frozen=True)
class NoiseInGroups:
    """The noise of a gradient estimate between and within groups of episodes of the same start.

    Attributes:
        starts: m, the number of groups.
        group_size: episodes that start together in the record.
        weighed_together: k, how many of them make one estimate of the gradient.
        squared_norm: ‖G‖², its estimate only, without an interval; it may be below zero.
        between: σ²_b. The estimate is unbiased, so it may be below zero, and then lies below its
            interval, which begins at 0.
        within: σ²_w, of one episode.
        share_between: σ²_b / (σ²_b + σ²_w), the intraclass correlation of single episodes.
        even: σ²_w / σ²_b: with so many episodes a group, half of a batch's noise is between groups.
            Infinite if σ²_b is not above zero.
        greedy: whether every start costs one more episode, a greedy one.
    """

    starts: int
    group_size: int
    weighed_together: int
    squared_norm: float
    between: Measured
    within: Measured
    share_between: Measured
    even: Measured
    greedy: bool = False

    def cost(self, groups: int, episodes_a_group: int) -> float:
        """Of a batch of m groups of k, in episodes; greedy ones count as others do."""
        return groups * (episodes_a_group + self.greedy)

    def variance(self, groups: int, episodes_a_group: int) -> float:
        """trΣ of the gradient of a batch of m groups of k: (σ²_b + σ²_w / k) / m.

        An estimate below zero counts as zero, here and in `plan`.
        """
        between, within = self._at_least_0
        return (between + within / episodes_a_group) / groups

    @property
    def _at_least_0(self) -> tuple[float, float]:
        return max(float(self.between.value), 0.0), max(float(self.within.value), 0.0)

    def plan(self, budget: float, *, start: float | None = None, episode: float = 1.0) -> BatchPlan:
        """The batch with the least noise among those of a cost.

        Args:
            budget: what a batch may cost; with the costs as they are, its number of episodes.
            start: cost of a group's start, such as reading a prompt. None is that of its greedy
                episode, if it has one.
            episode: cost of an episode, such as an answer.

        Returns:
            The plan; of equal ones that with the most groups.

        Raises:
            UserError: a cost out of range; a budget that pays no group; or a start that costs
                something, where no noise between groups was found.
        """
        start = episode * self.greedy if start is None else start
        least = self.weighed_together
        return best_plan(*self._at_least_0, budget, start=start, episode=episode, least=least)

    def to_json(self) -> dict[str, Any]:
        """Plain data; None for what is infinite or not defined."""
        return to_json(self)


def noise_in_groups(
    policy: Any,
    estimator: Estimator,
    state: EstimatorState,
    episodes: Episodes,
    *,
    weighed_together: int | None = None,
    groups: int = GROUPS,
    rows: int = ROWS,
) -> NoiseInGroups:
    """The noise of an estimator between and within groups, from episodes that start in groups.

    Args:
        policy: observation -> distribution, at the parameters that acted.
        estimator: what weighs each score.
        state: what the estimator has fitted, on other episodes than these.
        episodes: whole episodes that start in groups of at least 2, or an iterable of batches.
        weighed_together: k, for a group estimator: how many episodes of a group are weighed by each
            other. It divides the size of the groups, at least twice. None is the largest k. Within
            groups, the noise of one episode depends on it.
        groups: K of the jackknife, over starts; memory holds 2·K gradients.
        rows: as in `gradient_noise`.

    Returns:
        `NoiseInGroups`; both components with their 95 % intervals over starts.

    Raises:
        UserError: episodes without groups; an estimator that couples the episodes of a whole batch;
            groups that cannot be cut for the estimator.

    Bias: none in the components. Estimators that read the whole batch (shrinkage, REINFORCE++) are
    measured as if what they read of it were fixed.

    Source: random-effects analysis of variance, Searle, Casella & McCulloch 1992, chapter 3.
    """
    batches = iter([episodes] if isinstance(episodes, Trajectories) else episodes)
    first = next(batches, None)
    if first is None:
        raise UserError("there are no episodes; pass a record of whole episodes, or several")
    together = episodes_weighed_together(estimator, first.group_size, weighed_together)
    found = stream(
        policy, itertools.chain([first], batches), group_rows(estimator, state, together),
        groups=groups, rows=rows,
    )  # fmt: skip
    return noise_in_groups_of_sums(found, together, greedy=estimator.reads_greedy)


def episodes_weighed_together(estimator: Estimator, size: int, asked: int | None = None) -> int:
    """k, how many episodes make one estimate of the gradient; arguments as of `noise_in_groups`.

    Args:
        estimator: what weighs each score.
        size: of the groups.
        asked: k that was asked for; None for the largest that there is.

    Raises:
        UserError: there is none.
    """
    if size < 2:
        raise UserError(
            "the episodes start one by one, so that nothing is known of the noise within a group; "
            "collect them with group_size=K, at least 2"
        )
    coupled = estimator.baseline is not None and estimator.baseline.couples_episodes
    if coupled or estimator.normalise_advantages:
        raise UserError(
            f"{estimator.form} with these options couples all episodes of a batch, so that no two "
            "of a group are independent; use a group estimator, such as rloo(), or another baseline"
        )
    if estimator.group is None or isinstance(estimator.group.baseline, MeanOfOtherGroups):
        possible = [1]
    else:
        # less the group's own mean nothing is left of a single episode
        alone = 1 if estimator.reads_greedy else 2
        least = max(alone, estimator.group.fewest_episodes)
        possible = [k for k in range(least, size // 2 + 1) if size % k == 0]
    if not possible:
        raise UserError(
            f"groups of {size} cannot be cut into equal parts of 2 or more that weigh themselves; "
            "collect groups of 4 or more, or pass less_the_other_groups()"
        )
    if asked is None:
        return possible[-1]
    if asked not in possible:
        raise UserError(
            f"weighed_together={asked} cannot be measured from groups of {size}; choose one of "
            f"{', '.join(map(str, possible))}"
        )
    return asked


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MeanOfOtherGroups(GroupBaseline):
    """b = the mean return of the other groups, which no episode of this one is part of."""

    batch_wide = True
    fewest_groups = 2

    def of(self, groups: Groups) -> Any:
        """b, `[..., G, 1]`."""
        return mean_of_others(groups.returns.mean(-1))[..., None]


def less_the_other_groups(*, discount: Any = 1.0) -> Estimator:
    """Total returns less the mean of the other groups: no two episodes of a group depend on each
    other by it, so that groups of 2 or 3 can be measured too.

    Args:
        discount: γ.
    """
    return in_groups(GroupEstimator(MeanOfOtherGroups(), Unchanged(), Sum()), discount=discount)


def group_rows(estimator: Estimator, state: EstimatorState, together: int) -> Rows:
    """What `noise_in_groups_of_sums` needs to be summed; k as of `episodes_weighed_together`."""

    def weigh(batch: Trajectories) -> Any:
        if together > 1:
            batch = replace(batch, group_size=together)
        return weights_of(estimator, state, batch).psi

    return Rows(weigh, _ReduceStarts(together), by_unit=True)


@dataclass(frozen=True)
class _ReduceStarts:
    """For every start the mean ḡ_s of its estimates, ‖ḡ_s‖², and the mean of ‖g_sj‖².

    Attributes:
        together: k, episodes of one estimate.
    """

    together: int

    def __call__(self, policy: Any, episodes: Trajectories, psi: Array) -> dict[str, Array]:
        parts = episodes.group_size // self.together
        episodes = replace(episodes, group_size=self.together)
        each = flatten(scores.unit_gradients(policy, episodes, psi))
        each = each.reshape(-1, parts, each.shape[-1])
        mean = each.mean(axis=1)
        return {
            "gradient": mean,
            "square": jnp.sum(mean**2, axis=1),
            "own square": jnp.mean(jnp.sum(each**2, axis=2), axis=1),
        }


def noise_in_groups_of_sums(
    sums: GroupSums, together: int, *, greedy: bool = False
) -> NoiseInGroups:
    """The result, from group sums of the rows of `group_rows`; k as there, `greedy` as above."""
    starts, size = sums.units, sums.size
    sums = sums.folded()
    gradient = sums.sums["gradient"]
    means = replace(sums, sums={k: v for k, v in sums.sums.items() if k != "gradient"}).means()
    r, m = size // together, means.n
    mean, own = means["square"], means["own square"]
    whole = squares_of_sums(gradient @ gradient.T) / m**2
    spread = np.maximum(mean - whole, 0.0) / np.maximum(m - 1, 1)
    part = np.maximum(own - mean, 0.0) * r / (r - 1)
    between, within = spread * m - part / r, part * together
    of_between, of_within = means.interval(between, "positive"), means.interval(within, "positive")
    with np.errstate(all="ignore"):
        share = means.interval(between / (between + within))
    if share.value <= 0:  # it is then known from above alone: by the greatest that σ²_b may be
        most = of_between.high / (of_between.high + max(float(of_within.value), 1e-300))
        share = replace(share, high=max(share.high, most))
    share = share.map(lambda x: float(np.clip(x, 0.0, 1.0)))
    return NoiseInGroups(
        starts=starts,
        group_size=size,
        weighed_together=together,
        squared_norm=float((whole - spread)[0]),
        between=of_between,
        within=of_within,
        share_between=share,
        even=Measured(_odds(share.value), _odds(share.high), _odds(share.low)),
        greedy=greedy,
    )


def _odds(share: float) -> float:
    """(1 − s)/s; infinite at 0."""
    return (1 - share) / share if share > 0 else math.inf

"""Fresh episodes in units: each is collected, and reduced to sums where it was collected.

A unit has a number of episodes and a key that follow from its own number and from how many episodes
were asked for. So its sums are the same wherever it is collected. Sums are added in the order of
the units; no record is kept, and memory does not grow with the number of episodes.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np
from gymnasium import spaces
from jaxtyping import PRNGKeyArray, PyTree

from policygrad.core.errors import NonFiniteError, UserError
from policygrad.core.trajectories import Trajectories
from policygrad.diagnostics.allocating import Allocation, allocate_episodes
from policygrad.diagnostics.comparison import comparison_rows
from policygrad.diagnostics.decomposition import decomposition_rows
from policygrad.diagnostics.groups import group_rows
from policygrad.diagnostics.intervals import GROUPS, GroupSums
from policygrad.diagnostics.noise import noise_rows
from policygrad.diagnostics.sample_sums import SampleSums, measure
from policygrad.diagnostics.streaming import ROWS, sums_of_batch
from policygrad.doctor.collecting import FreshEpisodes
from policygrad.doctor.fitted_estimator import FittedEstimator, reference_among
from policygrad.rollout.blocks import shares
from policygrad.rollout.source import Source

EPISODES = 512  # of a unit at most
BYTES, LONG = 2**31, 8192  # of a unit of pictures, and the steps that an episode is counted with
LARGE = 2**13  # bytes of an observation, above which a unit holds fewer
LEAST_STARTS = 8
FRESH = 0xD0C  # distinguishes the keys of fresh episodes from those of a run of the same seed

Say = Callable[[str], None]


def silent(_: str) -> None:
    """Say nothing."""


class Unit(NamedTuple):
    """Some of the fresh episodes.

    Attributes:
        number: from 0 on.
        episodes: how many.
        groups: of its gradients.
        first_group: the number of the first of them among those of all episodes.
    """

    number: int
    episodes: int
    groups: int
    first_group: int


def most_of(observation: PyTree) -> int:
    """How many episodes a unit holds at most, of observations like this one.

    >>> most_of(np.zeros(348, np.float32)), most_of(np.zeros((4, 84, 84), np.uint8))
    (512, 9)
    """
    size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(observation))
    return EPISODES if size <= LARGE else max(1, min(EPISODES, BYTES // (size * LONG)))


def units_of(episodes: int, most: int = EPISODES, size: int = 1) -> list[Unit]:
    """The units of N episodes: as few as there can be, of sizes that differ by one at most.

    One unit has all groups. Several share them, so that few sums have to be sent; of more units
    than there are groups, some have the same.

    Args:
        episodes: N, a multiple of `size`.
        most: episodes of a unit; at least two starts are in one.
        size: how many episodes in a row start together. Sizes then differ by that many at most.

    >>> [(unit.episodes, unit.groups, unit.first_group) for unit in units_of(1025)]
    [(342, 21, 0), (342, 21, 21), (341, 21, 42)]
    """
    starts = episodes // size
    count = -(-starts // max(most // size, min(2, starts)))
    groups = max(1, GROUPS // count)
    return [
        Unit(number, of_unit * size, groups, number * groups % GROUPS)
        for number, of_unit in enumerate(shares(starts, count))
    ]


def whole_groups(episodes: int, size: int) -> int:
    """So many episodes, or the next multiple of the size of groups, and at least 8 groups.

    >>> whole_groups(64, 1), whole_groups(64, 6), whole_groups(8, 4)
    (64, 66, 32)
    """
    return size * max(-(-episodes // size), LEAST_STARTS)


@dataclass(frozen=True)
class Work:
    """What is done with every unit; it can be sent.

    Attributes:
        policy: the policy that acts.
        spaces: of observations and actions.
        fitted: the run's estimator; None where it is not known.
        seed: of the fresh episodes.
        episodes: of the largest unit.
        limit: steps after which an episode is stopped.
        discount: of the discounted return to go.
        gradients: whether to measure the gradient.
        pictures: whether to measure what only pictures show.
        group_size: how many episodes in a row start together.
    """

    policy: Any
    spaces: tuple[spaces.Space, spaces.Space]
    fitted: FittedEstimator | None
    seed: int
    episodes: int
    limit: int
    discount: float
    gradients: bool
    pictures: bool
    group_size: int = 1

    def keys(self, number: int) -> tuple[PRNGKeyArray, PRNGKeyArray]:
        """The keys of a unit: to open its environments, and to collect it."""
        key = jax.random.fold_in(jax.random.key(self.seed), FRESH + number)
        open_key, collect_key = jax.random.split(key)
        return open_key, collect_key

    def begin(self, source: Source) -> "Open":
        """With the environments open."""
        open_key, _ = self.keys(0)
        fresh = FreshEpisodes(
            source, self.policy, open_key, self.episodes, self.limit, self.group_size,
            with_greedy=self.fitted is not None and self.fitted.estimator.reads_greedy,
        )  # fmt: skip
        return Open(self, fresh)


class Open(NamedTuple):
    """What a unit is collected with, and what is done with it."""

    work: Work
    fresh: FreshEpisodes


@dataclass(frozen=True)
class Sums:
    """Sums over the episodes of some units.

    Attributes:
        sample: what the episodes say.
        gradients: name -> sums over groups: noise, comparison, decomposition, starts. None if they
            were not measured, or could not be, in any of the units.
        failure: why they could not be; None if they could.
        predicted: returns to go of the steps of the first unit, and what is subtracted from them;
            None if they were not asked for, or without a baseline.
        allocation: what allocating episodes to start states would gain, from the first unit; None
            if start states cannot be told apart.
    """

    sample: SampleSums
    gradients: Mapping[str, GroupSums] | None = None
    failure: str | None = None
    predicted: tuple[np.ndarray, np.ndarray] | None = None
    allocation: Allocation | None = None

    def placed(self, unit: Unit) -> "Sums":
        """The sums of a unit, its groups among those of all episodes."""
        if self.gradients is None:
            return self
        placed = {k: v.placed(unit.first_group, GROUPS) for k, v in self.gradients.items()}
        return replace(self, gradients=placed)

    def __add__(self, other: "Sums") -> "Sums":
        gradients = None
        if self.gradients is not None and other.gradients is not None:
            gradients = {k: v + other.gradients[k] for k, v in self.gradients.items()}
        failure = self.failure or other.failure
        return replace(
            self, sample=self.sample + other.sample, gradients=gradients, failure=failure
        )


def reduce_unit(opened: Open, unit: Unit, say: Say = silent) -> Sums:
    """Collect a unit, and reduce it to sums.

    Args:
        opened: what it is collected with.
        unit: which one.
        say: called with a few words about what is being done.
    """
    work, fitted = opened.work, opened.work.fitted
    record, unfinished = opened.fresh.collect(work.keys(unit.number)[1], unit.episodes)
    predicted = None if fitted is None else fitted.predicted_returns(record)
    sample = measure(
        work.policy, *work.spaces, record, unfinished, discount=work.discount, judged=predicted
    )
    found = Sums(sample)
    if work.pictures and predicted is not None and unit.number == 0:
        valid = np.asarray(record.valid)
        found = replace(found, predicted=(predicted[0][valid], predicted[1][valid]))
    if fitted is None or not work.gradients or not sample.sound:
        return found
    record = fitted.scaled(record)
    try:
        measured = _gradients(work, fitted, record, unit.groups, say)
    except NonFiniteError as error:
        return replace(found, failure=str(error))
    if unit.number == 0:
        with contextlib.suppress(UserError):  # start states that cannot be told apart
            gain = allocate_episodes(work.policy, fitted.plain, fitted.state, record)
            found = replace(found, allocation=gain)
    return replace(found, gradients=measured)


def _gradients(
    work: Work, fitted: FittedEstimator, record: Trajectories, groups: int, say: Say
) -> dict[str, GroupSums]:
    """Sums over groups of what is measured of the gradient."""
    rows = record.rewards.size  # all at once, so that one shape is compiled

    def sums(summed: Any, rows: int = rows) -> GroupSums:
        return sums_of_batch(work.policy, record, summed, groups=groups, rows=rows)

    say("measuring the gradient")
    found = {"noise": sums(noise_rows(fitted.plain, fitted.state))}
    say("comparing estimators")
    candidates = fitted.candidates(wide=work.pictures)
    found["comparison"] = sums(comparison_rows(candidates, reference_among(candidates)))
    if work.group_size > 1:
        say("splitting the noise between and within groups")
        found["starts"] = sums(group_rows(*fitted.split_in_groups(work.group_size)))
    if work.pictures:
        say("decomposing the variance")
        found["decomposition"] = sums(decomposition_rows(fitted.plain, fitted.state), ROWS)
    return found

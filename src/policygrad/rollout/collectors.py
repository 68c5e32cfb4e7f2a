"""Collectors: the ways to fill a batch behind one interface, and how to resume them.

A collector holds environments; everything else is passed to it. It takes a policy and a key, and
returns `Trajectories`, with lanes (or whole episodes) along axis 1. What a lane does depends only
on the key and on its number. It does not depend on the process that steps the lane.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Bool, PRNGKeyArray, PyTree

from policygrad.core.errors import PolicygradError
from policygrad.core.trajectories import Trajectories
from policygrad.environments.protocol import ById, CompiledEnvironment
from policygrad.policies.meeting import Policy
from policygrad.rollout.acting import Lane
from policygrad.rollout.segments import LaneState, collect_segment


class Collector(Protocol):
    """Fills batches. A subclass of your own needs only the method `collect`.

    Attributes:
        whole_episodes: whether batches hold whole episodes.
        lanes: the states of the environments, for code that steps them by `program()` and must put
            them back; the empty tuple if there is no program.
        exact: False once environments had to begin fresh episodes in place of those that they were
            in, so that the batches are not those of a run that nothing has disturbed.
    """

    whole_episodes: bool = False
    lanes: PyTree = ()
    exact: bool = True

    def collect(
        self, policy: Policy, key: PRNGKeyArray, episodes: int | None = None
    ) -> Trajectories:
        """One batch.

        Args:
            policy: of the same structure as the policy that the collector was made with.
            key: consumed.
            episodes: number of whole episodes; None for as many as the collector was made for. A
                collector of segments takes None only.

        Raises:
            PolicygradError: an episode did not end.
            EnvironmentFailure: an environment raised.
        """
        ...

    def snapshot(self) -> PyTree:
        """A pytree of arrays from which `restore` brings the environments back."""
        return {}

    def restore(self, snapshot: PyTree) -> bool:
        """Bring the environments back; False if they begin fresh episodes instead."""
        return self.whole_episodes  # which begin afresh in every batch

    def infos(self) -> dict[str, float]:
        """Metrics of the numbers in the environments' infos, by name: means over the episodes that
        ended last."""
        return {}

    def metrics(self) -> dict[str, float]:
        """Metrics of how the newest batch was collected, by name."""
        return {}

    def infos_state(self) -> dict[str, Any]:
        """Plain data from which `restore_infos` brings those numbers back."""
        return {}

    def restore_infos(self, state: dict[str, Any]) -> None:
        """Go on from what `infos_state` returned; called before `restore`."""

    def take_afresh(self) -> Bool[np.ndarray, " B"] | None:
        """Lanes that have begun fresh episodes in place of those that they were in, since this was
        last called; None for none."""
        return None

    def close(self) -> None:
        """Release the environments."""

    def shapes(self, policy: Policy) -> Trajectories | None:
        """The shapes of a batch, `jax.ShapeDtypeStruct` in place of arrays; None if they are not
        known before. With them the update is compiled while the first batch is collected.

        Args:
            policy: as of `collect`.
        """
        return None

    def program(self) -> "SegmentProgram | None":
        """How a compiled program collects from `lanes` by itself; None if none can."""
        return None


@dataclass(frozen=True)
class SegmentProgram:
    """How a compiled environment's segments are collected: a static argument of a program.

    Attributes:
        environment: what is rolled out.
        steps: T.
        first_lane: the number of the first of the lanes.
    """

    environment: ById[CompiledEnvironment]
    steps: int
    first_lane: int = 0

    def collect(
        self, policy: Policy, lanes: LaneState, key: PRNGKeyArray, first: Lane = 0
    ) -> tuple[LaneState, Trajectories]:
        """The lanes after a segment, and the record. Pure; the key is consumed.

        Args:
            policy: the policy that acts.
            lanes: all lanes, or consecutive ones.
            key: of the batch.
            first: number of lanes before these.
        """
        return collect_segment(
            self.environment.value,
            policy,
            lanes,
            key,
            steps=self.steps,
            first_lane=self.first_lane + first,
        )


def unfinished_episodes(trajectories: Trajectories) -> Bool[np.ndarray, " N"]:
    """`[N]`: whole episodes that were stopped at the cap on steps, and that their environment
    neither terminated nor truncated."""
    ended = (trajectories.terminated | trajectories.truncated) & trajectories.valid
    return np.logical_not(np.any(np.asarray(ended), axis=0))


def require_finished(unfinished: np.ndarray, max_steps: int) -> None:
    """Raise PolicygradError if some episodes did not end; without them the batch would be
    biased."""
    if unfinished.any():
        raise PolicygradError(
            f"{int(unfinished.sum())} of {len(unfinished)} episodes did not end within "
            f"{max_steps} steps; raise max_episode_steps, wrap the environment in a TimeLimit, or "
            "collect segments with batch_steps"
        )


def require_no_episodes(episodes: int | None) -> None:
    """Raise ValueError if a collector of segments is asked for whole episodes."""
    if episodes is not None:
        raise ValueError(f"a collector of segments takes no episodes, got episodes={episodes}")


def require_whole_groups(episodes: int, group_size: int) -> None:
    """Raise ValueError if so many episodes are no whole number of groups."""
    if episodes % group_size:
        raise ValueError(
            f"episodes={episodes} is no multiple of group_size={group_size}; ask for whole groups"
        )


def seed_of(key: PRNGKeyArray) -> int:
    """A non-negative seed for environments on the host, from a key."""
    return int(np.asarray(jax.random.key_data(key)).view(np.uint32)[-1] >> 1)

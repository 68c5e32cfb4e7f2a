"""Collectors: what fills a batch, with what resuming it takes.

A collector holds environments; everything else is passed in. A policy and a key go in,
`Trajectories` come out, lanes (or whole episodes) along axis 1. What a lane does follows from the
key and its number alone. Where lanes are stepped, in this process or in another one, never shows.
"""

from dataclasses import dataclass
from typing import Protocol

import jax
import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, PRNGKeyArray, PyTree

from policygrad.core.errors import PolicygradError
from policygrad.core.trajectories import Trajectories
from policygrad.environments.protocol import ById, CompiledEnvironment
from policygrad.policies.meeting import Policy
from policygrad.rollout.acting import Lane
from policygrad.rollout.segments import LaneState, collect_segment


class Collector(Protocol):
    """Fills batches. A class of your own that names this one as its base needs `collect` alone.

    Attributes:
        observation_space, action_space: of one environment.
        whole_episodes: whether batches hold whole episodes.
        lanes: where the environments are, for who steps them by `program()` and puts them back;
            the empty tuple where there is none.
    """

    observation_space: spaces.Space
    action_space: spaces.Space
    whole_episodes: bool
    lanes: PyTree = ()

    def collect(
        self, policy: Policy, key: PRNGKeyArray, episodes: int | None = None
    ) -> Trajectories:
        """One batch.

        Args:
            policy: of the structure of the one that the collector was made with.
            key: consumed.
            episodes: how many whole episodes; None for as many as the collector was made for.
                Segments have a size of their own, and take None alone.

        Raises:
            PolicygradError: an episode did not end.
            EnvironmentFailure: an environment raised.
        """
        ...

    def snapshot(self) -> PyTree:
        """A pytree of arrays from which `restore` brings the environments back."""
        return {}

    def restore(self, snapshot: PyTree) -> bool:
        """Bring the environments back; False where they begin fresh episodes instead."""
        return self.whole_episodes  # which begin afresh in every batch

    def close(self) -> None:
        """Release the environments."""

    def program(self) -> "SegmentProgram | None":
        """By what a compiled program collects from `lanes` by itself; None where none can."""
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
            policy: acts.
            lanes: all, or some that follow each other.
            key: of the batch.
            first: how many lanes stand before these.
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
    """`[N]`: whole episodes that were stopped at the cap on steps, and neither ended nor cut off
    by their environment."""
    ended = (trajectories.terminated | trajectories.truncated) & trajectories.valid
    return np.logical_not(np.any(np.asarray(ended), axis=0))


def require_finished(unfinished: np.ndarray, max_steps: int) -> None:
    """Refuse a batch of episodes of which some did not end: leaving them out would bias it."""
    if unfinished.any():
        raise PolicygradError(
            f"{int(unfinished.sum())} of {len(unfinished)} episodes did not end within "
            f"{max_steps} steps; raise max_episode_steps, wrap the environment in a TimeLimit, or "
            "collect segments with batch_steps"
        )


def require_no_episodes(episodes: int | None) -> None:
    """Refuse a number of whole episodes where segments are collected."""
    if episodes is not None:
        raise ValueError(f"segments have a size of their own; got episodes={episodes}")


def seed_of(key: PRNGKeyArray) -> int:
    """A non-negative seed for environments on the host, from a key."""
    return int(np.asarray(jax.random.key_data(key)).view(np.uint32)[-1] >> 1)

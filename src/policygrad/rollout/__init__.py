"""Rollouts: host and compiled ones return the same `Trajectories`."""

from policygrad.rollout.collectors import Collector, make_collector
from policygrad.rollout.episodes import collect_episodes
from policygrad.rollout.segments import LaneState, collect_segment, start_lanes

__all__ = [
    "Collector",
    "LaneState",
    "collect_episodes",
    "collect_segment",
    "make_collector",
    "start_lanes",
]

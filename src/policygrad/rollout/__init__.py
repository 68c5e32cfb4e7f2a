"""Rollouts: host and compiled ones return the same `Trajectories`."""

from policygrad.rollout.collectors import Collector, SegmentProgram
from policygrad.rollout.compiled import CompiledSource
from policygrad.rollout.engines import ENGINES, Engine, make_collector, open_source
from policygrad.rollout.episodes import EpisodeBatch, collect_episodes
from policygrad.rollout.host_source import HostSource
from policygrad.rollout.play import Played
from policygrad.rollout.segments import LaneState, collect_segment, start_lanes
from policygrad.rollout.source import Source

__all__ = [
    "ENGINES",
    "Collector",
    "CompiledSource",
    "Engine",
    "EpisodeBatch",
    "HostSource",
    "LaneState",
    "Played",
    "SegmentProgram",
    "Source",
    "collect_episodes",
    "collect_segment",
    "make_collector",
    "open_source",
    "start_lanes",
]

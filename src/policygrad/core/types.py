"""The record and the splitting of modules under one name, `policygrad.types`."""

from policygrad.core.modules import Carried, combine, is_array, split
from policygrad.core.trajectories import (
    Trajectories,
    cut_mask,
    episodes_in,
    gradient_denominator,
    join_lanes,
    successor_values,
)

steps_per_episode = gradient_denominator  # its earlier name


__all__ = [
    "Carried",
    "Trajectories",
    "combine",
    "cut_mask",
    "episodes_in",
    "gradient_denominator",
    "is_array",
    "join_lanes",
    "split",
    "steps_per_episode",
    "successor_values",
]

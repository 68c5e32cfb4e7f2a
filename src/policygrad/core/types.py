"""The record and the splitting of modules under one name, `policygrad.types`."""

from policygrad.core.modules import Carried, combine, is_array, split
from policygrad.core.trajectories import (
    Trajectories,
    cut_mask,
    steps_per_episode,
    successor_values,
)

__all__ = [
    "Carried",
    "Trajectories",
    "combine",
    "cut_mask",
    "is_array",
    "split",
    "steps_per_episode",
    "successor_values",
]

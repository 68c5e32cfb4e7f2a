"""Environments: from what a user names or passes to lanes or a compiled environment."""

from policygrad.environments.catalogue import (
    choose_engine,
    describe,
    is_that_of,
    make,
    nearest,
    qualified_name,
    require_extra,
    split_engine,
)
from policygrad.environments.lanes import Lanes, LaneStep
from policygrad.environments.protocol import CompiledEnvironment

__all__ = [
    "CompiledEnvironment",
    "LaneStep",
    "Lanes",
    "choose_engine",
    "describe",
    "is_that_of",
    "make",
    "nearest",
    "qualified_name",
    "require_extra",
    "split_engine",
]

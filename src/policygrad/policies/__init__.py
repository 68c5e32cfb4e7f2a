"""Policies: networks that read raw observations and return a distribution, and how they are used.

A policy is any pytree that maps one observation to a `Distribution`. `network_policy` builds the
default one for a pair of spaces; a user's own is any module with a `__call__`.
"""

from policygrad.policies.agent import Agent
from policygrad.policies.architectures import Architecture, FullyConnected
from policygrad.policies.memory import Memory
from policygrad.policies.networks import MLP, mlp
from policygrad.policies.normaliser import (
    ObservationNormaliser,
    RunningStatistics,
    flatten_observation,
    unresolved_components,
    update_statistics,
)
from policygrad.policies.pictures import Convolutional, Impala, impala, minatar, nature, small
from policygrad.policies.space_policy import (
    NetworkPolicy,
    RecurrentPolicy,
    SpacePolicy,
    action_parameters,
    network_policy,
)

__all__ = [
    "MLP",
    "Agent",
    "Architecture",
    "Convolutional",
    "FullyConnected",
    "Impala",
    "Memory",
    "NetworkPolicy",
    "ObservationNormaliser",
    "RecurrentPolicy",
    "RunningStatistics",
    "SpacePolicy",
    "action_parameters",
    "flatten_observation",
    "impala",
    "minatar",
    "mlp",
    "nature",
    "network_policy",
    "small",
    "unresolved_components",
    "update_statistics",
]

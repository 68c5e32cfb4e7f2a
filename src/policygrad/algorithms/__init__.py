"""Algorithms: each a frozen configuration with `init` and a pure `update`."""

from policygrad.algorithms.base import Algorithm, AlgorithmState, Batch
from policygrad.algorithms.natural import TRPO, Natural
from policygrad.algorithms.ppo import PPO
from policygrad.algorithms.vanilla import Vanilla

__all__ = ["PPO", "TRPO", "Algorithm", "AlgorithmState", "Batch", "Natural", "Vanilla"]

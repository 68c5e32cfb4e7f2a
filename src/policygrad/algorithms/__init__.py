"""Algorithms: each a frozen record of settings with `start` and a pure `improve`."""

from policygrad.algorithms.base import Algorithm, Batch, Improved
from policygrad.algorithms.learner import Learner, LearnerState, learner
from policygrad.algorithms.natural import Natural
from policygrad.algorithms.optimisers import SGD, Adam, RMSprop
from policygrad.algorithms.policy_change import gradient_of_mean
from policygrad.algorithms.ppo import PPO
from policygrad.algorithms.step_size import take_step
from policygrad.algorithms.trpo import TRPO
from policygrad.algorithms.vanilla import Vanilla

__all__ = [
    "PPO",
    "SGD",
    "TRPO",
    "Adam",
    "Algorithm",
    "Batch",
    "Improved",
    "Learner",
    "LearnerState",
    "Natural",
    "RMSprop",
    "Vanilla",
    "gradient_of_mean",
    "learner",
    "take_step",
]

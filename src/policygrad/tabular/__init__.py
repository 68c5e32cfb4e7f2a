"""The exact laboratory: on a finite MDP every estimator's mean and covariance can be computed."""

from policygrad.tabular import gallery
from policygrad.tabular.control import OptimalBaseline, excess_variance, optimal_baseline
from policygrad.tabular.enumeration import Enumeration, enumerate_trajectories
from policygrad.tabular.mdp import FiniteMDP, Sparse
from policygrad.tabular.moments import Moments, moments
from policygrad.tabular.policy import FixedPolicy, FunctionPolicy, SoftmaxPolicy, TabularPolicy
from policygrad.tabular.problem import AllAction, all_action
from policygrad.tabular.solution import Solution, objective, solve

__all__ = [
    "AllAction",
    "Enumeration",
    "FiniteMDP",
    "FixedPolicy",
    "FunctionPolicy",
    "Moments",
    "OptimalBaseline",
    "Solution",
    "Sparse",
    "SoftmaxPolicy",
    "TabularPolicy",
    "all_action",
    "enumerate_trajectories",
    "excess_variance",
    "gallery",
    "moments",
    "objective",
    "optimal_baseline",
    "solve",
]

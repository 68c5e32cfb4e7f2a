"""The exact laboratory: mean and covariance of every estimator on a finite MDP, computed."""

from policygrad.tabular import gallery
from policygrad.tabular.as_environment import TabularEnvironment, as_environment, from_gymnasium
from policygrad.tabular.ascent import Ascent, ascend
from policygrad.tabular.best_baselines import OptimalBaseline, excess_variance, optimal_baseline
from policygrad.tabular.enumeration import Enumeration, enumerate_trajectories
from policygrad.tabular.groups import GroupMoments, group_moments
from policygrad.tabular.mdp import FiniteMDP, Sparse
from policygrad.tabular.moments import Moments, moments
from policygrad.tabular.outcomes import Outcomes, outcomes_of
from policygrad.tabular.policy import FixedPolicy, FunctionPolicy, SoftmaxPolicy, TabularPolicy
from policygrad.tabular.problem import AllAction, all_action
from policygrad.tabular.solution import Solution, objective, solve

__all__ = [
    "AllAction",
    "Ascent",
    "Enumeration",
    "FiniteMDP",
    "FixedPolicy",
    "FunctionPolicy",
    "GroupMoments",
    "Moments",
    "OptimalBaseline",
    "Outcomes",
    "SoftmaxPolicy",
    "Solution",
    "Sparse",
    "TabularEnvironment",
    "TabularPolicy",
    "all_action",
    "as_environment",
    "ascend",
    "enumerate_trajectories",
    "excess_variance",
    "from_gymnasium",
    "gallery",
    "group_moments",
    "moments",
    "objective",
    "optimal_baseline",
    "outcomes_of",
    "solve",
]

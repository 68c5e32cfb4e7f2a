"""Group estimators: weights of whole episodes, from the returns of episodes of the same start."""

from policygrad.gradients.groups.estimator import GroupEstimator
from policygrad.gradients.groups.named import (
    ESTIMATORS,
    dapo,
    dr_grpo,
    group_mean,
    grpo,
    leave_one_out_over_deviation_of_others,
    opo,
    plain,
    reinforce_plus_plus,
    reinforce_plus_plus_baseline,
    remax,
    rloo,
    shrinkage,
    value,
)
from policygrad.gradients.groups.record import Groups

__all__ = [
    "ESTIMATORS",
    "GroupEstimator",
    "Groups",
    "dapo",
    "dr_grpo",
    "group_mean",
    "grpo",
    "leave_one_out_over_deviation_of_others",
    "opo",
    "plain",
    "reinforce_plus_plus",
    "reinforce_plus_plus_baseline",
    "remax",
    "rloo",
    "shrinkage",
    "value",
]

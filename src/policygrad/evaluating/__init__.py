"""Evaluation: an agent plays whole episodes, in its own environment or in another one."""

from policygrad.evaluating.places import Place
from policygrad.evaluating.playing import check_whole, evaluate_agent
from policygrad.evaluating.results import Evaluation, InfoMean, Returns

__all__ = ["Evaluation", "InfoMean", "Place", "Returns", "check_whole", "evaluate_agent"]

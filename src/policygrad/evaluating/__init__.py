"""Evaluation: an agent plays whole episodes, in its own environment or in another one."""

from policygrad.evaluating.places import Place
from policygrad.evaluating.playing import check_whole, evaluate
from policygrad.evaluating.results import CutShort, Evaluation, InfoMean, Returns
from policygrad.evaluating.trained import Trained

__all__ = [
    "CutShort",
    "Evaluation",
    "InfoMean",
    "Place",
    "Returns",
    "Trained",
    "check_whole",
    "evaluate",
]

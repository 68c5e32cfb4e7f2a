"""Evaluation: an agent plays whole episodes, in its own environment or in another one."""

from policygrad.evaluating.places import Place
from policygrad.evaluating.playing import check_whole, evaluate
from policygrad.evaluating.results import CutShort, Evaluation, InfoMean, Returns
from policygrad.evaluating.trained import Trained
from policygrad.evaluating.watching import ARGUMENTS_OF_WATCH, Watched, check_watching, watch

__all__ = [
    "ARGUMENTS_OF_WATCH",
    "CutShort",
    "Evaluation",
    "InfoMean",
    "Place",
    "Returns",
    "Trained",
    "Watched",
    "check_watching",
    "check_whole",
    "evaluate",
    "watch",
]

"""Diagnostics: how noisy a policy gradient is, where its noise comes from, and what would help."""

from policygrad.core.plain import to_json
from policygrad.diagnostics.allocating import (
    Allocation,
    allocate_episodes,
    allocate_gradients,
)
from policygrad.diagnostics.baseline_quality import BaselineQuality, judge_baseline
from policygrad.diagnostics.batch_plan import BatchPlan, best_group_size
from policygrad.diagnostics.comparison import (
    Compared,
    Comparison,
    compare_estimators,
)
from policygrad.diagnostics.cosines import CosineCurve, predicted_cosine
from policygrad.diagnostics.decomposition import (
    DecomposedVariance,
    Decomposition,
    decompose_variance,
)
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding
from policygrad.diagnostics.given import compare_gradients, noise_of_gradients
from policygrad.diagnostics.groups import (
    NoiseInGroups,
    less_the_other_groups,
    noise_in_groups,
)
from policygrad.diagnostics.intervals import Measured
from policygrad.diagnostics.noise import GradientNoise, Noise, gradient_noise
from policygrad.diagnostics.recommending import Recommendation, recommend
from policygrad.diagnostics.rules import RULES, Rule, diagnose
from policygrad.diagnostics.sample import Sample
from policygrad.diagnostics.sketch import CountSketch
from policygrad.diagnostics.spread import Spread
from policygrad.diagnostics.steps import StepSplit, split_by_step
from policygrad.diagnostics.usual_estimators import line_up

__all__ = [
    "RULES",
    "Allocation",
    "BaselineQuality",
    "BatchPlan",
    "Compared",
    "Comparison",
    "CosineCurve",
    "CountSketch",
    "DecomposedVariance",
    "Decomposition",
    "Examination",
    "Finding",
    "GradientNoise",
    "Measured",
    "Noise",
    "NoiseInGroups",
    "Recommendation",
    "Rule",
    "Sample",
    "Spread",
    "StepSplit",
    "allocate_episodes",
    "allocate_gradients",
    "best_group_size",
    "compare_estimators",
    "compare_gradients",
    "decompose_variance",
    "diagnose",
    "gradient_noise",
    "judge_baseline",
    "less_the_other_groups",
    "line_up",
    "noise_in_groups",
    "noise_of_gradients",
    "predicted_cosine",
    "recommend",
    "split_by_step",
    "to_json",
]

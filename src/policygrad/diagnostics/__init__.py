"""Measuring: how noisy a policy gradient is, where its noise comes from, and what would help."""

from policygrad.diagnostics.baseline_quality import BaselineQuality, judge_baseline
from policygrad.diagnostics.comparison import (
    Compared,
    Comparison,
    compare_estimators,
    compare_gradients,
)
from policygrad.diagnostics.cosines import CosineCurve, predicted_cosine
from policygrad.diagnostics.decomposition import (
    DecomposedVariance,
    Decomposition,
    decompose_variance,
)
from policygrad.diagnostics.intervals import Measured, to_json
from policygrad.diagnostics.lineup import line_up
from policygrad.diagnostics.noise import GradientNoise, Noise, gradient_noise, noise_of_gradients
from policygrad.diagnostics.steps import StepSplit, split_by_step

__all__ = [
    "BaselineQuality",
    "Compared",
    "Comparison",
    "CosineCurve",
    "DecomposedVariance",
    "Decomposition",
    "GradientNoise",
    "Measured",
    "Noise",
    "StepSplit",
    "compare_estimators",
    "compare_gradients",
    "decompose_variance",
    "gradient_noise",
    "judge_baseline",
    "line_up",
    "noise_of_gradients",
    "predicted_cosine",
    "split_by_step",
    "to_json",
]

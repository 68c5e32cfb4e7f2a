"""Measuring: how noisy a policy gradient is, where its noise comes from, and what would help."""

from policygrad.diagnostics.cosines import CosineCurve
from policygrad.diagnostics.intervals import Measured, to_json
from policygrad.diagnostics.noise import GradientNoise, Noise, gradient_noise, noise_of_gradients

__all__ = [
    "CosineCurve",
    "GradientNoise",
    "Measured",
    "Noise",
    "gradient_noise",
    "noise_of_gradients",
    "to_json",
]

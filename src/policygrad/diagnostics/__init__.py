"""Diagnostics: how noisy a policy gradient is, where its noise comes from, and what would help.

The names below are imported when first used: training measures noise with `monitor` alone.
"""

import importlib
from typing import Any

# public name -> the module that holds it; `__init__.pyi` shows the same names to type checkers
NAMES = {
    "Allocation": "diagnostics.allocating",
    "BaselineQuality": "diagnostics.baseline_quality",
    "BatchPlan": "diagnostics.batch_plan",
    "Compared": "diagnostics.comparison",
    "Comparison": "diagnostics.comparison",
    "CosineCurve": "diagnostics.cosines",
    "CountSketch": "diagnostics.sketch",
    "DecomposedVariance": "diagnostics.decomposition",
    "Decomposition": "diagnostics.decomposition",
    "Examination": "diagnostics.examination",
    "Finding": "diagnostics.findings",
    "GradientNoise": "diagnostics.noise",
    "Measured": "diagnostics.intervals",
    "Noise": "diagnostics.noise",
    "NoiseInGroups": "diagnostics.groups",
    "RULES": "diagnostics.rules",
    "Recommendation": "diagnostics.recommending",
    "Rule": "diagnostics.rules",
    "Sample": "diagnostics.sample",
    "Spread": "diagnostics.spread",
    "StepSplit": "diagnostics.steps",
    "allocate_episodes": "diagnostics.allocating",
    "allocate_gradients": "diagnostics.allocating",
    "best_group_size": "diagnostics.batch_plan",
    "compare_estimators": "diagnostics.comparison",
    "compare_gradients": "diagnostics.given",
    "decompose_variance": "diagnostics.decomposition",
    "diagnose": "diagnostics.rules",
    "gradient_noise": "diagnostics.noise",
    "judge_baseline": "diagnostics.baseline_quality",
    "less_the_other_groups": "diagnostics.groups",
    "line_up": "diagnostics.usual_estimators",
    "noise_in_groups": "diagnostics.groups",
    "noise_of_gradients": "diagnostics.given",
    "predicted_cosine": "diagnostics.cosines",
    "recommend": "diagnostics.recommending",
    "split_by_step": "diagnostics.steps",
    "to_json": "core.plain",
}

__all__ = [*NAMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return getattr(importlib.import_module(f"policygrad.{NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

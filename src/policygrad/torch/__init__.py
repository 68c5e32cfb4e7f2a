"""The gradient of a PyTorch policy: the same measurements, of per-episode gradients by torch.func.

    from policygrad.torch import sb3

    measured = sb3.measure(model, "CartPole-v1", episodes=1000)
    measured.write_report("seen")

`sb3` takes a model of Stable-Baselines3. For any other `torch.nn.Module` there is `TorchPolicy`,
whose gradients go through the functions below as an Equinox policy's go through
`policygrad.diagnostics`. PyTorch is loaded when it is first used (extra: torch).
"""

from policygrad.torch.critic import ModuleValues
from policygrad.torch.episodes import Episode, record_of
from policygrad.torch.gradients import TorchPolicy, episode_gradients
from policygrad.torch.measuring import (
    Stream,
    compare_estimators,
    decompose_variance,
    gradient_noise,
    sketched_gradients,
)

__all__ = [
    "Episode",
    "ModuleValues",
    "Stream",
    "TorchPolicy",
    "compare_estimators",
    "decompose_variance",
    "episode_gradients",
    "gradient_noise",
    "record_of",
    "sketched_gradients",
]

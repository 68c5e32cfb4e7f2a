"""Measure a policy gradient of your own: per-episode gradients in, the same diagnostics out.

The policy, the sampling and the gradients here are PyTorch's and this file's own; policygrad only
sees arrays, one row an episode. Any framework that gives you the gradient of one episode will do.

    pip install torch
    python examples/own_gradients.py
"""

import numpy as np

from policygrad import diagnostics

EPISODES = 400
STEPS = 10
BATCH = 32


def report(rows: dict[str, dict[str, np.ndarray]]) -> diagnostics.Comparison:
    """Print what policygrad says of per-episode gradients; the comparison.

    Args:
        rows: estimator -> parameter -> `[N, ...]`, one row an episode, the same episodes for all.
    """
    for name, named in rows.items():
        noise = diagnostics.noise_of_gradients(named)
        snr, scale = noise.total.signal_to_noise, noise.total.noise_scale
        enough = noise.total.episodes_for[0.9]
        print(
            f"{name}: signal to noise {snr.value:.3f} [{snr.low:.3f}, {snr.high:.3f}], "
            f"noise scale {scale.value:.0f} episodes [{scale.low:.0f}, {scale.high:.0f}], "
            f"{enough.value:.0f} episodes for a cosine of 0.9"
        )
        for part, of in noise.parts.items():
            print(f"    {part}: variance {of.variance.value:.3g}")
    flat = {
        name: np.concatenate([g.reshape(len(g), -1) for g in named.values()], axis=1)
        for name, named in rows.items()
    }
    reference = next(iter(flat))
    compared = diagnostics.compare_gradients(flat, reference=reference, batch_episodes=BATCH)
    for name, x in compared.estimators.items():
        ratio = x.variance_ratio
        print(
            f"{name}: variance {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] of that of "
            f"{reference}, bias up to {x.bias.high:.2g}"
        )
    print(f"least error in a batch of {BATCH}: {compared.least_error}")
    return compared


def torch_gradients(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Two estimators' gradients of every episode of a small task, by PyTorch."""
    try:
        import torch
    except ImportError as error:
        raise SystemExit(
            "this example takes PyTorch for the gradients, which is not installed: "
            "pip install torch. policygrad.diagnostics itself needs only the arrays."
        ) from error
    torch.manual_seed(seed)
    policy = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    names = [name for name, _ in policy.named_parameters()]
    rows: dict[str, dict[str, list[np.ndarray]]] = {
        name: {k: [] for k in names} for name in ("total return", "return to go")
    }
    for _ in range(EPISODES):
        log_probs, rewards = [], []
        position = torch.randn(1)
        for t in range(STEPS):  # stay near 0; action 1 moves right
            observation = torch.cat([position, torch.tensor([t / STEPS])])
            choice = torch.distributions.Categorical(logits=policy(observation))
            action = choice.sample()
            log_probs.append(choice.log_prob(action))
            position = position + (2.0 * action - 1.0) / 2 + 0.1 * torch.randn(1)
            rewards.append(-position.abs().squeeze())
        earned = torch.stack(rewards)
        weights = {
            "total return": earned.sum().expand(STEPS),
            "return to go": earned.flip(0).cumsum(0).flip(0),
        }
        for name, weight in weights.items():
            surrogate = (weight.detach() * torch.stack(log_probs)).sum()
            found = torch.autograd.grad(surrogate, list(policy.parameters()), retain_graph=True)
            for k, g in zip(names, found, strict=True):
                rows[name][k].append(g.numpy())
    return {name: {k: np.stack(g) for k, g in named.items()} for name, named in rows.items()}


if __name__ == "__main__":
    report(torch_gradients())

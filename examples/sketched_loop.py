"""A loop like TRL's in PyTorch, whose gradient is measured while it trains, by its sketch.

A GRU reads a prompt of digits and answers with as many; the reward is the share of digits that are
those of the prompt in reverse. Every prompt is answered several times, and an answer's advantage is
its reward less the mean of the others' (RLOO). The micro-batch of one prompt is one backward pass,
as with accumulated gradients; its sketch of 1,024 numbers is one row of what is measured.

    pip install 'policygrad[torch]'
    python examples/sketched_loop.py
"""

import sys

import numpy as np
import torch

from policygrad import diagnostics

LENGTH, DIGITS, PROMPTS, ANSWERS = 4, 6, 16, 8
WIDTH = 1024


class Writer(torch.nn.Module):
    """Log-probabilities of the next token, given all before it."""

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(DIGITS + 1, hidden)  # the last token begins the answer
        self.read = torch.nn.GRU(hidden, hidden, batch_first=True)
        self.speak = torch.nn.Linear(hidden, DIGITS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`[n, t]` -> `[n, t, DIGITS]`."""
        return self.speak(self.read(self.embed(tokens))[0]).log_softmax(-1)


def answer(writer: Writer, prompts: torch.Tensor) -> torch.Tensor:
    """Sampled answers `[n, LENGTH]` to prompts `[n, LENGTH]`."""
    tokens = torch.cat([prompts, torch.full((len(prompts), 1), DIGITS)], dim=1)
    with torch.no_grad():
        for _ in range(LENGTH):
            chosen = torch.multinomial(writer(tokens)[:, -1].exp(), 1)
            tokens = torch.cat([tokens, chosen], dim=1)
    return tokens[:, LENGTH + 1 :]


def group_loss(writer: Writer, prompt: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """The RLOO loss of one prompt's answers `[ANSWERS, LENGTH]`; its negative gradient is ĝ."""
    rewards = (answers == prompt.flip(0)).float().mean(dim=1)
    advantages = rewards - (rewards.sum() - rewards) / (ANSWERS - 1)
    begin = torch.full((ANSWERS, 1), DIGITS)
    tokens = torch.cat([prompt.expand(ANSWERS, -1), begin, answers[:, :-1]], dim=1)
    chosen = writer(tokens)[:, LENGTH:].gather(2, answers[..., None])[..., 0]
    return -(advantages * chosen.sum(dim=1)).mean()


def gradients_of_batch(writer: Writer) -> list[list[torch.Tensor]]:
    """One gradient a prompt, of all parameters."""
    prompts = torch.randint(DIGITS, (PROMPTS, LENGTH))
    answers = answer(writer, prompts.repeat_interleave(ANSWERS, 0)).view(PROMPTS, ANSWERS, LENGTH)
    losses = (group_loss(writer, *both) for both in zip(prompts, answers, strict=True))
    parameters = list(writer.parameters())
    return [list(torch.autograd.grad(loss, parameters)) for loss in losses]


def measure(writer: Writer, batches: int) -> diagnostics.GradientNoise:
    """The noise of one prompt's gradient, from fresh prompts."""
    sketch = diagnostics.CountSketch(sum(p.numel() for p in writer.parameters()), WIDTH)
    rows = (
        torch.cat([sketch([-x[None] for x in gradient]) for gradient in gradients_of_batch(writer)])
        for _ in range(batches)
    )
    return diagnostics.noise_of_gradients((x.numpy() for x in rows), sketch=sketch)


def main(updates: int = 400, every: int = 100, batches: int = 16) -> list[float]:
    """Train, and print what is measured along the way; the noise scales, in prompts."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    writer, scales = Writer(), []
    optimiser = torch.optim.Adam(writer.parameters(), lr=2e-3)
    for update in range(updates + 1):
        if update % every == 0:
            noise = measure(writer, batches).total
            scale, enough = noise.noise_scale, noise.episodes_for[0.9]
            prompts = torch.randint(DIGITS, (512, LENGTH))
            right = (answer(writer, prompts) == prompts.flip(1)).float().mean()
            print(
                f"update {update}: {right:.0%} of digits right; noise scale {scale.value:.0f} "
                f"prompts [{scale.low:.0f}, {scale.high:.0f}], {enough.value:.0f} for a cosine of "
                "0.9"
            )
            scales.append(float(np.clip(scale.value, 0, 1e9)))
        for parameter, *each in zip(writer.parameters(), *gradients_of_batch(writer), strict=True):
            parameter.grad = torch.stack(each).mean(dim=0)
        optimiser.step()
    return scales


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

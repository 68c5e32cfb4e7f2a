"""verl's variance proxies beside the truth, and beside what can be measured on the same batch.

verl logs three numbers about the gradient of a batch of N answers with advantages A
(`compute_variance_proxy_metrics` in its `trainer/ppo/metric_utils.py`):

    signal strength   ‖ḡ‖², the squared norm of the gradient that the optimiser was given
    total power       mean of A² W, W = Σ_t (1 − 2 π(a_t) + Σ_a π(a)²), the squared score in logits
    pure noise        (total power − signal strength) / (N − 1), at least 0

The gradient is that of its loss: a mean over answers of summed tokens, or, as is the default
there, a mean over all tokens. The truth is ‖E ĝ‖², E (1/N) Σ w² ‖s‖² and tr Cov ĝ, computed by the
laboratory. "Ours" is `policygrad.diagnostics.noise_of_gradients` with one row a group.

    python benchmarks/proxies.py [--batches 1000] [--groups 16] [--group-size 4] [--json FILE]
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from policygrad.diagnostics import noise_of_gradients
from policygrad.gradients import groups
from policygrad.gradients.groups import Groups
from policygrad.tabular import SoftmaxPolicy, gallery, group_moments, outcomes_of

WORDS, LONGEST, LOGIT = ("a", "abb"), 5, 1.0
QUANTITIES = "signal strength", "total power", "variance of the mean"


def tabular_task() -> gallery.Task:
    """A logit of its own for every state and token."""
    return gallery.token_task(WORDS, LONGEST, logit=LOGIT)


def shared_task(features: int = 12) -> gallery.Task:
    """The same policy, with logits that are linear in few features of state and token.

    One of them is the logit of the task; the others are drawn at random, with parameters of zero.
    """
    mdp, policy = tabular_task()
    rng = np.random.default_rng(0)
    theta = np.asarray(policy.theta, np.float64)
    drawn = rng.normal(size=(*theta.shape, features - 1)) / np.sqrt(features - 1)
    phi = np.concatenate([theta[..., None], drawn], axis=-1)
    return gallery.Task(mdp, SoftmaxPolicy(np.eye(features)[0], phi))


TASKS = {"a logit for every state and token": tabular_task, "12 shared parameters": shared_task}


@dataclass(frozen=True)
class Batch:
    """Answers of a batch: weights w `[G, k]`, lengths, W, and scores `[G, k, d]`."""

    weights: np.ndarray
    lengths: np.ndarray
    logit_squares: np.ndarray
    scores: np.ndarray


class Sampler:
    """Draws batches of a task whose transitions are certain."""

    def __init__(self, task: gallery.Task, count: int, size: int) -> None:
        mdp, policy = task
        with jax.enable_x64(True):
            tabulated = policy.tabulate(mdp)
            self.pi, self.z = np.asarray(tabulated.probabilities), np.asarray(tabulated.scores.z)
        self.successors = mdp.successors[..., 0]
        self.rewards = np.asarray(mdp.edges.rewards)[..., 0]
        self.absorbing, self.horizon = mdp.absorbing, mdp.horizon or 0
        self.initial = np.asarray(mdp.edges.initial)
        # what an answer adds to W at each state and token
        self.squares = 1 - 2 * self.pi + (self.pi**2).sum(axis=1, keepdims=True)
        self.count, self.size = count, size

    def draw(self, rng: np.random.Generator) -> Batch:
        """One batch, weighed by leave-one-out."""
        shape = self.count, self.size
        starts = rng.choice(len(self.initial), size=self.count, p=self.initial)
        state = np.repeat(starts[:, None], self.size, axis=1)
        returns, lengths, squares = (np.zeros(shape) for _ in range(3))
        scores = np.zeros((*shape, self.z.shape[-1]))
        for _ in range(self.horizon):
            alive = ~self.absorbing[state]
            below = np.cumsum(self.pi[state], axis=-1) < rng.random(shape)[..., None]
            action = np.minimum(below.sum(axis=-1), self.pi.shape[1] - 1)
            at = state, action
            returns += alive * self.rewards[at]
            lengths += alive
            squares += alive * self.squares[at]
            scores += alive[..., None] * self.z[at]
            state = np.where(alive, self.successors[at], state)
        return Batch(groups.rloo().weights(Groups(returns)), lengths, squares, scores)


def proxies(batch: Batch, *, over_tokens: bool) -> tuple[float, float, float]:
    """verl's three numbers, from the gradient of a mean over answers or over tokens."""
    n = batch.weights.size
    total = (batch.weights[..., None] * batch.scores).sum(axis=(0, 1))
    gradient = total / (batch.lengths.sum() if over_tokens else n)
    signal = float(gradient @ gradient)
    power = float((batch.weights**2 * batch.logit_squares).mean())
    return signal, power, max(0.0, (power - signal) / (n - 1))


def ours(batch: Batch) -> dict[str, tuple[float, float, float]]:
    """‖E ĝ‖² and tr Cov of the batch's gradient with their 95 % intervals, and the power."""
    per_group = (batch.weights[..., None] * batch.scores).mean(axis=1)
    noise = noise_of_gradients(per_group).total
    count, norm, variance = len(per_group), noise.squared_norm, noise.variance
    squares = batch.weights**2 * (batch.scores**2).sum(axis=-1)
    power = float(squares.mean())
    return {
        "signal strength": (norm.value, norm.low, norm.high),
        "total power": (power, float("nan"), float("nan")),
        "variance of the mean": (
            variance.value / count,
            variance.low / count,
            variance.high / count,
        ),
    }


def measure(task: gallery.Task, count: int, size: int, batches: int) -> dict[str, dict[str, Any]]:
    """Of each quantity: the truth; of each estimate, its mean over batches and its value on one."""
    exact = group_moments(outcomes_of(*task), groups.rloo(), group_size=size, groups=count)
    truth = float(exact.mean @ exact.mean), exact.power, exact.variance
    sampler = Sampler(task, count, size)
    drawn = [sampler.draw(np.random.default_rng([seed, 22])) for seed in range(batches)]
    by_name = {
        "verl, mean over answers": np.array([proxies(x, over_tokens=False) for x in drawn]),
        "verl, mean over tokens": np.array([proxies(x, over_tokens=True) for x in drawn]),
    }
    measured = [ours(x) for x in drawn]
    found = {}
    for i, quantity in enumerate(QUANTITIES):
        rows = np.array([x[quantity] for x in measured])
        covered = (rows[:, 1] <= truth[i]) & (truth[i] <= rows[:, 2])
        found[quantity] = {
            "truth": truth[i],
            **{name: (float(x[:, i].mean()), float(x[0, i])) for name, x in by_name.items()},
            "ours": (float(rows[:, 0].mean()), *(float(x) for x in rows[0])),
            "covers": float(covered.mean()) if np.isfinite(rows[:, 1:]).all() else None,
        }
    return found


def as_table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown: the truth, and each estimate over the truth: on average, and on one batch."""
    names = "verl, mean over answers", "verl, mean over tokens"
    lines = [
        f"| | truth | {names[0]} | {names[1]} | ours | ours on one batch, 95 % interval | covers |",
        "|---|---|---|---|---|---|---|",
    ]
    for quantity, row in found.items():
        truth = row["truth"]
        shares = [f"{row[name][0] / truth:.2f} ({row[name][1] / truth:.2f})" for name in names]
        mean, one, low, high = (x / truth for x in row["ours"])
        interval = "–" if row["covers"] is None else f"{low:.2f} … {high:.2f}"
        covers = "–" if row["covers"] is None else f"{100 * row['covers']:.0f} %"
        cells = [quantity, f"{truth:.4g}", *shares, f"{mean:.2f} ({one:.2f})", interval, covers]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--groups", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    everything = {}
    for name, task in TASKS.items():
        found = measure(task(), options.groups, options.group_size, options.batches)
        everything[name] = found
        print(
            f"{name}; {options.groups} groups of {options.group_size}; mean over "
            f"{options.batches} batches as a share of the truth, and one batch in brackets\n"
        )
        print(as_table(found) + "\n")
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()

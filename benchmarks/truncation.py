"""The bias of truncated backpropagation: gradients of segments against those of whole episodes.

    python benchmarks/truncation.py RESULTS.jsonl [--tasks …] [--seeds 3] [--episodes N]

A policy with memory is trained for a while. Fresh whole episodes of it are weighed once, by the
estimator that trains it. The weights times the scores are then summed twice: with backpropagation
through whole episodes, and with one that ends at the first row of every segment of T steps, where
what is remembered is taken as given. The first segment of an episode has a random length, as where
segments follow each other. Episodes, actions and weights are the same, so that only what
backpropagation leaves out differs.

Reported are ‖E g_T − E g‖ / ‖E g‖ and the cosine of both means, with 95 % intervals by the
jackknife over groups of episodes. One JSON line a policy; policies that are in the file are not
measured again.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from common import append_line, provenance, read_lines
from hidden_velocities import CompiledHiddenVelocities
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

import policygrad
from policygrad.core.trajectories import Trajectories
from policygrad.diagnostics import compare_gradients, noise_of_gradients
from policygrad.diagnostics.intervals import Measured
from policygrad.diagnostics.streaming import weights_of
from policygrad.doctor.collecting import collect
from policygrad.doctor.fitted_estimator import FittedEstimator
from policygrad.doctor.subject import Subject
from policygrad.gradients.scores import policy_gradient
from policygrad.policies.space_policy import RecurrentPolicy
from policygrad.training.ongoing import Ongoing

STEPS = (1, 4, 16, 64, 128)
MOST = 128  # a multiple of them all: each segment may begin anywhere in an episode
GROUPS = 64
ALL, REMEMBERED = "all parameters", "encoder and cell"
MEASURED = ("bias", "cosine")
LONGEST = 300_000  # environment steps of training
WHOLE = "whole episodes"
MANY = 10**12  # episodes of a batch whose noise is nothing: its cosine is that of the means


@dataclass(frozen=True)
class Task:
    """Which policy is measured.

    Attributes:
        env: gives what `policygrad.train` takes.
        until: training ends with the first update after which recent episodes return this much.
        episodes: that are measured.
        kwargs: `env_kwargs`.
    """

    env: Callable[[], Any]
    until: float
    episodes: int
    kwargs: dict[str, Any] = field(default_factory=dict)


def memory_chain() -> str:
    """An id."""
    return "gymnax/MemoryChain-bsuite"


HIDDEN = cache(CompiledHiddenVelocities)
TASKS = {
    "hidden CartPole, 60": Task(HIDDEN, 60.0, 2048),
    "hidden CartPole, 200": Task(HIDDEN, 200.0, 512),
    "MemoryChain of 30, 0.3": Task(memory_chain, 0.3, 4096, {"memory_length": 30}),
}


class Cut(eqx.Module):
    """A policy whose carry counts as a constant where a flag says that a segment begins.

    Its observations are pairs of an observation and a flag. It has the gradient of the policy that
    reads each segment by itself, from its recorded carry on.
    """

    policy: RecurrentPolicy

    def initial_carry(self) -> PyTree:
        return self.policy.initial_carry()

    def __call__(self, observation: tuple[PyTree, Array], carry: PyTree) -> tuple[Any, PyTree]:
        seen, begins = observation
        constant = jax.lax.stop_gradient(carry)
        carry = jax.tree.map(lambda a, b: jnp.where(begins, a, b), constant, carry)
        return self.policy(seen, carry)


@jax.jit
def gradient(
    policy: RecurrentPolicy, record: Trajectories, weights: Array, begins: Bool[Array, "T N"]
) -> dict[str, Float[Array, " d"]]:
    """Σ Ψ z of whole episodes, a mean over them, with backpropagation that ends at some rows.

    Args:
        policy: at the parameters that acted.
        record: whole episodes.
        weights: `[T, N]`, Ψ.
        begins: `[T, N]`, the rows before which backpropagation ends.

    Returns:
        Of all parameters, and of those that decide what is remembered: encoder and cell. The head
        behind them has the same gradient whatever is cut.
    """
    flagged = replace(record, observations=(record.observations, begins))
    found = policy_gradient(Cut(policy), flagged, weights).policy
    parts = {ALL: found, REMEMBERED: (found.network.encoder, found.network.cell)}
    return {name: ravel_pytree(part)[0] for name, part in parts.items()}


def measure(run: policygrad.Run, env: Any, episodes: int) -> dict[str, Any]:
    """Relative bias and cosine at the end of a run, by the length of a segment."""
    subject = Subject.of(run.path, {} if isinstance(env, str) else {"env": env})
    source = subject.source(32)
    fitted = FittedEstimator.of(subject, run.agent, source)
    limit = source.time_limit or 1000
    key = jax.random.key(run.config.seed + 1000)
    record, _ = collect(source, run.policy, key, episodes, limit)
    psi = weights_of(fitted.plain, fitted.state, fitted.scaled(record)).psi
    record, psi = jax.tree.map(np.asarray, (replace(record, cut_observations=()), psi))
    phases = np.random.default_rng(run.config.seed).integers(MOST, size=episodes)
    times = np.arange(len(psi))[:, None]

    def rows(steps: int | None) -> dict[str, np.ndarray]:
        begins = np.zeros(psi.shape, bool) if steps is None else (times + phases) % steps == 0
        of_group = [slice(g, None, GROUPS) for g in range(GROUPS)]
        found = [
            gradient(run.policy, *jax.tree.map(lambda x, g=g: x[:, g], (record, psi, begins)))
            for g in of_group
        ]
        return {name: np.stack([np.asarray(row[name]) for row in found]) for name in found[0]}

    whole = rows(None)
    lengths_of = {name: noise_of_gradients(x).total.norm for name, x in whole.items()}
    found = []
    for steps in STEPS:
        line: dict[str, Any] = {"steps": steps}
        for name, segments in rows(steps).items():
            both = {WHOLE: whole[name], "segments": segments}
            compared = compare_gradients(both, reference=WHOLE, batch_episodes=MANY)
            of_segments = compared.estimators["segments"]
            line[name] = {
                "bias": plain(over(of_segments.bias, lengths_of[name])),
                "cosine": plain(of_segments.cosine),
            }
        found.append(line)
    lengths = record.valid.sum(axis=0)
    return {
        "segments": found,
        "episodes": episodes,
        "mean_length": float(lengths.mean()),
        "return": float((record.rewards * record.valid).sum(axis=0).mean()),
        "norm": {name: plain(length) for name, length in lengths_of.items()},
    }


def over(one: Measured, other: Measured) -> Measured:
    """A quotient of positive numbers, whose interval covers where both intervals do."""
    if other.low <= 0:
        return Measured(float("nan"), 0.0, float("inf"))
    return Measured(one.value / other.value, one.low / other.high, one.high / other.low)


def plain(measured: Measured) -> dict[str, float]:
    """Value and bounds."""
    return {"value": measured.value, "low": measured.low, "high": measured.high}


def policy_line(name: str, seed: int, algorithm: str, episodes: int | None) -> dict[str, Any]:
    """One policy, trained and measured."""
    task = TASKS[name]

    def far_enough(now: Ongoing) -> Any:
        return policygrad.STOP if (now["return_mean"] or 0.0) >= task.until else None

    with tempfile.TemporaryDirectory() as folder:
        run = policygrad.train(
            task.env(),
            env_kwargs=task.kwargs or None,
            out=Path(folder, "run"),
            algorithm=algorithm,
            memory="gru",
            step_size_schedule="constant",
            seed=seed,
            total_steps=LONGEST,
            on_update=far_enough,
        )
        found = measure(run, task.env(), episodes or task.episodes)
    steps = run.summary["env_steps"]
    return {"task": name, "algorithm": algorithm, "seed": seed, "env_steps": steps} | found


def table(lines: list[dict[str, Any]]) -> str:
    """A row a policy and length of a segment: medians over seeds, and in brackets from the lowest
    end of an interval to the highest."""
    rows = [
        "| policy, trained until | seeds | return | T | relative bias | cosine "
        "| bias of encoder and cell | cosine |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task in dict.fromkeys(line["task"] for line in lines):
        of_task = [line for line in lines if line["task"] == task]
        returns = statistics.median(line["return"] for line in of_task)
        for number, steps in enumerate(STEPS):
            cells = [line["segments"][number] for line in of_task]
            shown = " | ".join(
                over_seeds([cell[part][what] for cell in cells])
                for part in (ALL, REMEMBERED)
                for what in MEASURED
            )
            rows.append(f"| {task} | {len(cells)} | {returns:.3g} | {steps} | {shown} |")
    return "\n".join(rows)


def over_seeds(found: list[dict[str, float]]) -> str:
    """`median [lowest, highest]`."""
    middle = statistics.median(x["value"] for x in found)
    ends = min(x["low"] for x in found), max(x["high"] for x in found)
    return f"{middle:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]"


def main() -> None:
    """Measure what is not in the file yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, metavar="RESULTS.jsonl")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--algorithm", default="ppo")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, help="in place of each task's own number")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    origin = provenance()
    keys = ("task", "algorithm", "seed")
    known = {tuple(line[k] for k in keys) for line in read_lines(options.results)}
    for seed in range(options.seeds):
        for name in options.tasks:
            if (name, options.algorithm, seed) in known:
                continue
            line = policy_line(name, seed, options.algorithm, options.episodes)
            append_line(options.results, line | origin)
            print(name, seed, file=sys.stderr, flush=True)
    lines = read_lines(options.results)
    print(table(lines))
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()

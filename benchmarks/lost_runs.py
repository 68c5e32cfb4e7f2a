"""Tasks where plain policy gradients lose their way, with the defaults and with what helps.

    python benchmarks/lost_runs.py run RESULTS.jsonl [--tasks ...] [--seeds 10 11 12 13 14]
    python benchmarks/lost_runs.py table RESULTS.jsonl

FrozenLake-v1 and CliffWalking-v1 hold their own model, so the mean return of the policy that a run
ends with is computed and not sampled: over the 100 steps that FrozenLake lasts, and over the first
1,000 of CliffWalking, which has no limit. Pendulum-v1's is the stochastic policy's over 100
episodes. What is in the file is not run again; RESULTS.jsonl of an older version, made by its
source tree, stands beside it with its commit.
"""

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
from common import append_line, provenance, read_lines

import policygrad
from policygrad.maths.intervals import iqm_interval
from policygrad.tabular import FixedPolicy, from_gymnasium, objective

STEPS = {"FrozenLake-v1": 150_000, "CliffWalking-v1": 100_000, "Pendulum-v1": 250_000}
HORIZONS = {"FrozenLake-v1": 100, "CliffWalking-v1": 1000}
CHANGES: dict[str, tuple[dict[str, Any], ...]] = {
    "FrozenLake-v1": ({}, {"entropy_coefficient": 0.01}),
    "CliffWalking-v1": ({}, {"algorithm": "natural", "damping": 0.001}),
    "Pendulum-v1": ({}, {"algorithm": "natural"}),
}


def exact_return(task: str, agent: policygrad.Agent) -> float:
    """The mean return of a policy over the first steps of a task that holds its model."""
    mdp = from_gymnasium(gymnasium.make(task), horizon=HORIZONS[task])
    log_probs = jax.vmap(lambda state: agent.policy(state).log_probs)(np.arange(mdp.states))
    probabilities = np.exp(np.asarray(log_probs, np.float64))
    policy = FixedPolicy(probabilities / probabilities.sum(axis=1, keepdims=True))
    return float(objective(mdp, policy, discount=1.0))


def mean_return(task: str, run: policygrad.Run, seed: int) -> float:
    """The mean return of the policy that a run ended with."""
    if task in HORIZONS:
        return exact_return(task, run.agent)
    return policygrad.evaluate(run, seed=10_000 + seed).stochastic.mean


def run(options: argparse.Namespace) -> None:
    """Run what is not in the file yet."""
    origin = provenance()
    ran = [(line["task"], line["change"], line["seed"]) for line in read_lines(options.file)]
    cells = [(t, c, s) for t in options.tasks for c in CHANGES[t] for s in options.seeds]
    for task, change, seed in cells:
        if (task, change, seed) in ran:
            continue
        found = policygrad.train(task, seed=seed, total_steps=STEPS[task], **change)
        if found.interrupted:
            sys.exit("interrupted; the run that was under way is not in the file")
        last = found.metrics[-1]
        line = {
            "task": task,
            "change": change,
            "seed": seed,
            "steps": STEPS[task],
            "mean_return": mean_return(task, found, seed),
            **{name: last[name] for name in ("episodes", "entropy", "step_size")},
        }
        append_line(options.file, line | origin)
        print(task, change, seed, line["mean_return"], file=sys.stderr, flush=True)


def table(options: argparse.Namespace) -> None:
    """Print a row a task and change."""
    lines = read_lines(options.file)
    print("| task | steps | change | IQM, 95 % interval | mean return by seed |")
    print("|---|---|---|---|---|")
    for task in STEPS:
        for change in CHANGES[task]:
            cells = [x for x in lines if (x["task"], x["change"]) == (task, change)]
            if not cells:
                continue
            returns = [x["mean_return"] for x in cells]
            iqm, (low, high) = iqm_interval(returns)
            told = ", ".join(f"{name} {value}" for name, value in change.items()) or "defaults"
            seeds = ", ".join(f"{x:,.4g}" if abs(x) > 1e-4 else "0" for x in returns)
            print(
                f"| {task} | {cells[0]['steps']:,} | {told} | {iqm:,.4g} [{low:,.4g}, {high:,.4g}] "
                f"| {seeds} |"
            )


def main() -> None:
    """Parse the command line and do what it asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(required=True)
    for action in (run, table):
        sub = actions.add_parser(action.__name__, help=(action.__doc__ or "").splitlines()[0])
        sub.add_argument("file", type=Path, metavar="RESULTS.jsonl")
        sub.set_defaults(action=action)
        if action is run:
            sub.add_argument("--tasks", nargs="+", choices=list(STEPS), default=list(STEPS))
            sub.add_argument("--seeds", nargs="+", type=int, default=list(range(10, 15)))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.action(options)


if __name__ == "__main__":
    main()

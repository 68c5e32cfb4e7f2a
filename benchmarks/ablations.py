"""Settings against each other: tasks × settings × five seeds.

    python benchmarks/ablations.py run ABLATIONS.jsonl [--study defaults] [--tasks ...] [--seeds 5]
    python benchmarks/ablations.py table ABLATIONS.jsonl

A study is a list of changes to the defaults:

    defaults    one setting at a time against its alternatives
    episodes    how many whole episodes make a batch, or as many as the noise scale asks for
    baselines   what is subtracted from rewards to go, in batches of 16 whole episodes

The seeds of a JAX-native task train together, as `policygrad.train_seeds` trains them; others one
after the other in this process. What is in the file is not run again. Reported are the stochastic
policy's mean return over 100 evaluation episodes, and the mean training return over the run, which
tells slow learning from fast where both end alike.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from common import append_line, provenance, read_lines
from summary import interval, mean_over_run, number

import policygrad
from policygrad.maths.intervals import iqm_interval

TASKS = {
    "gymnax/CartPole-v1": 100_000,
    "gymnax/Pendulum-v1": 250_000,
    "HalfCheetah-v5": 250_000,
}
CONTINUOUS = ("gymnax/Pendulum-v1", "HalfCheetah-v5")
CHOICES: dict[str, tuple[Any, ...]] = {
    "batch_steps": (1024, 4096),
    "gae_lambda": (0.9, 0.98, 1.0),
    "target_kl": (0.005, 0.02),
    "adam_epsilon": (1e-3,),
    "critic_epochs": (1, 5),
    "scale_rewards": (False,),
    "normalise_observations": (False,),
    "normalise_advantages": (False,),
    "log_std": (0.0, -1.0),
    "log_std_step": (1.0, 3.0),
    "tanh_gaussian": (True,),
    "clipped_gaussian": (True,),
    "step_size_schedule": ("linear",),
}
OF_CONTINUOUS_ACTIONS = ("log_std", "log_std_step", "tanh_gaussian", "clipped_gaussian")
STUDIES = ("defaults", "episodes", "baselines")
EPISODES = (8, 16, 32, 64, 128, "adaptive")
BASELINES = (
    "none",
    "constant",
    "time-dependent",
    "linear-features",
    "variance-optimal",
    "value-network",
)


def changes(study: str, task: str) -> list[dict[str, Any]]:
    """The settings of every cell that differ from the defaults."""
    if study == "episodes":
        return [{"batch_episodes": episodes} for episodes in EPISODES]
    if study == "baselines":
        whole = {"estimator": "reward-to-go", "batch_episodes": 16}
        return [whole | {"baseline": name} for name in BASELINES]
    return [{}] + [
        {name: value}
        for name, values in CHOICES.items()
        for value in values
        if task in CONTINUOUS or name not in OF_CONTINUOUS_ACTIONS
    ]


def trained(task: str, seeds: range, settings: dict[str, Any]) -> dict[int, Any]:
    """A run a seed."""
    if task.startswith("gymnax/"):
        result = policygrad.train_seeds(task, seeds, **settings)
        if result.failures:
            raise result.failures[min(result.failures)]
        return result.runs
    return {seed: policygrad.train(task, seed=seed, **settings) for seed in seeds}


def run(options: argparse.Namespace) -> None:
    """Run what is not in the file yet."""
    origin = provenance()
    ran = [(line["task"], line["algorithm"], line["change"]) for line in read_lines(options.file)]
    cells = [(task, change) for task in options.tasks for change in changes(options.study, task)]
    for task, change in cells:
        if (task, options.algorithm, change) in ran:
            continue
        settings = {"algorithm": options.algorithm} | change
        settings["total_steps"] = options.steps or TASKS[task]
        started = time.perf_counter()
        runs = trained(task, range(options.seeds), settings)
        seconds = time.perf_counter() - started
        evaluated = {
            seed: policygrad.evaluate(run, seed=10_000 + seed) for seed, run in runs.items()
        }
        line = {
            "task": task,
            "algorithm": options.algorithm,
            "change": change,
            "steps": settings["total_steps"],
            "seeds": list(runs),
            "stochastic": [result.stochastic.mean for result in evaluated.values()],
            "over_run": [mean_over_run(run.metrics) for run in runs.values()],
            "seconds": seconds,
        }
        append_line(options.file, line | origin)
        print(task, change, f"{seconds:.0f} s", file=sys.stderr, flush=True)


def label(change: dict[str, Any]) -> str:
    """A changed setting in words."""
    return ", ".join(f"{name} {value}" for name, value in change.items()) or "defaults"


def table(options: argparse.Namespace) -> None:
    """Print a table a task and algorithm."""
    lines = read_lines(options.file)
    for task, algorithm in dict.fromkeys((line["task"], line["algorithm"]) for line in lines):
        cells = [li for li in lines if (li["task"], li["algorithm"]) == (task, algorithm)]
        steps, seeds = cells[0]["steps"], len(cells[0]["seeds"])
        print(f"\n### {task}, {algorithm}, {steps:,} steps, {seeds} seeds\n")
        print("| change | IQM at the end | 95 % interval | IQM over the run | 95 % interval |")
        print("|---|---|---|---|---|")
        for cell in cells:
            found = [iqm_interval(cell[name]) for name in ("stochastic", "over_run")]
            shown = " | ".join(f"{number(iqm)} | {interval(ends)}" for iqm, ends in found)
            print(f"| {label(cell['change'])} | {shown} |")


def main() -> None:
    """Parse the command line and do what it asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(required=True)
    for action in (run, table):
        sub = actions.add_parser(action.__name__, help=(action.__doc__ or "").splitlines()[0])
        sub.add_argument("file", type=Path, metavar="ABLATIONS.jsonl")
        sub.set_defaults(action=action)
        if action is run:
            sub.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
            sub.add_argument("--study", choices=STUDIES, default="defaults")
            sub.add_argument("--algorithm", default="vanilla")
            sub.add_argument("--seeds", type=int, default=5)
            sub.add_argument("--steps", type=int, help="in place of each task's own number")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.action(options)


if __name__ == "__main__":
    main()

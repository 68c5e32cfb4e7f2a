"""How much of the gradient's variance does a baseline take away: measured, exact, and in training?

    python benchmarks/baselines.py train RUNS [--seeds 10] [--steps 100000]
    python benchmarks/baselines.py variance [--steps 25000] [--episodes 2048]
    policygrad plot RUNS/none RUNS/constant RUNS/value-network --out baselines_trained.png

Rewards to go less nothing, less a constant, or less a value network. `train` trains CartPole with
each on the same seeds (those in RUNS are not trained again), all else as by default: in segments,
where a critic's value follows the rewards at a cut (GAE with λ = 1). It prints the mean return of
the last 100 episodes at the end and over the run.

`variance` prints two tables. The exact one is that of tasks of the gallery, where the constant is
the mean return to go of a step and the value network is V. The other is measured at two fixed
policies of CartPole: one that is not trained, and one in the midst of training, on whole episodes.
Baselines are fitted to other episodes of the same policy than those that are measured.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from summary import interval, mean_over_run, number

import policygrad
from policygrad import baselines, diagnostics, environments, estimators
from policygrad.maths.intervals import iqm_interval
from policygrad.rollout import make_collector
from policygrad.runs import RunDirectory, seed_directories
from policygrad.spaces import ObservationEncoder, space_of
from policygrad.tabular import FiniteMDP, gallery, moments, solve

TASK, BATCH = "gymnax/CartPole-v1", 16
BASELINES = ("none", "constant", "value-network")
SETTINGS: dict[str, Any] = {"estimator": "gae", "gae_lambda": 1.0}
EXACT = ("chain", "gridworld", "cliff", "random", "short-corridor")
DISCOUNT = 0.99
UNIT = 512  # episodes that are collected at once
FITS = 10  # of a baseline, each to UNIT other episodes


def train(options: argparse.Namespace) -> None:
    """Train what is not there yet, and print the returns."""
    print(f"\n{TASK}, {options.steps:,} steps, {options.seeds} seeds\n")
    print("| `--baseline` | IQM at the end | 95 % interval | IQM over the run | 95 % interval |")
    print("|---|---|---|---|---|")
    for name in BASELINES:
        out = options.runs / name
        if not seed_directories(out):
            runs = policygrad.train_seeds(
                TASK, range(options.seeds), out=out, baseline=name, total_steps=options.steps,
                **SETTINGS,
            )  # fmt: skip
            if runs.failures or runs.interrupted:
                sys.exit(f"not all runs in {out} ended; remove it and begin again")
        metrics = [RunDirectory(path).read_metrics() for path in seed_directories(out)]
        ends = [rows[-1]["return_mean"] for rows in metrics]
        found = [iqm_interval(x) for x in (ends, [mean_over_run(rows) for rows in metrics])]
        shown = " | ".join(f"{number(iqm)} | {interval(bounds)}" for iqm, bounds in found)
        print(f"| {name} | {shown} |", flush=True)


def mean_return_to_go(mdp: FiniteMDP, values: np.ndarray, occupancy: np.ndarray) -> float:
    """What a constant baseline is fitted to: Σ P(s_t = s) V_t(s) / Σ P(s_t = s), over steps."""
    steps = np.where(mdp.absorbing, 0.0, occupancy)
    return float(np.sum(steps * values) / np.sum(steps))


def exact_variances(name: str) -> dict[str, float]:
    """The variance of one episode's gradient with each baseline, on a task of the gallery."""
    mdp, policy = gallery.TASKS[name]()
    solution = solve(mdp, policy, discount=1.0)
    values = solution.values[: len(solution.occupancy)]  # without the row at the horizon
    used = {
        "none": baselines.none(),
        "constant": baselines.constant(mean_return_to_go(mdp, values, solution.occupancy)),
        "value-network": baselines.table(values),
    }
    return {
        key: moments(mdp, policy, estimators.reward_to_go(baseline=baseline)).variance
        for key, baseline in used.items()
    }


class Fixed:
    """A policy of CartPole, and episodes with it.

    Args:
        steps: of training with the value network, seed 0, before the policy is fixed.
    """

    def __init__(self, steps: int) -> None:
        self.environment = environments.make(TASK, BATCH)
        space, key = self.environment.observation_space, jax.random.key(0)
        self.space = space_of(space)
        self.policy = policygrad.network_policy(key, space, self.environment.action_space)
        if steps:
            run = policygrad.train(TASK, total_steps=steps, **SETTINGS)
            self.policy = run.policy
        self.collector = make_collector(
            self.environment, self.policy, key, num_envs=BATCH, episodes=UNIT
        )

    def episodes(self, seed: int, count: int) -> Any:
        """Batches of `UNIT` episodes."""
        for key in jax.random.split(jax.random.key(seed), count // UNIT):
            yield self.collector.collect(self.policy, key)

    def fitted(self, baseline: Any) -> tuple[Any, Any]:
        """Rewards to go less a baseline that was fitted to the policy's returns; its state."""
        estimator = estimators.reward_to_go(discount=DISCOUNT, baseline=baseline)
        estimator = estimator.bind(ObservationEncoder(self.space))
        state, explained = estimator.init(jax.random.key(1), self.space.example()), 0.0
        if not estimator.subtracts:
            return estimator, state
        fit = jax.jit(estimator.fit)
        for i, record in enumerate(self.episodes(2, FITS * UNIT)):
            returns = estimator.weights(state, record).returns
            state, explained = fit(state, jax.random.key(i), self.policy, record, returns)
        print(f"  {type(baseline).__name__} explains {explained:.3f} of the returns' variance")
        return estimator, state

    def compared(self, episodes: int) -> diagnostics.Comparison:
        """The variance with each baseline, on the same episodes."""
        used = {
            "none": baselines.none(),
            "constant": baselines.constant(),
            "value-network": baselines.value_network(step_size=3e-3, minibatches=32),
        }
        candidates = {name: self.fitted(baseline) for name, baseline in used.items()}
        return diagnostics.compare_estimators(
            self.policy, candidates, self.episodes(3, episodes), batch_episodes=BATCH,
            reference="none",
        )  # fmt: skip


def variance(options: argparse.Namespace) -> None:
    """Print the exact variances, and those of CartPole."""
    print("| task | " + " | ".join(BASELINES) + " |")
    print("|---|" + "---|" * len(BASELINES))
    for name in EXACT:
        found = exact_variances(name)
        print(f"| {name} | " + " | ".join(f"{found[key]:,.4g}" for key in BASELINES) + " |")
    for steps in (0, options.steps):
        print(f"\nCartPole after {steps:,} steps", flush=True)
        found = Fixed(steps).compared(options.episodes).estimators
        for name in BASELINES:
            own, ratio = found[name].variance, found[name].variance_ratio
            print(
                f"  {name}: {own.value:,.4g} [{own.low:,.4g}, {own.high:,.4g}], of that without "
                f"{ratio.value:.3g} [{ratio.low:.3g}, {ratio.high:.3g}]",
                flush=True,
            )


def main() -> None:
    """Parse the command line and do what it asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(required=True)
    trains = actions.add_parser("train", help=train.__doc__)
    trains.add_argument("runs", type=Path, metavar="RUNS")
    trains.add_argument("--seeds", type=int, default=10)
    trains.add_argument("--steps", type=int, default=100_000)
    trains.set_defaults(action=train)
    measures = actions.add_parser("variance", help=variance.__doc__)
    measures.add_argument("--steps", type=int, default=25_000, help="of the trained policy")
    measures.add_argument("--episodes", type=int, default=2048, help="that are measured")
    measures.set_defaults(action=variance)
    options = parser.parse_args()
    options.action(options)


if __name__ == "__main__":
    main()

"""How fast the exact laboratory is: two fixed tasks, and cost against T and against transitions.

    python benchmarks/tabular_speed.py [--plot FILE] [--skip-scaling]

Times are after compilation, the best of a few repetitions; the first call is given apart. Peak
memory is that of the whole process, imports included.
"""

import argparse
import json
import resource
import sys
import time

import gymnasium
import jax
import numpy as np

from policygrad import baselines, estimators
from policygrad.tabular import FiniteMDP, SoftmaxPolicy, from_gymnasium, gallery, moments


def timed(call, repetitions=3):
    """Seconds of the first call, and the best of the others."""
    seconds = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds[0], min(seconds[1:])


def peak_gib():
    """The most resident memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def dense_covariance():
    """50 states, 4 actions, T = 100, d = 200, the full covariance."""
    mdp, policy = gallery.random_mdp(0, states=50, actions=4, horizon=100)
    critic = baselines.table(np.random.default_rng(0).normal(size=50))
    estimator = estimators.gae(discount=0.99, gae_lambda=0.95, critic=critic)
    return timed(lambda: moments(mdp, policy, estimator, covariance=True))


def taxi(repetitions=1):
    """Gymnasium's Taxi, T = 200, d = 3,000, mean and trace."""
    env = gymnasium.make(newest("Taxi"))
    mdp = from_gymnasium(env, horizon=200)
    policy = SoftmaxPolicy.of(np.random.default_rng(0).normal(size=(mdp.states, mdp.actions)))
    estimator = estimators.reward_to_go(discount=0.99, baseline=baselines.constant(-10.0))
    return timed(lambda: moments(mdp, policy, estimator), repetitions)


def newest(name):
    """The newest registered version of an environment."""
    found = [spec for spec in gymnasium.registry.values() if spec.name == name]
    return max(found, key=lambda spec: spec.version or 0).id


def interleaved(calls, rounds=5):
    """The best of a few rounds of each call; in turns, so that a busy moment hits them all."""
    for call in calls:
        call()
    seconds = [[] for _ in calls]
    for _ in range(rounds):
        for call, kept in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            kept.append(time.perf_counter() - start)
    return [min(kept) for kept in seconds]


def over_horizons(horizons=(100, 200, 400, 800, 1600)):
    """Seconds against T, on one sparse random MDP."""
    made, policy = gallery.random_mdp(0, states=200, actions=4, successors=4)
    estimator = estimators.reward_to_go()
    mdps = [FiniteMDP(made.transitions, made.rewards, made.initial, t) for t in horizons]
    calls = [lambda m=m: moments(m, policy, estimator) for m in mdps]
    return list(zip(horizons, interleaved(calls), strict=True))


def over_transitions(slots=(4, 16, 32, 64, 128)):
    """Seconds against the number of non-zero transitions, all else equal."""
    estimator = estimators.reward_to_go()
    tasks = [gallery.random_mdp(0, states=200, actions=4, successors=k, horizon=100) for k in slots]
    calls = [lambda task=task: moments(*task, estimator) for task in tasks]
    counts = [200 * 4 * k for k in slots]
    return list(zip(counts, interleaved(calls), strict=True))


def plot(curves, path):
    """Both curves, each with its least-squares line: a fixed cost and a cost per unit."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, (label, rows) in zip(axes, curves.items(), strict=True):
        x, y = np.array(rows).T
        slope, fixed = np.polyfit(x, y, 1)
        axis.plot(x, y, "o", label="measured")
        axis.plot(x, fixed + slope * x, "--", color="grey", label=f"{fixed:.2g} + {slope:.2g} x")
        axis.set(xlabel=label, ylabel="seconds")
        axis.legend()
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot")
    parser.add_argument("--skip-scaling", action="store_true")
    options = parser.parse_args()
    result = {"jax": jax.__version__, "python": sys.version.split()[0]}
    for name, task in (("taxi", taxi), ("dense_covariance", dense_covariance)):
        first, again = task()
        result[name] = {
            "first_s": round(first, 3),
            "seconds": round(again, 3),
            "peak_gib": round(peak_gib(), 2),
        }
        print(json.dumps({name: result[name]}), flush=True)
    if not options.skip_scaling:
        curves = {"horizon T": over_horizons(), "non-zero transitions": over_transitions()}
        result["scaling"] = {k: [(x, round(s, 4)) for x, s in v] for k, v in curves.items()}
        if options.plot:
            plot(curves, options.plot)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

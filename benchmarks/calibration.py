"""Do the diagnostics' 95 % intervals cover? Finite MDPs, where every exact value is known.

Each repetition samples N whole episodes of a gallery task through `tabular.as_environment`, and
asks whether each reported interval contains the exact value. The share over the repetitions should
lie between 90 and 99 %; with 95 % coverage the chance of fewer than 180 of 200 is 0.3 % a quantity.

    python benchmarks/calibration.py [--tasks chain random ...] [--repetitions 200]
        [--episodes 1024] [--json FILE]

A repetition is one compiled program: episodes, weights, and the sums that the diagnostics are made
of in one chunk. That the public functions give the same numbers is for the tests.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from policygrad import baselines, estimators
from policygrad.diagnostics import baseline_quality, comparison, decomposition, noise, streaming
from policygrad.diagnostics.cosines import CosineCurve, predicted_cosine
from policygrad.diagnostics.intervals import GROUPS, GroupSums, Measured
from policygrad.rollout.episodes import collect_episodes
from policygrad.tabular import as_environment, gallery, moments, optimal_baseline

# θ = 0 of the bandits is a maximum of their variance, at which no interval can be two-sided; the
# "tilted" tasks have parameters drawn at random in place of θ = 0
TASKS = (
    "short-corridor",
    "chain",
    "gridworld",
    "cliff",
    "random",
    "discounted-counterexample",
    "sparse-credit",
)
MAX_STEPS = {"short-corridor": 256}
BATCH = 64
# the truth lies on the boundary of what is possible: an interval that ends there cannot miss it
AT_BOUNDARY = ("plain bias²", "baseline bias²")


def task_of(name: str) -> gallery.Task:
    """A gallery task; `tilted-NAME` at parameters drawn at random, `random-SEED` of its own."""
    plain = name.removeprefix("tilted-")
    head, _, seed = plain.rpartition("-")
    task = gallery.random_mdp(seed=int(seed)) if head == "random" else gallery.TASKS[plain]()
    if plain == name:
        return task
    noise = np.random.default_rng(1).normal(size=np.shape(task.policy.theta)) / 2
    return gallery.Task(task.mdp, replace(task.policy, theta=jnp.asarray(noise)))


@dataclass
class Case:
    """A task, three estimators on it, and everything that is exactly known about them."""

    name: str
    episodes: int = 1024
    groups: int = GROUPS

    def __post_init__(self) -> None:
        self.task = task_of(self.name)
        mdp = self.task.mdp
        discount = gallery.DISCOUNTS.get(self.name.removeprefix("tilted-"), 1.0)
        alive = np.asarray(mdp.edges.alive)
        table = baselines.table(alive * np.random.default_rng(0).normal(size=mdp.states) / 2)
        self.plain = estimators.reward_to_go(discount=discount)
        self.based = estimators.reward_to_go(discount=discount, baseline=table)
        self.biased = estimators.gae(discount=discount, gae_lambda=0.5, critic=table)
        self.reference = estimators.reward_to_go()
        self.sums = self._compiled()

    def _moments(self, estimator: Any, **options: Any) -> Any:
        return moments(self.task.mdp, self.task.policy, estimator, **options)

    def truth(self) -> dict[str, float]:
        """name -> exact value."""
        mdp, policy = self.task.mdp, self.task.policy
        x = self._moments(self.based, covariance=True)
        plain, biased = self._moments(self.plain), self._moments(self.biased)
        reference = self._moments(self.reference)
        bias2 = float(np.sum((biased.mean - reference.mean) ** 2))
        snr = np.sqrt(x.squared_mean / x.variance)
        self.direction = x.mean / np.sqrt(x.squared_mean)
        self.snr = snr
        self.along = float(self.direction @ x.covariance @ self.direction / x.variance)

        def best(family: Any) -> float:
            return optimal_baseline(mdp, policy, self.plain, family).variance

        excess = x.variance - best("state")
        batch = biased.squared_mean + biased.variance / BATCH
        return {
            "variance": x.variance,
            "squared norm": x.squared_mean,
            "norm": np.sqrt(x.squared_mean),
            "SNR": snr,
            "noise scale": snr**-2,
            "share along": self.along,
            "episodes for 0.5": _episodes_for(0.5, snr, self.along),
            "episodes for 0.9": _episodes_for(0.9, snr, self.along),
            "D": x.diagonal,
            "C": x.cross,
            "B": x.squared_mean,
            "F": x.approximation_ii,
            "D/Var": x.diagonal / x.variance,
            "C/Var": x.cross / x.variance,
            "F/Var": x.approximation_ii / x.variance,
            "removed from none": plain.variance - x.variance,
            "removed from constant": best("constant") - x.variance,
            "excess": excess,
            "excess/Var": excess / x.variance,
            "excess of none": plain.variance - best("state"),
            "per parameter": plain.variance - best("per_parameter"),
            "GAE variance": biased.variance,
            "GAE variance ratio": biased.variance / reference.variance,
            "GAE bias²": bias2,
            "GAE bias": np.sqrt(bias2),
            "GAE MSE": bias2 + biased.variance / BATCH,
            "GAE cosine": float(
                biased.mean @ reference.mean / np.sqrt(reference.squared_mean * batch)
            ),
            "plain bias²": float(np.sum((plain.mean - reference.mean) ** 2)),
            "baseline bias²": float(np.sum((x.mean - reference.mean) ** 2)),
        }

    def _compiled(self) -> Callable[..., dict[str, Any]]:
        env, policy, states = as_environment(self.task.mdp), self.task.policy, self.task.mdp.states
        steps = env.time_limit or MAX_STEPS.get(self.task.mdp.name, 16)
        which = self.plain, self.based, self.biased, self.reference
        quality = baseline_quality._ReduceBaseline(lambda s, t: jax.nn.one_hot(s, states))

        @jax.jit
        def sums(key: Any) -> dict[str, Any]:
            batch = collect_episodes(env, policy, key, episodes=self.episodes, max_steps=steps)
            record = batch.trajectories
            start = [e.init(key, jnp.zeros((), int)) for e in which]
            psi = [e.weights(s, record).psi for e, s in zip(which, start, strict=True)]

            def details(i: int) -> Any:
                return baseline_quality._details(which[i], start[i], record)

            rows = {
                "noise": noise.reduce_gradients(policy, record, psi[1]),
                "steps": decomposition.reduce_steps(policy, record, psi[1]),
                "judged": quality(policy, record, details(1)),
                "bare": quality(policy, record, details(0)),
                "compared": comparison._ReducePairs(3)(policy, record, jnp.stack(psi)),
            }
            groups = jnp.arange(self.episodes) % self.groups
            found = {
                k: streaming.add_rows(streaming.zeros_for(x, self.groups), x, groups)
                for k, x in rows.items()
            }
            return {"unfinished": batch.unfinished.sum(), **found}

        return sums

    def measured(self, key: Any) -> tuple[dict[str, Measured], CosineCurve]:
        """name -> interval, from one sample; and the cosines."""
        found: Mapping[str, Any] = jax.tree.map(np.asarray, self.sums(key))
        assert found["unfinished"] == 0
        counts = np.bincount(np.arange(self.episodes) % self.groups).astype(float)

        def grouped(name: str) -> GroupSums:
            return streaming.grouped(counts, found[name]).folded()

        parts = streaming.parts_of(self.task.policy)
        x = noise.noise_of_sums(grouped("noise"), parts)
        d = decomposition.decomposition_of_sums(grouped("steps"), parts).total
        judged = baseline_quality._quality(grouped("judged"))
        bare = baseline_quality._quality(grouped("bare"))
        names = "plain", "based", "gae", "reference"
        compared = comparison.comparison_of_sums(
            grouped("compared"), names, "reference", BATCH
        ).estimators
        gae = compared["gae"]
        return {
            "variance": x.total.variance,
            "squared norm": x.total.squared_norm,
            "norm": x.total.norm,
            "SNR": x.total.signal_to_noise,
            "noise scale": x.total.noise_scale,
            "share along": x.total.along,
            "episodes for 0.5": x.total.episodes_for[0.5],
            "episodes for 0.9": x.total.episodes_for[0.9],
            "D": d.diagonal,
            "C": d.cross,
            "B": d.squared_mean,
            "F": d.factored,
            "D/Var": d.diagonal_ratio,
            "C/Var": d.cross_ratio,
            "F/Var": d.factored_ratio,
            "removed from none": judged.removed_from_none,
            "removed from constant": judged.removed_from_constant,
            "excess": judged.excess,
            "excess/Var": judged.excess_ratio,
            "excess of none": bare.excess,
            "per parameter": bare.per_parameter,
            "GAE variance": gae.variance,
            "GAE variance ratio": gae.variance_ratio,
            "GAE bias²": gae.squared_bias,
            "GAE bias": gae.bias,
            "GAE MSE": gae.mean_squared_error,
            "GAE cosine": gae.cosine,
            "plain bias²": compared["plain"].squared_bias,
            "baseline bias²": compared["based"].squared_bias,
        }, x.cosines


def _episodes_for(cosine: float, snr: float, along: float) -> float:
    low, high = -12.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        if predicted_cosine(snr, np.exp(middle), along) >= cosine:
            high = middle
        else:
            low = middle
    return max(float(np.exp(high)), 1.0)


def covers(found: Measured, exact: float) -> bool:
    """Whether an interval contains the exact value, to rounding."""
    slack = 1e-6 * abs(exact) + 1e-9
    return bool(found.low - slack <= exact <= found.high + slack)


def _size(curve: Measured, i: int) -> Measured:
    return curve.map(lambda x: x[i])


@dataclass(frozen=True)
class Coverage:
    """How often the intervals of each quantity cover, over some repetitions.

    Attributes:
        shares: quantity -> share that cover.
        below: quantity -> share that lie below the exact value.
        exact: quantity -> exact value.
    """

    shares: dict[str, float]
    below: dict[str, float]
    exact: dict[str, float]


def coverage(case: Case, repetitions: int, seed: int = 0) -> Coverage:
    """Whether the intervals of `repetitions` samples cover.

    The exact mean cosine of a batch is not known; the mean over all repetitions stands in, whose
    own error is a fourteenth of an interval's.
    """
    found: dict[str, list[Measured]] = {}
    with jax.enable_x64(True):
        exact = case.truth()
        for key in jax.random.split(jax.random.key(seed), repetitions):
            measured, curve = case.measured(key)
            for i, n in enumerate(curve.episodes):
                for name, of in (
                    ("between", curve.between),
                    ("truth", curve.with_truth),
                    ("predicted", curve.with_truth_predicted),
                ):
                    measured[f"cosine {name} N={n:.0f}"] = _size(of, i)
                predicted = predicted_cosine(case.snr, np.array([n]), case.along)
                exact[f"cosine predicted N={n:.0f}"] = float(predicted[0])
            for k, x in measured.items():
                found.setdefault(k, []).append(x)
    for n in curve.episodes:
        mean = float(np.mean([x.value for x in found[f"cosine between N={n:.0f}"]]))
        exact[f"cosine between N={n:.0f}"] = mean
        exact[f"cosine truth N={n:.0f}"] = float(np.sqrt(max(mean, 0.0)))
    return Coverage(
        {k: float(np.mean([covers(x, exact[k]) for x in v])) for k, v in found.items()},
        {k: float(np.mean([x.high < exact[k] for x in v])) for k, v in found.items()},
        exact,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--episodes", type=int, nargs="+", default=[1024])
    parser.add_argument("--groups", type=int, default=GROUPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="print every quantity")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = []
    for name in arguments.tasks:
        for episodes in arguments.episodes:
            start = time.perf_counter()
            case = Case(name, episodes, min(arguments.groups, episodes))
            x = coverage(case, arguments.repetitions, arguments.seed)
            shares = x.shares
            outside = {k: v for k, v in shares.items() if not 0.9 <= v <= 0.99}
            print(
                f"{name}, {episodes} episodes: {len(shares)} quantities, "
                f"{100 * min(shares.values()):.1f} to {100 * max(shares.values()):.1f} %, mean "
                f"{100 * np.mean(list(shares.values())):.1f} %, {len(outside)} outside 90–99 "
                f"({time.perf_counter() - start:.0f} s)",
                flush=True,
            )
            for k in shares if arguments.all else outside:
                missed = f"below {100 * x.below[k]:.1f}"
                print(f"    {k:<28}{100 * shares[k]:6.1f}   {missed}   exact {x.exact[k]:.4g}")
            line = {"task": name, "episodes": episodes, "coverage": shares, "below": x.below}
            results.append(line)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

"""Do the intervals of the noise between and within groups cover? Tasks with known components.

Each repetition samples m groups of k episodes of the same start, and asks whether the 95 %
intervals of σ²_b and of σ²_w contain the true values. The share over the repetitions should lie
between 90 and 99 %.

    python benchmarks/group_calibration.py [--tasks random chain gridworld normal heavy]
        [--repetitions 400] [--groups 128] [--size 4]

random, chain and gridworld are tasks of the gallery; the last two start in any state that goes on,
with even odds. Their components follow from the exact moments of the task that starts in each of
its states: σ²_b = Σ_s p(s) ‖∇J_s‖² − ‖∇J‖², σ²_w = Σ_s p(s) Var_s. normal and heavy are gradients
drawn in 20 dimensions, with spectra that fall off; heavy has Student's t with 6 degrees of freedom
within groups, and starts that are noisier than others.
"""

import argparse
import time
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from policygrad import estimators
from policygrad.diagnostics import groups, streaming
from policygrad.diagnostics.intervals import GROUPS, Measured
from policygrad.rollout.episodes import collect_episodes
from policygrad.tabular import as_environment, gallery, moments

EVEN_STARTS = ("chain", "gridworld")
TASKS = ("random", *EVEN_STARTS, "normal", "heavy")
DIMENSION = 20


class OfTask:
    """A gallery task with several starts, and rewards to go without a baseline.

    Args:
        name: of `TASKS`.
        starts: m.
        size: k.
    """

    def __init__(self, name: str, starts: int, size: int) -> None:
        self.task, self.starts, self.size = gallery.TASKS[name](), starts, size
        if name in EVEN_STARTS:
            alive = np.asarray(self.task.mdp.edges.alive, float)
            self.task = self.task._replace(mdp=self._starting(alive / alive.sum()))
        self.estimator = estimators.reward_to_go()

    def _starting(self, initial: np.ndarray) -> Any:
        mdp = self.task.mdp
        return replace(mdp, initial=initial)

    def truth(self) -> dict[str, float]:
        """The exact components."""
        odds = np.asarray(self.task.mdp.edges.initial)
        one = np.eye(len(odds))
        of = {
            s: moments(self._starting(one[s]), self.task.policy, self.estimator)
            for s in np.flatnonzero(odds)
        }
        mean = sum(odds[s] * x.mean for s, x in of.items())
        square = sum(odds[s] * np.sum(x.mean**2) for s, x in of.items())
        within = sum(odds[s] * x.variance for s, x in of.items())
        return {"between": float(square - np.sum(mean**2)), "within": float(within)}

    @partial(jax.jit, static_argnums=0)
    def _sums(self, key: Any) -> dict[str, Any]:
        env, policy = as_environment(self.task.mdp), self.task.policy
        batch = collect_episodes(
            env, policy, key, episodes=self.starts * self.size, max_steps=env.time_limit or 16,
            group_size=self.size,
        )  # fmt: skip
        record = batch.trajectories
        psi = self.estimator.weights(self.estimator.init(key, jnp.zeros((), int)), record).psi
        rows = groups._ReduceStarts(1)(policy, record, psi)
        return streaming.add_rows(
            streaming.zeros_for(rows, GROUPS), rows, jnp.arange(self.starts) % GROUPS
        )

    def measured(self, key: Any) -> groups.NoiseInGroups:
        """From one sample."""
        counts = np.bincount(np.arange(self.starts) % GROUPS, minlength=GROUPS)
        sums = jax.tree.map(np.asarray, self._sums(key))
        return groups.noise_in_groups_of_sums(streaming.grouped(counts, sums, self.size), 1)


class Drawn:
    """Gradients that are drawn, with components that are chosen.

    Args:
        heavy: whether with tails, and with starts of unlike noise.
        starts: m.
        size: k.
    """

    def __init__(self, heavy: bool, starts: int, size: int) -> None:
        self.heavy, self.starts, self.size = heavy, starts, size
        self.of_start = 1.0 / np.arange(1, DIMENSION + 1)
        self.of_episode = 3.0 / np.sqrt(np.arange(1, DIMENSION + 1))

    def truth(self) -> dict[str, float]:
        """The components."""
        within = np.sum(self.of_episode**2)
        # of t with 6 degrees of freedom 6/4; of the scales' squares, uniform on [1/2, 3/2], 13/12
        factor = 1.5 * 13 / 12 if self.heavy else 1.0
        return {"between": float(np.sum(self.of_start**2)), "within": float(within * factor)}

    def measured(self, key: Any) -> groups.NoiseInGroups:
        """From one sample."""
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        shape = self.starts, self.size, DIMENSION
        start = rng.normal(size=(self.starts, 1, DIMENSION)) * self.of_start
        noise, scale = rng.normal(size=shape), 1.0
        if self.heavy:
            noise = rng.standard_t(6, size=shape)
            scale = rng.uniform(0.5, 1.5, size=(self.starts, 1, 1))
        each = 0.3 + start + scale * noise * self.of_episode
        mean = each.mean(axis=1)
        rows = {
            "gradient": mean,
            "square": (mean**2).sum(axis=1),
            "own square": (each**2).sum(axis=2).mean(axis=1),
        }
        of = np.arange(self.starts) % GROUPS
        member = 1.0 * (of == np.arange(GROUPS)[:, None])
        sums = {k: member @ x for k, x in rows.items()}
        counts = np.bincount(of, minlength=GROUPS)
        return groups.noise_in_groups_of_sums(streaming.grouped(counts, sums, self.size), 1)


def case_of(name: str, starts: int, size: int) -> OfTask | Drawn:
    """A task of `TASKS`."""
    if name in ("normal", "heavy"):
        return Drawn(name == "heavy", starts, size)
    return OfTask(name, starts, size)


def coverage(case: OfTask | Drawn, repetitions: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """quantity -> the share of intervals that cover, that lie below, and the true value."""
    found: dict[str, list[Measured]] = {}
    with jax.enable_x64(True):
        truth = case.truth()
        truth["share between"] = truth["between"] / (truth["between"] + truth["within"])
        for key in jax.random.split(jax.random.key(seed), repetitions):
            x = case.measured(key)
            measured = {"between": x.between, "within": x.within, "share between": x.share_between}
            for name, interval in measured.items():
                found.setdefault(name, []).append(interval)
    return {
        name: {
            "covers": float(np.mean([x.covers(truth[name]) for x in intervals])),
            "below": float(np.mean([x.high < truth[name] for x in intervals])),
            "true": truth[name],
            "mean": float(np.mean([x.value for x in intervals])),
        }
        for name, intervals in found.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--groups", type=int, default=128)
    parser.add_argument("--size", type=int, nargs="+", default=[4])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(f"{'task':<12}{'m':>6}{'k':>4}  {'quantity':<15}{'true':>10}{'mean':>10}{'covers':>9}")
    for name in arguments.tasks:
        for size in arguments.size:
            start = time.perf_counter()
            found = coverage(
                case_of(name, arguments.groups, size), arguments.repetitions, arguments.seed
            )
            for quantity, x in found.items():
                print(
                    f"{name:<12}{arguments.groups:>6}{size:>4}  {quantity:<15}{x['true']:>10.4g}"
                    f"{x['mean']:>10.4g}{100 * x['covers']:>8.1f}%  below {100 * x['below']:.1f}%",
                    flush=True,
                )
            print(f"    {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()

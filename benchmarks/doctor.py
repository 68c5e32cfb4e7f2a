"""Does the doctor name what was broken, and leave the healthy alone?

Twelve runs are broken on purpose, each in one place; `diagnose` has to name that place first. As
many are left whole; there it has to find nothing. Everything else is a default. Seeds differ in
environment, algorithm and length of training, so that no two seeds ask the same question.

    python benchmarks/doctor.py [--seeds 3] [--only NAME …] [--json FILE]
    python benchmarks/doctor.py --others                # on tasks that no rule was written on
"""

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import policygrad
from policygrad.core.errors import NonFiniteError
from policygrad.core.reflection import settings_of
from policygrad.training.built_in import ALGORITHMS

STEPS = (20_480, 40_960, 81_920)  # by seed
DISCRETE = (("CartPole-v1", "vanilla"), ("Acrobot-v1", "ppo"), ("CartPole-v1", "natural"))
CONTINUOUS = (
    ("Pendulum-v1", "vanilla"),
    ("MountainCarContinuous-v0", "ppo"),
    ("Pendulum-v1", "natural"),
)
MIXED = (("CartPole-v1", "vanilla"), ("Pendulum-v1", "ppo"), ("Acrobot-v1", "vanilla"))


class Broken(gymnasium.Wrapper):
    """An environment that returns something else than it should."""

    def __init__(self, env: gymnasium.Env, reward: Any = None, observation: Any = None) -> None:
        super().__init__(env)
        self._reward = reward or (lambda reward, rng: reward)
        self._observation = observation or (lambda observation: observation)

    def reset(self, **kwargs: Any) -> Any:
        observation, info = self.env.reset(**kwargs)
        return self._observation(observation), info

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        reward = self._reward(float(reward), self.np_random)
        return self._observation(observation), reward, *rest


def broken(name: str, **how: Any) -> Any:
    """What `train` takes: a function that makes a broken environment."""
    return partial(_make_broken, name, how)


def _make_broken(name: str, how: dict[str, Any]) -> gymnasium.Env:
    return Broken(gymnasium.make(name, disable_env_checker=True), **how)


@dataclass(frozen=True)
class Case:
    """One thing that is broken.

    Attributes:
        what: in words.
        expected: the finding that names it; None where nothing is broken.
        tasks: environment and algorithm, by seed.
        settings: of the algorithm's name.
        env: of the environment's name, what to train on.
    """

    what: str
    expected: str | None
    tasks: tuple[tuple[str, str], ...] = MIXED
    settings: Callable[[str], dict[str, Any]] = field(default=lambda algorithm: {})
    env: Callable[[str], Any] = field(default=lambda name: name)


def steps(factor: float) -> Callable[[str], dict[str, Any]]:
    """The step size times a factor; natural steps are sized by their KL."""

    def of(algorithm: str) -> dict[str, Any]:
        name = "target_kl" if algorithm in ("natural", "trpo") else "step_size"
        (default,) = (s.default for s in settings_of(ALGORITHMS[algorithm]) if s.name == name)
        return {name: factor * default}

    return of


def always(**settings: Any) -> Callable[[str], dict[str, Any]]:
    """The same settings for every algorithm."""
    return lambda algorithm: settings


CASES = (
    Case("step size × 100", "step-size-too-large", settings=steps(100)),
    Case("step size ÷ 1000", "step-size-too-small", settings=steps(1e-3)),
    Case("entropy bonus of 10", "entropy-bonus-too-large",
         settings=always(entropy_coefficient=10.0)),
    Case("zero reward", "rewards-zero",
         env=lambda name: broken(name, reward=lambda reward, rng: 0.0)),
    Case("rewards × 1e6", "rewards-unscaled",
         env=lambda name: broken(name, reward=lambda reward, rng: 1e6 * reward)),
    Case("constant observations", "observations-constant",
         env=lambda name: broken(name, observation=np.zeros_like)),
    Case("λ = 0, critic untrained", "lambda-too-low",
         settings=always(gae_lambda=0.0, critic_step_size=1e-9)),
    Case("batch of one episode", "batch-of-one-episode", settings=always(batch_episodes=1)),
    Case("discount 0.5", "discount-too-low", settings=always(discount=0.5)),
    Case("saturated actions", "actions-saturated", CONTINUOUS, settings=always(log_std=3.0)),
    Case("NaN reward", "rewards-not-finite",
         env=lambda name: broken(
             name, reward=lambda reward, rng: np.nan if rng.random() < 1e-3 else reward
         )),
    Case("critic with step size 0", "critic-not-trained",
         settings=always(critic_step_size=1e-12)),
)  # fmt: skip

HEALTHY = tuple(
    Case(f"{name}, {algorithm}", None, ((name, algorithm),))
    for name in ("CartPole-v1", "Acrobot-v1", "Pendulum-v1", "MountainCarContinuous-v0")
    for algorithm in ("vanilla", "ppo", "natural")
)

# environment, algorithm and seed
OTHERS = (
    ("Hopper-v5", "natural", 4), ("HalfCheetah-v5", "vanilla", 5), ("Acrobot-v1", "natural", 4),
    ("FrozenLake-v1", "vanilla", 5), ("MountainCarContinuous-v0", "natural", 4),
    ("InvertedPendulum-v5", "ppo", 5),
)  # fmt: skip
DISCRETE_OTHERS = ("Acrobot-v1", "FrozenLake-v1")
HEALTHY_OTHERS = (
    "Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Swimmer-v5", "InvertedPendulum-v5",
    "InvertedDoublePendulum-v5", "Reacher-v5", "FrozenLake-v1", "CliffWalking-v1", "Taxi-v3",
    "gymnax/Catch-bsuite", "gymnax/Breakout-MinAtar", "gymnax/Acrobot-v1", "MountainCar-v0",
)  # fmt: skip


def others() -> Iterator[tuple[Case, int]]:
    """The same faults, and none, where no rule was written; with a seed."""
    for name, algorithm, seed in OTHERS:
        for case in CASES:
            if case.expected == "actions-saturated" and name in DISCRETE_OTHERS:
                continue
            yield replace(case, tasks=((name, algorithm),)), seed
    for algorithm in ("vanilla", "natural", "ppo"):
        for name in HEALTHY_OTHERS:
            yield Case(f"{name}, {algorithm}", None, ((name, algorithm),)), 5


def verdict(case: Case, seed: int) -> dict[str, Any]:
    """Train, diagnose; what was found, and how long each took."""
    name, algorithm = case.tasks[seed % len(case.tasks)]
    env = case.env(name)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        with contextlib.suppress(NonFiniteError):  # a run that failed is diagnosed like any other
            policygrad.train(
                env, out=path, seed=seed, total_steps=STEPS[seed % len(STEPS)],
                algorithm=algorithm, **case.settings(algorithm),
            )  # fmt: skip
        trained = time.perf_counter()
        found = policygrad.diagnose(path, None if isinstance(env, str) else env, seed=seed)
    names = [finding.name for finding in found.findings]
    return {
        "case": case.what,
        "expected": case.expected,
        "seed": seed,
        "env": name,
        "algorithm": algorithm,
        "steps": found.examination.env_steps,
        "found": names,
        "healthy": found.healthy,
        "right": (names[:1] or [None])[0] == case.expected,
        "evidence": [finding.evidence for finding in found.findings],
        "train_seconds": trained - started,
        "diagnose_seconds": time.perf_counter() - trained,
    }


def rows(cases: Iterable[tuple[Case, int]]) -> Iterator[dict[str, Any]]:
    """Every case with its seed, printed as it comes."""
    for case, seed in cases:
        row = verdict(case, seed)
        mark = "" if row["right"] else "  WRONG"
        print(
            f"| {row['case']} | {seed} | {row['env']}, {row['algorithm']}, {row['steps']:,} | "
            f"{', '.join(row['found']) or ('healthy' if row['healthy'] else 'nothing')}{mark} |",
            flush=True,
        )
        yield row


def main() -> None:
    """Run everything, print the tables and the counts by seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="parts of the cases' names")
    parser.add_argument("--others", action="store_true", help="other tasks, one seed each")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    def wanted(case: Case) -> bool:
        return not options.only or any(part in case.what for part in options.only)

    started, found = time.perf_counter(), []
    print("| case | seed | run | found |\n|---|---|---|---|")
    usual = ((case, seed) for case in (*CASES, *HEALTHY) for seed in range(options.seeds))
    asked = others() if options.others else usual
    found += rows((case, seed) for case, seed in asked if wanted(case))
    for kind, group in (
        ("broken", [r for r in found if r["expected"]]),
        ("healthy", [r for r in found if not r["expected"]]),
    ):
        for seed in sorted({r["seed"] for r in group}):
            mine = [r for r in group if r["seed"] == seed]
            print(f"{kind}, seed {seed}: {sum(r['right'] for r in mine)} of {len(mine)} right")
    print(f"{time.perf_counter() - started:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

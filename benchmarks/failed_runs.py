"""Is a run that failed ever called healthy, and is a healthy run left alone?

Twenty runs fail without the faults of `doctor.py`: the return stays low, is lost again, or no
episode ends. None may be called healthy. In twenty healthy runs nothing may be found. Rules were
looked at on seed 0; what is reported is of other seeds.

    python benchmarks/failed_runs.py --runs FOLDER [--seed 2] [--only NAME …] [--json FILE]

Runs that are in FOLDER already are not trained again. `--only-train` trains them and looks at none.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from doctor import broken
from gymnasium import spaces

import policygrad
from policygrad.core.errors import NonFiniteError
from policygrad.core.plain import to_json


class Corridor(gymnasium.Env):
    """Seven cells in a row, and an exit at the right end.

    Args:
        exit_reward: of leaving; below zero, the best policy is one that never leaves.
        step_reward: of every other step.
        leaves: whether leaving ends the episode.
        limit: steps after which an episode is truncated; None for no limit.
    """

    def __init__(
        self,
        exit_reward: float = 1.0,
        step_reward: float = 0.0,
        limit: int | None = None,
        *,
        leaves: bool = True,
    ) -> None:
        self.observation_space, self.action_space = spaces.Discrete(7), spaces.Discrete(2)
        self._rewards, self._leaves, self._limit = (exit_reward, step_reward), leaves, limit

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._cell, self._time = 3, 0
        return self._cell, {}

    def step(self, action: Any) -> Any:
        self._cell, self._time = max(0, self._cell + 2 * int(action) - 1), self._time + 1
        out = self._cell > 6
        if out and not self._leaves:
            self._cell = 3
        reward = self._rewards[0] if out else self._rewards[1]
        truncated = self._limit is not None and self._time >= self._limit
        return min(self._cell, 6), reward, out and self._leaves, truncated, {}


class Wired(gymnasium.Wrapper):
    """CartPole whose actions go another way than they should.

    Args:
        how: "ignored": an action at random is taken; "late": the one of thirty steps ago;
            "swapped": from step 2,500 on, left and right are exchanged.
    """

    def __init__(self, how: str) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))
        self._how, self._steps, self._past = how, 0, [0] * 31

    def step(self, action: Any) -> Any:
        self._steps += 1
        self._past = [*self._past[1:], int(action)]
        wired = {
            "ignored": lambda: self.action_space.sample(),
            "late": lambda: self._past[0],
            "swapped": lambda: 1 - int(action) if self._steps > 2500 else int(action),
        }
        return self.env.step(wired[self._how]())


class Cue(gymnasium.Env):
    """A cue of two is shown at first; after ten steps the action has to be that of the cue."""

    def __init__(self) -> None:
        self.observation_space, self.action_space = spaces.Discrete(3), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._cue, self._time = int(self.np_random.integers(2)), 0
        return self._cue, {}

    def step(self, action: Any) -> Any:
        self._time += 1
        over = self._time == 10
        return 2, float(over and int(action) == self._cue), over, False, {}


class Guess(gymnasium.Env):
    """Ten guesses of a coin, of which nine of ten are right whatever is said: nothing to learn."""

    def __init__(self) -> None:
        self.observation_space, self.action_space = spaces.Discrete(10), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._time = 0
        return 0, {}

    def step(self, action: Any) -> Any:
        self._time += 1
        right = float(self.np_random.random() < 0.9)
        return min(self._time, 9), right, self._time == 10, False, {}


def blurred(observation: np.ndarray) -> np.ndarray:
    """Noise in place of what there is to see."""
    noise = np.random.default_rng(np.abs(observation).view(np.uint32)).normal(size=4)
    return noise.astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A run that fails, or a healthy one.

    Attributes:
        what: in words.
        env: what `train` takes.
        steps: of training.
        settings: of `train`.
    """

    what: str
    env: Any
    steps: int = 40_960
    settings: dict[str, Any] = field(default_factory=dict)

    def folder(self, seed: int) -> str:
        """Of the run of a seed."""
        return f"{seed}-{self.what}".replace(" ", "-").replace(",", "").replace("/", "-")


def case(what: str, env: Any, steps: int = 40_960, **settings: Any) -> Case:
    """A case with its settings as arguments."""
    return Case(what, env, steps, settings)


NO_BASELINE = {"estimator": "reward-to-go", "baseline": "none", "batch_episodes": 16}
SWAPPED = partial(Wired, "swapped")
FAILED = (
    case("FrozenLake, vanilla, too short", "FrozenLake-v1", 8_192),
    case("CliffWalking, vanilla", "CliffWalking-v1"),
    case("CliffWalking, natural", "CliffWalking-v1", algorithm="natural"),
    case("Pendulum, vanilla", "Pendulum-v1"),
    case("Pendulum, vanilla, shorter", "Pendulum-v1", 20_480),
    case("Pendulum, ppo, too short", "Pendulum-v1", 8_192, algorithm="ppo"),
    case("Acrobot, vanilla, too short", "Acrobot-v1", 6_144),
    case("CartPole, too short", "CartPole-v1", 4_096),
    case("CartPole, step of 1e-8, two updates", "CartPole-v1", 4_096, step_size=1e-8),
    case("exit that costs, no limit", partial(Corridor, -1.0, 0.1), 20_480),
    case("no end at all", partial(Corridor, leaves=False), 20_480),
    case("actions ignored", partial(Wired, "ignored"), algorithm="ppo"),
    case("actions late", partial(Wired, "late"), algorithm="ppo"),
    case("noise for observations", broken("CartPole-v1", observation=blurred), algorithm="ppo"),
    case("noise of 100 on rewards",
         broken("CartPole-v1", reward=lambda reward, rng: reward + 100 * rng.normal()), 20_480),
    case("cue that has to be remembered", Cue, algorithm="ppo"),
    *(case(f"actions swapped under way, {a}", SWAPPED, algorithm=a, num_envs=8)
      for a in ("vanilla", "ppo", "natural")),
    case("actions swapped under way, no baseline", SWAPPED, num_envs=8, **NO_BASELINE),
)  # fmt: skip
HEALTHY = (
    *(case(f"CartPole, {a}", "CartPole-v1", algorithm=a)
      for a in ("vanilla", "ppo", "natural", "trpo")),
    case("CartPole, ppo, large steps", "CartPole-v1", 61_440, algorithm="ppo", step_size=0.009),
    case("CartPole, no baseline, large steps", "CartPole-v1", 61_440, step_size=0.02,
         target_kl=0.0, **NO_BASELINE),
    case("CartPole, natural, longer", "CartPole-v1", 102_400, algorithm="natural"),
    *(case(f"Acrobot, {a}", "Acrobot-v1", algorithm=a) for a in ("vanilla", "ppo", "natural")),
    *(case(f"Pendulum, {a}", "Pendulum-v1", n, algorithm=a)
      for a, n in (("ppo", 40_960), ("natural", 61_440))),
    *(case(f"MountainCarContinuous, {a}", "MountainCarContinuous-v0", 20_480, algorithm=a)
      for a in ("vanilla", "ppo")),
    *(case(f"Catch, {a}", "gymnax/Catch-bsuite", algorithm=a) for a in ("vanilla", "natural")),
    case("InvertedPendulum, natural", "InvertedPendulum-v5", 20_480, algorithm="natural"),
    case("FrozenLake, ppo", "FrozenLake-v1", algorithm="ppo"),
    case("corridor with an exit", partial(Corridor, limit=50), 20_480),
    case("nothing to learn", Guess, 20_480),
)  # fmt: skip


def run_of(case: Case, seed: int, runs: Path) -> Path:
    """The directory of a run, which is trained if it is not there."""
    path = runs / case.folder(seed)
    if not path.exists():
        with contextlib.suppress(NonFiniteError):
            policygrad.train(case.env, out=path, seed=seed, total_steps=case.steps, **case.settings)
    return path


def verdict(case: Case, failed: bool, seed: int, runs: Path, gradients: bool) -> dict[str, Any]:
    """What the doctor says of a run, and whether it is right."""
    path = run_of(case, seed, runs)
    env = None if isinstance(case.env, str) else case.env
    found = policygrad.diagnose(path, env, seed=seed, gradients=gradients)
    names = [finding.name for finding in found.findings]
    at = found.standing
    return {
        "case": case.what, "failed": failed, "seed": seed, "steps": found.examination.env_steps,
        "healthy": found.healthy, "found": names,
        "doubts": [] if names else list(found.doubts),
        "right": found.healthy is not True if failed else not names,
        "standing": to_json(at),
        "evidence": [finding.evidence for finding in found.findings],
    }  # fmt: skip


def said(row: dict[str, Any]) -> str:
    """The verdict in a cell of a table."""
    word = "healthy" if row["healthy"] else "no clean bill"
    return ", ".join(f"`{name}`" for name in row["found"]) or word


def returns(row: dict[str, Any]) -> str:
    """Now, of random actions, and the best, in cells of a table."""
    at = row["standing"] or {}
    means = [(at.get(name) or {}).get("value") for name in ("now", "at_random")]
    shown = ["–" if x is None else f"{x:.4g}" for x in (*means, at.get("best"))]
    return " | ".join(shown)


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every case, printed as it comes."""
    print("| run | steps | return now | random actions | best | found |\n|---|---|---|---|---|---|")
    for failed, cases in ((True, FAILED), (False, HEALTHY)):
        for case in cases:
            if options.only and not any(part in case.what for part in options.only):
                continue
            row = verdict(case, failed, options.seed, options.runs, not options.no_gradients)
            mark = "" if row["right"] else "  WRONG"
            print(
                f"| {row['case']} | {row['steps']:,} | {returns(row)} | {said(row)}{mark} |",
                flush=True,
            )
            yield row


def main() -> None:
    """Train what is missing, diagnose everything, print the table and the counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="parts of the cases' names")
    parser.add_argument("--only-train", action="store_true")
    parser.add_argument("--no-gradients", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    if options.only_train:
        for case in (*FAILED, *HEALTHY):
            if not options.only or any(part in case.what for part in options.only):
                run_of(case, options.seed, options.runs)
        return
    started = time.perf_counter()
    found = list(rows(options))
    failed = [row for row in found if row["failed"]]
    healthy = [row for row in found if not row["failed"]]
    print(f"failed: {sum(row['right'] for row in failed)} of {len(failed)} not called healthy")
    print(
        f"healthy: in {sum(row['right'] for row in healthy)} of {len(healthy)} nothing found, "
        f"{sum(bool(row['healthy']) for row in healthy)} called healthy"
    )
    print(f"{time.perf_counter() - started:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""Does the doctor name what was broken in a run of another library, from its logs alone?

Twelve runs are broken on purpose, each in one place; `diagnose` has to name that place first. As
many are left whole; there it has to find nothing. No setting is told to the doctor: it has what the
library writes. Libraries and tasks of the broken runs, and the lengths and numbers of environments
of all runs, differ from seed to seed.

    python benchmarks/doctor_logs.py --sb3-python PYTHON --runs FOLDER [--seeds 0 1] [--json FILE]

PYTHON has Stable-Baselines3, PyTorch and TensorBoard. Runs that are in FOLDER already are not made
again. `--only-make` makes them and looks at none, `--there` makes none.
"""

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKER = Path(__file__).parent / "workers" / "make_logs.py"
ENVS = ("CartPole-v1", "Acrobot-v1", "Pendulum-v1", "Hopper-v5")
LIBRARIES = ("sb3-ppo", "sb3-a2c", "cleanrl")
RUNS = tuple((library, env) for env in ENVS for library in LIBRARIES)
STEPS = {  # by seed
    "broken": (16_384, 14_336, 20_480, 16_384),
    "healthy": (24_576, 16_384, 20_480, 18_432),
}
ENVIRONMENTS = (4, 8, 1, 2)  # of Stable-Baselines3, by seed
EPISODE = {"CartPole-v1": 22, "Acrobot-v1": 500, "Pendulum-v1": 200, "Hopper-v5": 22}  # at random
AT_ONCE = 4  # runs in one process
STEP_SIZE = {"sb3-ppo": 3e-4, "sb3-a2c": 7e-4, "cleanrl": 2.5e-4}

Settings = Callable[[str, str], dict[str, Any]]


def nothing(library: str, env: str) -> dict[str, Any]:
    """The library's defaults."""
    return {}


def steps(factor: float) -> Settings:
    """The default learning rate times a factor."""
    return lambda library, env: {"learning_rate": factor * STEP_SIZE[library]}


def always(**settings: Any) -> Settings:
    """The same settings for every library."""
    return lambda library, env: settings


def one_episode(library: str, env: str) -> dict[str, Any]:
    """Batches as long as one episode of a policy at random."""
    if library == "cleanrl":
        return {"num_envs": 1, "num_steps": EPISODE[env], "num_minibatches": 1}
    return {"n_envs": 1, "n_steps": EPISODE[env], "batch_size": EPISODE[env]}


def of(libraries: tuple[str, ...] = LIBRARIES, envs: tuple[str, ...] = ENVS) -> tuple:
    """The runs of some libraries on some tasks."""
    return tuple((library, env) for library, env in RUNS if library in libraries and env in envs)


@dataclass(frozen=True)
class Case:
    """One thing that is broken.

    Attributes:
        what: in words.
        expected: the finding that names it; None where nothing is broken.
        settings: of library and environment.
        fault: of the environment; empty for none.
        among: the libraries and tasks that take turns.
    """

    what: str
    expected: str | None
    settings: Settings = nothing
    fault: str = ""
    among: tuple[tuple[str, str], ...] = RUNS


CASES = (
    Case("step size × 100", "step-size-too-large", steps(100)),
    Case("step size ÷ 1000", "step-size-too-small", steps(1e-3)),
    Case("entropy bonus of 10", "entropy-bonus-too-large", always(ent_coef=10.0)),
    Case("zero reward", "rewards-zero", fault="zero reward"),
    # CleanRL divides the rewards of continuous tasks by their size
    Case("rewards × 1e6", "rewards-unscaled", fault="rewards × 1e6",
         among=(*of(LIBRARIES[:2]), *of(("cleanrl",), ENVS[:2]))),
    Case("constant observations", "observations-constant", fault="constant observations"),
    Case("λ = 0, critic untrained", "lambda-too-low", always(gae_lambda=0.0, vf_coef=0.0)),
    # a batch of A2C is a part of an episode by default
    Case("batch of one episode", "batch-of-one-episode", one_episode,
         among=of(("sb3-ppo", "cleanrl"))),
    Case("discount 0.5", "discount-too-low", always(gamma=0.5)),
    Case("saturated actions", "actions-saturated", always(policy_kwargs={"log_std_init": 3.0}),
         among=of(LIBRARIES[:2], ENVS[2:])),
    Case("NaN reward", "rewards-not-finite", fault="NaN reward"),
    Case("critic with step size 0", "critic-not-trained", always(vf_coef=0.0)),
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run that is made, and what should be found."""

    case: Case
    library: str
    env: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        words = self.case.what.split(",")[0] if self.case.expected is None else self.case.what
        return f"{self.seed}-{words} {self.library} {self.env}".replace(" ", "-")

    def spec(self, folder: Path) -> dict[str, Any]:
        """What the worker is told."""
        lengths = STEPS["broken" if self.case.expected else "healthy"]
        settings = self.case.settings(self.library, self.env)
        if self.library != "cleanrl":
            lanes = ENVIRONMENTS[self.seed % len(ENVIRONMENTS)]
            given = {"n_envs": lanes}
            if self.library == "sb3-ppo":
                given["n_steps"] = 2048 // lanes
            settings = given | settings
        return {
            "folder": str(folder), "library": self.library, "env": self.env, "seed": self.seed,
            "steps": lengths[self.seed % len(lengths)], "settings": settings,
            "fault": self.case.fault,
        }  # fmt: skip


def runs_of(seed: int) -> Iterator[Run]:
    """The twelve broken runs of a seed, then the twelve healthy ones."""
    for place, case in enumerate(CASES):
        library, env = case.among[(5 * place + 7 * seed) % len(case.among)]
        yield Run(case, library, env, seed)
    for library, env in RUNS:
        yield Run(Case("nothing", None), library, env, seed)


def make(wanted: list[Run], python: str, runs: Path) -> None:
    """Make those of the runs that are not there, a few in each process."""
    runs.mkdir(parents=True, exist_ok=True)
    missing = [run for run in wanted if not (runs / run.name).is_dir()]
    for first in range(0, len(missing), AT_ONCE):
        specs = [json.dumps(run.spec(runs / run.name)) for run in missing[first : first + AT_ONCE]]
        command = [python, "-W", "ignore", str(WORKER), *specs]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def verdict(run: Run, folder: Path) -> dict[str, Any]:
    """What was found; nothing in a log that cannot be read."""
    from policygrad.core.errors import UserError
    from policygrad.doctor.of_logs import diagnose_logs

    started, findings, not_looked_at, refused = time.perf_counter(), (), (), None
    try:
        found = diagnose_logs(folder)
        findings, not_looked_at = found.findings, found.not_looked_at
    except UserError as error:  # of a run that died before it had logged anything
        refused = str(error)
    names = [finding.name for finding in findings]
    return {
        "case": run.case.what, "expected": run.case.expected, "seed": run.seed,
        "library": run.library, "env": run.env, "found": names,
        "right": refused is None and (names[:1] or [None])[0] == run.case.expected,
        "refused": refused,
        "evidence": [finding.evidence for finding in findings],
        "not_looked_at": [x.name for x in not_looked_at],
        "seconds": time.perf_counter() - started,
    }  # fmt: skip


def main() -> None:
    """Make what is missing, diagnose everything, print the table and the counts by seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sb3-python", required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only-make", action="store_true")
    parser.add_argument("--there", action="store_true", help="only the runs that are there")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    wanted = [run for seed in options.seeds for run in runs_of(seed)]
    runs = options.runs.resolve()
    if options.there:
        wanted = [run for run in wanted if (runs / run.name).is_dir()]
    make(wanted, options.sb3_python, runs)
    if options.only_make:
        return
    print("| case | seed | run | found |\n|---|---|---|---|")
    found = []
    for run in wanted:
        found.append(row := verdict(run, runs / run.name))
        mark = "" if row["right"] else "  WRONG"
        print(
            f"| {row['case']} | {row['seed']} | {row['library']}, {row['env']} | "
            f"{row['refused'] or ', '.join(row['found']) or 'nothing'}{mark} |",
            flush=True,
        )
    for seed in options.seeds:
        for kind in ("broken", "healthy"):
            mine = [
                r for r in found if r["seed"] == seed and bool(r["expected"]) == (kind == "broken")
            ]
            print(f"{kind}, seed {seed}: {sum(r['right'] for r in mine)} of {len(mine)} right")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""One cell of the suite: a task, an algorithm and a seed, trained and evaluated.

An algorithm is one of this library's with its defaults (`natural`), the same with settings of a
name given to it (`natural+wide`), or a peer.
"""

import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import WORKERS, child_json, policygrad, read_lines
from workers import zoo

OURS = ("vanilla", "natural", "trpo", "ppo")
ZOO = tuple(zoo.SETTINGS)
SB3 = ("sb3-ppo", "sb3-ppo-normalised", "sb3-a2c", "sb3-a2c-normalised", *ZOO)
REJAX = ("rejax-ppo",)
PEERS = (*SB3, *REJAX)
REJAX_TASKS = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1")
EVALUATION_SEED = 10_000  # added to the seed of training
POINTS = 50  # of a learning curve
KEPT = ("mean", "episodes", "length_mean")  # of an evaluation
RUN = "RUN"  # in a command, the directory of the run


@dataclass(frozen=True)
class Cell:
    """What is trained, and for how long.

    Attributes:
        task: an environment id.
        algorithm: as it is shown: an algorithm or peer; `+NAME` for settings of this name.
        seed: of training.
        steps: environment steps of training.
        settings: further arguments of `policygrad train`.
    """

    task: str
    algorithm: str
    seed: int
    steps: int
    settings: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells cells of one file apart."""
        return self.task, self.algorithm, self.seed

    @property
    def commands(self) -> list[list[str]]:
        """What is run: programs by their names, without the folders of a machine."""
        seed, steps = str(self.seed), str(self.steps)
        if self.algorithm in PEERS:
            worker = "run_sb3.py" if self.algorithm in SB3 else "run_rejax.py"
            script = ["python", f"benchmarks/workers/{worker}", self.task]
            return [[*script, "--algorithm", self.algorithm, "--seed", seed, "--steps", steps]]
        train = ["policygrad", "train", self.task, "--algorithm", self.algorithm.split("+")[0]]
        train += [*self.settings, "--seed", seed, "--total-steps", steps, "--out", RUN]
        return [train, ["policygrad", "evaluate", RUN, "--seed", str(EVALUATION_SEED + self.seed)]]

    @property
    def command(self) -> str:
        """`commands` as a line of a shell."""
        return " && ".join(map(shlex.join, self.commands))


def defined(algorithm: str, task: str) -> bool:
    """Whether a peer has this task; ours have every one."""
    if algorithm in REJAX:
        return task in REJAX_TASKS
    return algorithm not in ZOO or task in zoo.SETTINGS[algorithm]


def settings_of(algorithm: str, named: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The arguments that `natural+NAME+NAME` adds to `natural`.

    Args:
        algorithm: as it is shown.
        named: arguments by name.

    Raises:
        ValueError: no such algorithm, or no settings of this name.
    """
    base, *names = algorithm.split("+")
    if base not in (OURS if names else (*OURS, *PEERS)):
        raise ValueError(f"{algorithm}: no algorithm {base}; there are {', '.join(OURS)}")
    for name in names:
        if name not in named:
            raise ValueError(f"{algorithm}: no settings {name}; give --settings {name}='--flag …'")
    return tuple(argument for name in names for argument in named[name])


def ran(cell: Cell, pythons: Mapping[str, str]) -> dict[str, Any]:
    """Train and evaluate: the line of the cell.

    Args:
        cell: which.
        pythons: interpreters of the peers, by the name of the worker's file.

    Raises:
        CellFailed: a process ended with an error.
    """
    found = _peer(cell, pythons) if cell.algorithm in PEERS else _ours(cell)
    for way in ("stochastic", "deterministic"):
        found[way] = {name: found[way][name] for name in KEPT}
    named = {"task": cell.task, "algorithm": cell.algorithm, "seed": cell.seed}
    asked = {"command": cell.command, "total_steps": cell.steps}
    return named | asked | found | {"curve": thinned(found["curve"])}


def thinned(curve: list[list[float]]) -> list[list[float]]:
    """About `POINTS` points of a curve, its last one among them."""
    return curve[: -1 : max(1, len(curve) // POINTS)] + curve[-1:]


def _ours(cell: Cell) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, RUN)
        train, evaluate = (
            [str(run) if argument == RUN else argument for argument in command[1:]]
            for command in cell.commands
        )
        trained, evaluated = policygrad(*train), policygrad(*evaluate)
        metrics = read_lines(run / "metrics.jsonl")
        return {
            "steps": trained["env_steps"],
            "env": trained["env"],
            "stochastic": evaluated["stochastic"],
            "deterministic": evaluated["deterministic"],
            "seconds": trained["seconds"],
            "timings": trained["timings"],
            "curve": [
                [m["env_steps"], m["return_mean"]] for m in metrics if m["return_mean"] is not None
            ],
        }


def _peer(cell: Cell, pythons: Mapping[str, str]) -> dict[str, Any]:
    ((_, script, *arguments),) = cell.commands
    worker = WORKERS / Path(script).name
    return child_json([pythons[worker.name], str(worker), *arguments])

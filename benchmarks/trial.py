"""The trial: this library beside its peers on the same tasks, planned cells and verdicts.

A plan names the tasks, the algorithms and the seeds of each. A cell that has not been run is left
blank. Our first algorithm is judged on every task against all peers.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cells import EVALUATION_SEED, PEERS, ZOO
from summary import RESAMPLES, interval, number

from policygrad.maths.intervals import iqm_interval

WAYS = ("deterministic", "stochastic")


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        tasks: environment steps of training, by task.
        seeds: of each algorithm; ours come before the peers.
    """

    tasks: Mapping[str, int]
    seeds: Mapping[str, Sequence[int]]

    @property
    def judged(self) -> str:
        """The algorithm that verdicts are about."""
        return next(iter(self.seeds))

    @property
    def peers(self) -> list[str]:
        """What it is judged against."""
        return [algorithm for algorithm in self.seeds if algorithm in PEERS]

    def holds(self, line: Mapping[str, Any]) -> bool:
        """Whether a run belongs to the plan."""
        task, seeds = line["task"], self.seeds.get(line["algorithm"], ())
        return line["seed"] in seeds and self.tasks.get(task) == line.get("total_steps")


@dataclass(frozen=True)
class Figure:
    """One algorithm on one task, evaluated in one way.

    Attributes:
        seeds: those that have been run, in rising order.
        returns: mean return over the evaluation episodes, by seed.
        iqm, interval: over seeds, with the 95 % bootstrap interval.
        least: of all seeds.
        complete: every planned seed has been run.
    """

    seeds: list[int]
    returns: list[float]
    iqm: float
    interval: tuple[float, float]
    least: float
    complete: bool


def figure(plan: Plan, lines: Sequence[Mapping[str, Any]], way: str) -> Figure | None:
    """The figure of the runs of one cell; None where there is none."""
    if not lines:
        return None
    lines = sorted(lines, key=lambda line: line["seed"])
    returns = [line[way]["mean"] for line in lines]
    iqm, ends = iqm_interval(returns, RESAMPLES)
    seeds = [line["seed"] for line in lines]
    complete = seeds == sorted(plan.seeds[lines[0]["algorithm"]])
    return Figure(seeds, returns, iqm, ends, min(returns), complete)


def figures(
    plan: Plan, lines: Sequence[Mapping[str, Any]], way: str
) -> dict[str, dict[str, Figure | None]]:
    """Figures by task and algorithm, of every planned cell."""
    runs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in filter(plan.holds, lines):
        runs.setdefault((line["task"], line["algorithm"]), []).append(line)
    return {
        task: {name: figure(plan, runs.get((task, name), []), way) for name in plan.seeds}
        for task in plan.tasks
    }


def verdict(ours: Figure | None, peers: Sequence[Figure | None]) -> str:
    """Which side the IQM over seeds is on, and whether the intervals meet; empty where nothing
    can be compared.

    Ahead: above every peer's IQM, and beyond the intervals where ours lies above each of theirs.
    Behind: below some peer's IQM, and beyond the intervals where ours lies below one of theirs.
    `so far`: not every planned seed has been run.
    """
    known = [peer for peer in peers if peer is not None]
    if ours is None or not known:
        return ""
    complete = ours.complete and all(peer is not None and peer.complete for peer in peers)
    if ours.iqm > max(peer.iqm for peer in known):
        side, apart = "ahead", all(ours.interval[0] > peer.interval[1] for peer in known)
    elif ours.iqm < max(peer.iqm for peer in known):
        side, apart = "behind", any(ours.interval[1] < peer.interval[0] for peer in known)
    else:
        side, apart = "level", True
    within = "" if apart else ", within the intervals"
    return f"{side}{within}{'' if complete else ', so far'}"


def verdicts(plan: Plan, found: Mapping[str, Mapping[str, Figure | None]]) -> dict[str, str]:
    """The verdict of each task."""
    return {
        task: verdict(row[plan.judged], [row[peer] for peer in plan.peers])
        for task, row in found.items()
    }


def markdown(plan: Plan, lines: Sequence[Mapping[str, Any]]) -> str:
    """A table for each way of acting, and below them where the figures come from."""
    told: list[str] = []
    for way in WAYS:
        found = figures(plan, lines, way)
        judged = verdicts(plan, found)
        heads = [f"{way}, steps", *(head(name, seeds) for name, seeds in plan.seeds.items())]
        told += [row(*heads, "verdict"), "|---" * (len(heads) + 1) + "|"]
        for task, steps in plan.tasks.items():
            shown = [cell(f, len(plan.seeds[name])) for name, f in found[task].items()]
            told.append(row(f"{task}, {steps:,}", *shown, judged[task]))
        told += ["", tally(plan.judged, list(judged.values())), ""]
    return "\n".join([*told, *sources(plan, lines)])


def row(*columns: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(columns)} |"


def head(algorithm: str, seeds: Sequence[int]) -> str:
    """A column's head: the algorithm, its seeds, and whether its settings differ from task to
    task."""
    which = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
    return f"{algorithm}{', tuned per task' if algorithm in ZOO else ''}, {which}"


def cell(found: Figure | None, planned: int) -> str:
    """IQM, interval and least; blank where nothing has been run."""
    if found is None:
        return ""
    low, high = found.interval
    ends = f"[{shown(low)}, {shown(high)}]" if math.isfinite(low) else interval(found.interval)
    part = "" if found.complete else f" ({len(found.seeds)} of {planned} seeds)"
    return f"{shown(found.iqm)} {ends}, least {shown(found.least)}{part}"


def shown(value: float) -> str:
    """A return, with two decimals where it is small."""
    return number(value) if abs(value) >= 10 else f"{value:.2f}"


def tally(judged: str, found: Sequence[str]) -> str:
    """How many tasks are ahead, and how many behind beyond the intervals."""
    made = [v for v in found if v]
    ahead = sum(v.startswith("ahead") for v in made)
    behind = sum(v.startswith("behind") and "within" not in v for v in made)
    left = sum("so far" in v for v in made) + len(found) - len(made)
    waiting = f" Tasks with cells that have not been run: {left}." if left else ""
    return (
        f"{judged}: ahead of every peer by IQM on {ahead} of {len(found)} tasks, behind beyond the "
        f"intervals on {behind}.{waiting}"
    )


def sources(plan: Plan, lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Dates, commits, versions and commands of what is shown, and how much of the file is not."""
    told = ["`least`: of the seeds. Cells that are blank have not been run.", ""]
    used = [line for line in lines if plan.holds(line)]
    for name in plan.seeds:
        runs = [line for line in used if line["algorithm"] == name]
        planned = len(plan.seeds[name]) * len(plan.tasks)
        told.append(f"- {name}: {len(runs)} of {planned} runs{'' if runs else '.'}")
        if runs:
            dates = sorted({line["date"] for line in runs})
            commits = sorted({str(line["commit"]) for line in runs})
            versions = sorted({_versions(line["versions"]) for line in runs})
            told[-1] += f", {' to '.join(dates[:1] + dates[1:][-1:])}, at {', '.join(commits)}"
            told[-1] += f"; {' or '.join(versions)}"
            told += [f"  `{command}`" for command in sorted({general(line) for line in runs})]
    if len(used) < len(lines):
        told += ["", f"Runs in the file that are not of this plan: {len(lines) - len(used)}."]
    return told


def general(line: Mapping[str, Any]) -> str:
    """The command of a run, for any task and seed."""
    command = line["command"].replace(f" {line['task']} ", " $TASK ")
    for seed, name in (
        (EVALUATION_SEED + line["seed"], f"$(({EVALUATION_SEED} + SEED))"),
        (line["seed"], "$SEED"),
    ):
        command = re.sub(rf"--seed {seed}(?!\d)", f"--seed {name}", command)
    return command


def numbers(plan: Plan, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every planned cell as plain data; what has not been run is None."""
    told = []
    for way in WAYS:
        found = figures(plan, lines, way)
        judged = verdicts(plan, found)
        for task, by_algorithm in found.items():
            for name, one in by_algorithm.items():
                told.append({
                    "way": way, "task": task, "steps": plan.tasks[task], "algorithm": name,
                    "planned": list(plan.seeds[name]),
                    "figure": None if one is None else _plain(one),
                    "verdict": judged[task] if name == plan.judged else None,
                })  # fmt: skip
    return told


def _plain(found: Figure) -> dict[str, Any]:
    """Without the interval where it is infinite, which JSON does not know."""
    known = math.isfinite(found.interval[0])
    return asdict(found) | {"interval": list(found.interval) if known else None}


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())

"""Does it pay to follow the comparison of estimators? Recommended, default and worst, trained.

    python benchmarks/advice.py run ADVICE.jsonl [--tasks ...] [--seeds 5]
    python benchmarks/advice.py table ADVICE.jsonl

A short run with the defaults; at its parameters the usual estimators, compared on fresh whole
episodes for the batch in use. Then from nothing, with equal seeds, settings and batches of whole
episodes: the one of least mean squared error, the one that points best, the default (GAE at
λ = 0.95) and the one of greatest error. Advantages are normalised in none, as in the comparison:
their mean would be a baseline for those that have none. What is in the file is not run again.
Reported are the stochastic policy's mean return over 100 evaluation episodes, and the mean training
return over the run.
"""

import argparse
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import append_line, provenance, read_lines
from summary import interval, mean_over_run, number

import policygrad
from policygrad import baselines, diagnostics, estimators
from policygrad.diagnostics.usual_estimators import fit, usual_estimators
from policygrad.doctor.collecting import collect
from policygrad.doctor.fitted_estimator import FittedEstimator
from policygrad.doctor.subject import Subject
from policygrad.maths.intervals import iqm_interval

TASKS = {  # steps of the short run, and of training
    "gymnax/CartPole-v1": (20_000, 100_000),
    "gymnax/Acrobot-v1": (40_000, 150_000),
    "Hopper-v5": (50_000, 300_000),
}
DEFAULT = "gae, λ=0.95"
REFERENCE = "reference"  # undiscounted, and unbiased; its baseline makes small biases visible
EPISODES = 256  # to fit baselines and critics on, and as many to compare on
SHORT_RUN = 1000  # its seed, which no run that is trained has


@dataclass(frozen=True)
class Arms:
    """Names of the estimators that are trained; two of them may be one.

    Attributes:
        recommended: of least mean squared error for the batch in use.
        direction: of the highest cosine with the gradient.
        default: what `train` takes.
        worst: of greatest mean squared error.
    """

    recommended: str
    direction: str
    default: str
    worst: str

    @classmethod
    def of(cls, errors: dict[str, float], cosines: dict[str, float]) -> "Arms":
        """From the mean squared errors and the cosines of all candidates."""
        known = {name: x for name, x in cosines.items() if not np.isnan(x)}
        return cls(
            min(errors, key=errors.__getitem__),
            max(known, key=known.__getitem__) if known else DEFAULT,
            DEFAULT,
            max(errors, key=errors.__getitem__),
        )


def asked(task: str) -> dict[str, Any]:
    """What the comparison says after a short run: all candidates, and those that are trained."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run")
        run = policygrad.train(task, out=path, seed=SHORT_RUN, total_steps=TASKS[task][0])
        subject = Subject.of(path, {})
        source = subject.source(32)
        fitted = FittedEstimator.of(subject, run.agent, source)
    limit = source.time_limit
    assert limit is not None
    sample_key, fit_key = jax.random.split(jax.random.key(SHORT_RUN + 1))
    record, _ = collect(source, run.policy, sample_key, 2 * EPISODES, limit)
    record = fitted.scaled(record)
    fitting, fresh = (
        jax.tree.map(lambda x, s=s: x[:, s], record)
        for s in (slice(EPISODES), slice(EPISODES, None))
    )
    length = float(np.mean(np.sum(record.valid, axis=0)))
    batch = max(round(run.config.steps_per_batch / length), 2)
    line_key, reference_key = jax.random.split(fit_key)
    candidates = diagnostics.line_up(run.policy, fitting, line_key)
    plain = estimators.reward_to_go(baseline=baselines.value_network(epochs=40))
    candidates[REFERENCE] = plain, fit(plain, run.policy, fitting, reference_key)
    found = diagnostics.compare_estimators(
        run.policy, candidates, fresh, batch_episodes=batch, reference=REFERENCE
    )
    ranked = {name: x for name, x in found.estimators.items() if name != REFERENCE}
    arms = Arms.of(
        {name: x.mean_squared_error.value for name, x in ranked.items()},
        {name: x.cosine.value for name, x in ranked.items()},
    )
    return {
        "kind": "advice",
        "task": task,
        "steps": run.summary["env_steps"],
        "mean_length": length,
        "time_limit": limit,
        "batch_episodes": batch,
        "episodes": found.episodes,
        "arms": asdict(arms),
        "comparison": found.to_json(),
    }


def trained(advice: dict[str, Any], name: str, seed: int) -> dict[str, Any]:
    """One estimator with one seed, trained and evaluated."""
    task, batch = advice["task"], advice["batch_episodes"]
    started = time.perf_counter()
    run = policygrad.train(
        task,
        seed=seed,
        estimator=usual_estimators(advice["time_limit"])[name],
        batch_episodes=batch,
        total_steps=TASKS[task][1],
    )
    seconds = time.perf_counter() - started
    evaluated = policygrad.evaluate(run, seed=10_000 + seed)
    return {
        "kind": "run",
        "task": task,
        "estimator": name,
        "seed": seed,
        "batch_episodes": batch,
        "steps": run.summary["env_steps"],
        "updates": run.summary["updates"],
        "stochastic": evaluated.stochastic.mean,
        "over_run": mean_over_run(run.metrics),
        "seconds": seconds,
    }


def advice_on(lines: list[dict[str, Any]], task: str) -> dict[str, Any] | None:
    """What the comparison said of a task; None where it was not asked yet."""
    return next((x for x in lines if x["kind"] == "advice" and x["task"] == task), None)


def run(options: argparse.Namespace) -> None:
    """Run what is not in the file yet."""
    origin = provenance()
    for task in options.tasks:
        advice = advice_on(read_lines(options.file), task)
        if advice is None:
            advice = asked(task)
            append_line(options.file, advice | origin)
        print(task, advice["arms"], file=sys.stderr, flush=True)
        done = {
            (x["task"], x["estimator"], x["seed"])
            for x in read_lines(options.file)
            if x["kind"] == "run"
        }
        for seed in range(options.seeds):
            for name in dict.fromkeys(advice["arms"].values()):
                if (task, name, seed) in done:
                    continue
                line = trained(advice, name, seed)
                append_line(options.file, line | origin)
                print(
                    f"{task} {name} {seed}: {line['stochastic']:.1f}, {line['seconds']:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )


def table(options: argparse.Namespace) -> None:
    """Print the candidates of every task, and how those that were trained did."""
    lines = read_lines(options.file)
    advised = [x for x in lines if x["kind"] == "advice"]
    print("| task | estimator | trained as | error | cosine | IQM at the end | 95 % interval "
          "| over the run | 95 % interval |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for advice in advised:
        for name, roles in _roles(advice["arms"]).items():
            mine = [x for x in lines if x["kind"] == "run" and x["task"] == advice["task"]]
            mine = [x for x in mine if x["estimator"] == name]
            measured = _measured(advice, name)
            shown = [_shown([x[key] for x in mine]) for key in ("stochastic", "over_run")]
            print(f"| {advice['task']} | {name} | {', '.join(roles)} | {measured} "
                  f"| {' | '.join(shown)} |")  # fmt: skip
    for advice in advised:
        print(f"\n{advice['task']}, {advice['batch_episodes']} episodes a batch:\n")
        print("| estimator | error | cosine |\n|---|---|---|")
        found = advice["comparison"]["estimators"]
        for name in sorted(found, key=lambda k: found[k]["mean_squared_error"]["value"]):
            print(f"| {name} | {_measured(advice, name)} |")


def _roles(arms: dict[str, str]) -> dict[str, list[str]]:
    """Estimator -> what it is trained as."""
    found: dict[str, list[str]] = {}
    for role, name in arms.items():
        found.setdefault(name, []).append(role)
    return found


def _measured(advice: dict[str, Any], name: str) -> str:
    """Mean squared error as a multiple of the default's, and cosine, with its interval."""
    found = advice["comparison"]["estimators"]
    error = found[name]["mean_squared_error"]["value"]
    cosine = found[name]["cosine"]
    known = "not known"
    if cosine["value"] is not None:
        known = f"{cosine['value']:.2f} [{cosine['low']:.2f}, {cosine['high']:.2f}]"
    return f"{error / found[DEFAULT]['mean_squared_error']['value']:.3g} | {known}"


def _shown(values: list[float]) -> str:
    """IQM and interval over seeds."""
    if not values:
        return "– | –"
    iqm, ends = iqm_interval(values)
    return f"{number(iqm)} | {interval(ends)}"


def main() -> None:
    """Parse the command line and do what it asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(required=True)
    for action in (run, table):
        sub = actions.add_parser(action.__name__, help=(action.__doc__ or "").splitlines()[0])
        sub.add_argument("file", type=Path, metavar="ADVICE.jsonl")
        sub.set_defaults(action=action)
        if action is run:
            sub.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
            sub.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.action(options)


if __name__ == "__main__":
    main()

"""Callbacks that are built in: stop at a return, evaluate, film, keep the best policy, change a
number.

What a callback is, and what it is given, stands in `training.ongoing`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from policygrad.core.errors import UserError
from policygrad.core.modules import split
from policygrad.core.settings import Count, In, check_setting, did_you_mean, plain_value
from policygrad.diagnostics.monitor import NOISE_METRICS
from policygrad.evaluating.playing import ARGUMENTS
from policygrad.training.assembly import Assembly
from policygrad.training.numbers import Finite, with_number
from policygrad.training.ongoing import (
    STOP,
    Callback,
    Ongoing,
    OnUpdate,
    Stop,
    as_callbacks,
    needs_state,
)
from policygrad.training.videos import video

__all__ = [
    "STOP",
    "Callback",
    "OnUpdate",
    "Ongoing",
    "Stop",
    "as_callbacks",
    "check_schedules",
    "evaluate_every",
    "keep_best",
    "needs_state",
    "schedule",
    "schedules_of",
    "stop_at_return",
    "video",
]


BUILT_IN = (__name__, video.__module__)
EVALUATED = ("evaluation/return_mean", "evaluation/deterministic_return_mean")


class Metric:
    """A metric that a callback reads, by name. A name that no row can hold is an error.

    Args:
        reader: the callback.
        name: of the metric.
    """

    def __init__(self, reader: Callback, name: str) -> None:
        if not isinstance(name, str):
            raise UserError(f"{_name(reader)} takes the name of a metric, got {name!r}")
        self.reader, self.name, self._seen = reader, name, False

    def of(self, run: Ongoing) -> float | None:
        """Its value in this row; None where the row has none.

        Raises:
            UserError: neither the run nor a callback before the reader makes such a metric.
        """
        if self.name in run:
            self._seen = True
        elif not self._seen and not self._may_come(run):
            raise UserError(self._unknown(run))
        return run.get(self.name)

    def _may_come(self, run: Ongoing) -> bool:
        if self.name in NOISE_METRICS and run.config.measures_noise:
            return True
        if run.may_log(self.name):
            return True
        before = self._others(run)[0]
        if self.name in EVALUATED and any(isinstance(c, evaluate_every) for c in before):
            return True
        own = [c for c in before if needs_state(c) and type(c).__module__ not in BUILT_IN]
        return bool(own)  # which may log it at any update

    def _others(self, run: Ongoing) -> tuple[Sequence[Callback], Sequence[Callback]]:
        """The callbacks before the reader, and those after it."""
        callbacks = run.callbacks
        place = next((i for i, c in enumerate(callbacks) if c is self.reader), len(callbacks))
        return callbacks[:place], callbacks[place + 1 :]

    def _unknown(self, run: Ongoing) -> str:
        told = f"{_name(self.reader)} reads the metric {self.name!r}, which no row holds"
        if self.name in EVALUATED:
            late = any(isinstance(c, evaluate_every) for c in self._others(run)[1])
            return told + (
                ": evaluate_every comes after it; put evaluate_every first"
                if late
                else ": evaluate_every makes it; put one before it in on_update"
            )
        known = sorted(run)
        return f"{told}{did_you_mean(self.name, known)}; there are {', '.join(known)}"


def _name(callback: Any) -> str:
    return type(callback).__name__


class stop_at_return:
    """End the run when its mean return has reached a value.

    The mean return of training is read once every environment has ended an episode: the first
    episodes to end are the short ones.

    Args:
        value: the return.
        over: the mean is over so many of the newest episodes, at most 100.
        metric: read this metric in place of it, such as `evaluation/return_mean`.
    """

    example = "callbacks.stop_at_return(200)"

    def __init__(self, value: float, over: int = 100, *, metric: str | None = None) -> None:
        value, over = plain_value(Finite, value), plain_value(Count, over)
        check_setting("value", Finite, value)
        if type(over) is not int or not 1 <= over <= 100:
            raise UserError(f"over must be a whole number from 1 to 100, got {over!r}")
        self.value, self.over = value, over
        self.metric = None if metric is None else Metric(self, metric)

    def __call__(self, run: Ongoing) -> Any:
        if self.metric is not None:
            found = self.metric.of(run)
        else:
            found = run.recent_return(self.over) if run.first_episodes_ended else None
        return STOP if found is not None and found >= self.value else None


class evaluate_every:
    """Evaluate the policy every so many environment steps, in environments of their own.

    Its mean returns become metrics, `evaluation/return_mean` where actions are sampled and
    `evaluation/deterministic_return_mean`. A run with a directory gets a line in
    `evaluations.jsonl` too, with the intervals.

    Args:
        steps: environment steps between two evaluations.
        episodes: of each.
        kwargs: further arguments of `policygrad.evaluate`, such as env.
    """

    example = "callbacks.evaluate_every(20_000)"

    def __init__(self, steps: int, episodes: int = 20, **kwargs: Any) -> None:
        steps, episodes = plain_value(Count, steps), plain_value(Count, episodes)
        for name, value in (("steps", steps), ("episodes", episodes)):
            if value not in In(1) or not isinstance(value, int):
                raise UserError(f"evaluate_every takes at least 1 of {name}, got {value!r}")
        known = set(ARGUMENTS) - {"run", "episodes"}
        for name in kwargs.keys() - known:
            near = did_you_mean(name, known) or f"; there are {', '.join(sorted(known))}"
            raise UserError(f"evaluate_every takes no argument {name!r}{near}")
        self.steps, self.episodes, self.kwargs, self._done = steps, episodes, kwargs, 0

    def begin(self, run: Ongoing) -> None:
        """Count from where the run begins or goes on."""
        self._done = run.env_steps // self.steps

    def __call__(self, run: Ongoing) -> None:
        if run.env_steps // self.steps <= self._done:
            return
        self._done = run.env_steps // self.steps
        found = run.evaluate(self.episodes, **self.kwargs)
        sampled, greedy = found.stochastic, found.deterministic
        run.log(**dict(zip(EVALUATED, (sampled.mean, greedy.mean), strict=True)))
        run._training.recorder.evaluated({
            "update": run["update"],
            "env_steps": run["env_steps"],
            "episodes": sampled.episodes,
            "seed": found.seed,
            "return_mean": sampled.mean,
            "return_low": sampled.ci95[0],
            "return_high": sampled.ci95[1],
            "length_mean": sampled.length_mean,
            "deterministic_return_mean": greedy.mean,
            "deterministic_return_low": greedy.ci95[0],
            "deterministic_return_high": greedy.ci95[1],
        })  # fmt: skip


class keep_best:
    """Keep the policy of the update with the greatest value of a metric.

    It is written to `best/` in the run directory, which `policygrad.load` reads, and is `agent`
    here.

    Args:
        metric: `return_mean`, over the last 100 episodes of training and so not before 100 have
            ended, nor before every environment has ended one; or one that another callback before
            it logs, such as `evaluation/return_mean`.
        write: False writes nothing and keeps the policy as `agent` alone, for a run without `out`.

    Attributes:
        value: the greatest so far; None before the first.
        agent: the policy that had it; None before the first of this process.
    """

    example = "callbacks.keep_best()"

    def __init__(self, metric: str = "return_mean", *, write: bool = True) -> None:
        check_setting("write", bool, write)
        self._metric, self._write = Metric(self, metric), write
        self.metric, self.value, self.agent = metric, None, None

    def begin(self, run: Ongoing) -> None:
        """Go on from what a resumed run has kept; UserError without a place to write to."""
        if self._write and run.path is None:
            raise UserError(
                "keep_best writes the best policy into the run's directory, and there is none: "
                "give out= too; or keep_best(…, write=False), to keep it as the callback's "
                "attribute agent alone"
            )
        self.value, self.agent = run.best_value(self.metric), None

    def __call__(self, run: Ongoing) -> None:
        found = self._metric.of(run)
        enough = run["episodes"] >= 100 and run.first_episodes_ended
        if self.metric == "return_mean" and not enough:
            return
        if (
            found is None
            or not math.isfinite(found)
            or (self.value is not None and found <= self.value)
        ):
            return
        if self._write:
            run.save_best(self.metric, found)
        self.value, self.agent = found, run.agent


class schedule:
    """Change a number of the configuration as the run goes on.

    A resumed run must be given it again, which is checked.

    Args:
        name: of a setting that is a number, such as `entropy_coefficient`, `clip_ratio`,
            `target_kl`, `step_size` or `discount`.
        value: environment steps so far -> the value from there on.
    """

    example = 'callbacks.schedule("entropy_coefficient", lambda steps: 0.01)'

    def __init__(self, name: str, value: Callable[[int], float]) -> None:
        if not callable(value):
            raise UserError(
                f"schedule({name!r}, …) takes a function of the environment steps, got {value!r}"
            )
        if not isinstance(name, str):
            raise UserError(f"schedule(…) takes the name of a setting, got {name!r}")
        self.name, self.value = name, value

    def begin(self, run: Ongoing) -> None:
        """Set the value of the first update."""
        self(run)

    def __call__(self, run: Ongoing) -> None:
        run.set(self.name, self.value(run.env_steps))


def check_schedules(callbacks: Sequence[Callback], assembly: Assembly) -> None:
    """UserError where a schedule names no number of the run, or begins out of its range."""
    for callback in callbacks:
        if isinstance(callback, schedule):
            learner = assembly.learner
            improver = learner.algorithm.start(split(assembly.policy)[0])
            with_number(learner, improver, callback.name, callback.value(0))


def schedules_of(callbacks: Sequence[Callback]) -> list[str]:
    """The names of the numbers that callbacks change as the run goes on."""
    return sorted(x.name for x in callbacks if isinstance(x, schedule))

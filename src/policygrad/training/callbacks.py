"""Callbacks: what is called after every update with the run as it is, and what may stop it.

A callback is any function of one argument. It is given the run, an `Ongoing`, and returns nothing,
or `STOP` to end the run. Where it raises, the run is saved first. A callback that needs numbers
alone says so with `needs_state = False`. It is then given a dictionary, and does not slow the run
down: updates of a JAX-native environment run many in one program, and one by one where a callback
is to see the policy after each.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from policygrad.core.errors import UserError
from policygrad.core.modules import split
from policygrad.devices.sharing import as_one_device
from policygrad.policies import Agent
from policygrad.training import checkpoint
from policygrad.training.assembly import Assembly
from policygrad.training.config import TrainConfig
from policygrad.training.numbers import with_number
from policygrad.training.result import Run

if TYPE_CHECKING:
    from policygrad.training.loop import Training

Callback = Callable[[Any], Any]
OnUpdate = Callback | Sequence[Callback]


class _Stop:
    def __repr__(self) -> str:
        return "policygrad.STOP"

    def __reduce__(self) -> str:
        return "STOP"


STOP = _Stop()
"""What a callback returns to end the run after this update, with everything saved."""


class Stop(Exception):
    """What a callback raises to end the run after this update, with everything saved."""


class Ongoing(Mapping[str, Any]):
    """A run after an update: a mapping of the metrics of that update, and more.

    It shows the newest state. Kept beyond the call, it shows the policy of a later update.
    """

    def __init__(self, training: "Training", metrics: dict[str, Any]) -> None:
        self._training, self.metrics = training, metrics

    def __getitem__(self, name: str) -> Any:
        return self.metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def __repr__(self) -> str:
        return f"Ongoing({self.metrics})"

    @property
    def env_steps(self) -> int:
        """Environment steps so far."""
        return self._training.progress.env_steps

    @property
    def policy(self) -> Any:
        """The policy after the update: raw observation -> distribution."""
        return as_one_device(self._training.progress.state.learner.policy)

    @property
    def agent(self) -> Agent:
        """The policy with the spaces that it acts between."""
        source = self._training.assembly.source
        return Agent(self.policy, source.observation_space, source.action_space)

    @property
    def config(self) -> TrainConfig:
        """The value of every setting."""
        return self._training.assembly.config

    @property
    def path(self) -> Path | None:
        """The run directory; None if nothing is written."""
        directory = self._training.directory
        return None if directory is None else directory.path

    def recent_return(self, episodes: int) -> float | None:
        """The mean return of the last episodes that ended, at most 100; None before so many did."""
        tally = self._training.progress.state.tally
        returns, ended = np.asarray(tally.recent_returns), int(tally.episodes)
        if ended < episodes:
            return None
        newest = (ended - 1 - np.arange(episodes)) % len(returns)
        return float(np.mean(returns[newest], dtype=np.float64))

    def evaluate(self, episodes: int = 20, *, seed: int | None = None, **kwargs: Any) -> Any:
        """Returns of the policy, in environments of their own; training does not notice.

        Args:
            episodes: as of `policygrad.evaluate`.
            seed: None for another one at every update, which no other part of the run uses. The
                best of many evaluations with one seed would be the best for its episodes.
            kwargs: further arguments of `policygrad.evaluate`.

        Returns:
            An `Evaluation`.

        Raises:
            UserError: the run was given one vector environment, which trains: pass env=.
        """
        task = self._training.assembly.task
        if kwargs.get("env") is None and isinstance(task.env, gymnasium.vector.VectorEnv):
            raise UserError(
                "the run trains in the one vector environment that it was given, so it cannot be "
                "evaluated there: pass env=, a function that makes another one"
            )
        if seed is None:
            numbers = self.config.seed, int(self._training.progress.updates), 0x5EED
            seed = int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 1)
        run = Run(
            self.path, self.config, self.agent, {}, task.env, env_kwargs=task.env_kwargs,
            engine=task.engine,
        )  # fmt: skip
        # the function stands above training, which therefore does not import it
        evaluate = importlib.import_module("policygrad.evaluation").evaluate
        return evaluate(run, episodes=episodes, seed=seed, **kwargs)

    def log(self, **numbers: float | None) -> None:
        """Add numbers to the metrics of this update, before they are written."""
        self._training.recorder.check_names(numbers)
        for name, value in numbers.items():
            self.metrics[name] = None if value is None else float(value)

    def set(self, name: str, value: float) -> None:
        """Give a number of the algorithm or of the estimator another value from the next update on.

        Raises:
            UserError: the run reads no number of this name, or the value is out of its range.
        """
        training, state = self._training, self._training.progress.state
        learner, improver = with_number(
            training.assembly.learner, state.learner.improver, name, value
        )
        training.assembly = replace(training.assembly, learner=learner)
        training.progress.state = state._replace(learner=state.learner._replace(improver=improver))

    def save(self) -> None:
        """Write a checkpoint now; nothing for a run without a directory."""
        self._training.save()

    def save_best(self, metric: str, value: float) -> None:
        """Write the policy into `best/`, in place of the one before, if there is a directory."""
        training = self._training
        if training.directory is not None:
            arrays, data = checkpoint.policy_files(training.assembly, self.policy)
            data |= {"env_steps": self.env_steps, "metric": metric, "value": float(value)}
            training.directory.save_best(self.env_steps, arrays, data)

    def best_value(self, metric: str) -> float | None:
        """The value of the policy in `best/`, if this metric chose it; None without one."""
        directory = self._training.directory
        found = None if directory is None else directory.read_best()
        return found["value"] if found and found["metric"] == metric else None


def as_callbacks(on_update: OnUpdate | None) -> tuple[Callback, ...]:
    """One callback, several or none, as a tuple; UserError for anything else."""
    if on_update is None:
        return ()
    if callable(on_update):
        return (on_update,)
    if isinstance(on_update, (list, tuple)):
        return tuple(callback for each in on_update for callback in as_callbacks(each))
    raise UserError(
        f"on_update must be a function of one argument, or a list of such, got {on_update!r}"
    )


def needs_state(callback: Callback) -> bool:
    """Whether a callback is to see the run after every update, not its numbers alone."""
    return getattr(callback, "needs_state", True)


def asks_to_stop(callback: Callback, answer: Any) -> bool:
    """Whether what a callback returned ends the run; UserError if it means nothing."""
    if answer is STOP or answer is Stop or isinstance(answer, Stop):
        return True
    if answer is None or answer is True:  # as progress bars and other libraries' callbacks return
        return False
    name = getattr(callback, "__name__", type(callback).__name__)
    raise UserError(
        f"the callback {name} returned {answer!r}; return policygrad.STOP to end the run, and "
        "nothing to go on"
    )


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


class stop_at_return:
    """End the run when its mean return has reached a value.

    Args:
        value: the return.
        over: the mean is over so many of the newest episodes, at most 100.
        metric: read this metric in place of it, such as `evaluation/return_mean`.
    """

    def __init__(self, value: float, over: int = 100, *, metric: str | None = None) -> None:
        if type(over) is not int or not 1 <= over <= 100:
            raise UserError(f"over must be a whole number from 1 to 100, got {over!r}")
        self.value, self.over, self.metric = value, over, metric

    def __call__(self, run: Ongoing) -> _Stop | None:
        found = run.recent_return(self.over) if self.metric is None else run.get(self.metric)
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

    def __init__(self, steps: int, episodes: int = 20, **kwargs: Any) -> None:
        if isinstance(steps, bool) or steps < 1:
            raise UserError(f"evaluate_every takes at least 1 step, got {steps!r}")
        self.steps, self.episodes, self.kwargs, self._done = int(steps), episodes, kwargs, 0

    def begin(self, run: Ongoing) -> None:
        """Count from where the run begins or goes on."""
        self._done = run.env_steps // self.steps

    def __call__(self, run: Ongoing) -> None:
        if run.env_steps // self.steps <= self._done:
            return
        self._done = run.env_steps // self.steps
        found = run.evaluate(self.episodes, **self.kwargs)
        sampled, greedy = found.stochastic, found.deterministic
        run.log(**{
            "evaluation/return_mean": sampled.mean,
            "evaluation/deterministic_return_mean": greedy.mean,
        })  # fmt: skip
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
            ended; or one that another callback before it logs, such as `evaluation/return_mean`.

    Attributes:
        value: the greatest so far; None before the first.
        agent: the policy that had it; None before the first of this process.
    """

    def __init__(self, metric: str = "return_mean") -> None:
        self.metric, self.value, self.agent = metric, None, None

    def begin(self, run: Ongoing) -> None:
        """Go on from what a resumed run has kept."""
        self.value, self.agent = run.best_value(self.metric), None

    def __call__(self, run: Ongoing) -> None:
        found = run.get(self.metric)
        if self.metric == "return_mean" and run["episodes"] < 100:
            return
        if found is None or (self.value is not None and found <= self.value):
            return
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

    def __init__(self, name: str, value: Callable[[int], float]) -> None:
        if not callable(value):
            raise UserError(
                f"schedule({name!r}, …) takes a function of the environment steps, got {value!r}"
            )
        self.name, self.value = name, value

    def begin(self, run: Ongoing) -> None:
        """Set the value of the first update."""
        self(run)

    def __call__(self, run: Ongoing) -> None:
        run.set(self.name, self.value(run.env_steps))

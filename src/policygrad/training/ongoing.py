"""The run as a callback sees it after an update, and what the callback may answer.

A callback is any function of one argument. It is given the run, an `Ongoing`, and returns nothing,
or `STOP` to end the run. Where it raises, the run is saved first. A callback that needs numbers
alone says so with `needs_state = False`. It is then given a dictionary, and does not slow the run
down: updates of a JAX-native environment run many in one program, and one by one where a callback
is to see the policy after each.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from policygrad.core.errors import UserError
from policygrad.devices.sharing import as_one_device
from policygrad.environments.lanes import LaneMethods
from policygrad.evaluating import Evaluation, Place, evaluate
from policygrad.policies import Agent
from policygrad.rollout.host_source import HostSource
from policygrad.training import checkpoint
from policygrad.training.config import TrainConfig
from policygrad.training.numbers import with_number

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
    def place(self) -> Place:
        """The environment of the run."""
        task = self._training.assembly.task
        return Place(task.env, task.env_kwargs, task.engine, step_timeout=self.config.step_timeout)

    @property
    def config(self) -> TrainConfig:
        """The value of every setting."""
        return self._training.assembly.config

    @property
    def path(self) -> Path | None:
        """The run directory; None if nothing is written."""
        directory = self._training.directory
        return None if directory is None else directory.path

    @property
    def callbacks(self) -> tuple[Callback, ...]:
        """The callbacks of the run, in the order in which they are called."""
        return self._training.callbacks

    def may_log(self, name: str) -> bool:
        """Whether the environments' infos may make this metric once an episode has ended."""
        kind, _, number = name.partition("/")
        assembly = self._training.assembly
        names, own = assembly.info_names, assembly.task.collector is not None
        any_name = own or (assembly.collector.program() is None and not names)
        return kind in ("info", "info_sum") and (any_name or number in names)

    def recent_return(self, episodes: int) -> float | None:
        """The mean return of the last episodes that ended, at most 100; None before so many did."""
        tally = self._training.progress.state.tally
        returns, ended = np.asarray(tally.recent_returns), int(tally.episodes)
        if ended < episodes:
            return None
        newest = (ended - 1 - np.arange(episodes)) % len(returns)
        return float(np.mean(returns[newest], dtype=np.float64))

    @property
    def first_episodes_ended(self) -> bool:
        """Whether every environment has ended an episode. Before, most of the episodes that have
        ended are short ones; batches of whole episodes leave none out."""
        config, tally = self.config, self._training.progress.state.tally
        longest = int(np.max(tally.running_lengths))
        return config.whole_episodes or longest * config.num_envs < self.env_steps

    def evaluate(self, episodes: int = 20, *, seed: int | None = None, **kwargs: Any) -> Evaluation:
        """Returns of the policy, in environments of their own; training does not notice.

        Args:
            episodes: as of `policygrad.evaluate`.
            seed: None for another one at every update, which no other part of the run uses. The
                best of many evaluations with one seed would be the best for its episodes.
            kwargs: further arguments of `policygrad.evaluate`.

        Returns:
            An `Evaluation`.

        Raises:
            UserError: the run was given one vector environment, lanes or a source on the host,
                which trains: pass env=.
        """
        env = self._training.assembly.task.env
        stepped = (gymnasium.vector.VectorEnv, LaneMethods, HostSource)
        if kwargs.get("env") is None and isinstance(env, stepped):
            raise UserError(
                f"the run trains in the one {type(env).__name__} that it was given, so it cannot "
                "be evaluated there: pass env=, a function that makes another one"
            )
        seed = self.own_seed if seed is None else seed
        return evaluate(self, episodes=episodes, seed=seed, **kwargs)

    @property
    def own_seed(self) -> int:
        """A seed of this update, which no other part of the run uses."""
        numbers = self.config.seed, int(self._training.progress.updates), 0x5EED
        return int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 1)

    def log(self, **numbers: float | None) -> None:
        """Add numbers to the metrics of this update, before they are written."""
        self.metrics.update(self._training.recorder.own(numbers))

    def set(self, name: str, value: float) -> None:
        """Give a number of the algorithm or of the estimator another value from the next update on.

        A resumed run keeps it.

        Raises:
            UserError: the run reads no number of this name, or the value is out of its range.
        """
        training, progress = self._training, self._training.progress
        before, state = training.assembly.learner, progress.state
        learner, improver = with_number(before, state.learner.improver, name, value)
        changed = improver is not state.learner.improver
        if learner is not before:  # what the algorithm's state holds is saved with it
            changed = progress.numbers.get(name) != float(value)
            progress.numbers[name] = float(value)
        if changed:
            progress.saved_at = None
        training.assembly = replace(training.assembly, learner=learner)
        progress.state = state._replace(learner=state.learner._replace(improver=improver))

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
        """The value of the policy in `best/`, if this metric chose it; None without one. A policy
        behind the checkpoint from which the run goes on is not the run's, and is set aside."""
        training = self._training
        up_to = self.env_steps if training.went_back else None
        found = None if training.directory is None else training.directory.read_best(up_to)
        return found["value"] if found and found["metric"] == metric else None


def as_callbacks(on_update: OnUpdate | None) -> tuple[Callback, ...]:
    """One callback, several or none, as a tuple; UserError for anything else."""
    if on_update is None:
        return ()
    if isinstance(on_update, type):
        example = getattr(on_update, "example", f"{on_update.__name__}(…)")
        raise UserError(
            f"on_update got the class {on_update.__name__}, which makes a callback when it is "
            f"called: pass {example}"
        )
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

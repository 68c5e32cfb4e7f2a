"""The runs of a trial: begun afresh, in memory alone, with the settings of a run and a change."""

import contextlib
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from policygrad.core.errors import NonFiniteError, RunError, UserError
from policygrad.core.reflection import names_of
from policygrad.core.shell import user_path
from policygrad.doctor.changes import with_change
from policygrad.doctor.subject import Subject
from policygrad.doctor.trying import Interrupted, Settings
from policygrad.doctor.verdict import Outcome, outcome_of
from policygrad.rollout.compiled import CompiledSource
from policygrad.training import entry
from policygrad.training.config import FileSettings, TrainConfig
from policygrad.training.ending import StoppedEarly
from policygrad.training.given import Given
from policygrad.training.history import checksum_of
from policygrad.training.many_seeds import train_seeds

# of a run of a trial: nothing is written, and nothing is measured of its gradients
LEFT_OUT = names_of(FileSettings) | {"seed", "total_steps", "monitor_every"}

OnTrialUpdate = Callable[[Settings, int, dict[str, Any]], None]


class Cost(NamedTuple):
    """Environment steps of several runs.

    Attributes:
        steps: in all.
        exact: whether they follow from the settings. Batches of whole episodes have other lengths.
    """

    steps: int
    exact: bool


@dataclass(frozen=True)
class TrialRuns:
    """Trains runs as another run was trained, with some settings changed.

    Attributes:
        env, env_kwargs: where it was trained.
        asked: the settings that were asked for.
        objects: what was passed in place of names, and the engine and collector.
        start: the policy that it began from; None for none.
        budget: environment steps of each run.
        together: whether several seeds are trained in one program.
        on_update: called with the changed settings, the seed and the metrics of every update.
    """

    env: Any
    env_kwargs: dict[str, Any]
    asked: Settings
    objects: dict[str, Any]
    start: str | None
    budget: int
    together: bool
    on_update: OnTrialUpdate = field(default=lambda settings, seed, metrics: None)

    @classmethod
    def of(cls, subject: Subject, budget: int, on_update: OnTrialUpdate | None) -> "TrialRuns":
        """The runs of a trial of a run's settings.

        Raises:
            UserError: a part of the run is in no file and was not passed again.
            RunError: the policy that it began from is not there any more.
        """
        path, saved = subject.directory.path, subject.saved
        missing = [name for name in saved["objects"] if name not in subject.objects]
        if missing:
            again = ", ".join(f"{name}=…" for name in saved["objects"])
            raise UserError(
                f"{path} cannot be tried: training was given {' and '.join(missing)} as objects, "
                f"which no file holds; try it in Python: policygrad.try_advice({str(path)!r}, "
                f"{again})"
            )
        if saved.get("schedules"):
            raise UserError(
                f"{path} cannot be tried: callbacks changed {', '.join(saved['schedules'])} while "
                "it was trained, which no file holds"
            )
        env, kwargs = subject.environment()
        source = subject.source(1)
        together = isinstance(source, CompiledSource) and "collector" not in saved["objects"]
        source.close()
        config = entry.saved_config(subject.directory, saved)
        objects = {k: v for k, v in subject.objects.items() if k != "env"}
        return cls(
            env, kwargs, asked_of(config, saved), objects, _start_of(subject), budget, together,
            on_update or (lambda settings, seed, metrics: None),
        )  # fmt: skip

    def config(self, settings: Settings) -> TrainConfig:
        """The configuration of a run with some settings changed; UserError if it has none."""
        names = [name for name in Given.__dataclass_fields__ if name in self.objects]
        given = Given(**{name: self.objects[name] for name in names})
        return with_change({**self.asked, "total_steps": self.budget}, settings, given)

    def check(self, settings: Settings) -> None:
        """As of `trying.Runs`; also UserError if the policy would be changed only after the run."""
        batch = _batch_of(self.config(settings))
        if batch is not None and self.budget <= batch:
            raise UserError(
                f"a run of {self.budget:,} steps is a single update of {batch:,}, and what follows "
                f"from it is not seen; give a --budget of {2 * batch:,} or more"
            )

    def cost(self, changes: Iterable[Settings], seeds: int) -> Cost:
        """What the settings in use and those with each change cost at most, so many seeds each."""
        total, exact = 0, True
        for settings in ({}, *changes):
            try:
                batch = _batch_of(self.config(settings))
            except UserError:  # it will not be trained
                continue
            exact = exact and batch is not None
            total += seeds * math.ceil(self.budget / (batch or 1)) * (batch or 1)
        return Cost(total, exact)

    def train(self, settings: Settings, seeds: Sequence[int], done: dict[int, Outcome]) -> None:
        """As of `trying.Runs`."""
        config = self.config(settings)
        if self.together and not config.whole_episodes:
            self._together(config, settings, seeds, done)
        else:
            for seed in seeds:
                done[seed] = self._alone(config, settings, seed)

    def _alone(self, config: TrainConfig, settings: Settings, seed: int) -> Outcome:
        rows: list[dict[str, Any]] = []

        def told(metrics: dict[str, Any]) -> None:
            rows.append(metrics)
            self.on_update(settings, seed, metrics)

        told.needs_state = False  # pyright: ignore[reportFunctionMemberAccess]
        try:
            with _not_told():
                run = entry.train(
                    self.env, env_kwargs=self.env_kwargs, start=self.start, on_update=told,
                    config=replace(config, seed=seed), **self.objects,
                )  # fmt: skip
        except NonFiniteError as error:
            return outcome_of(rows, str(error))
        if run.interrupted:
            raise Interrupted(run.exit_code)
        return outcome_of(rows)

    def _together(
        self, config: TrainConfig, settings: Settings, seeds: Sequence[int],
        done: dict[int, Outcome],
    ) -> None:  # fmt: skip
        rows: Mapping[int, list[dict[str, Any]]] = defaultdict(list)

        def told(seed: int, metrics: dict[str, Any]) -> None:
            rows[seed].append(metrics)
            self.on_update(settings, seed, metrics)

        with _not_told():
            found = train_seeds(
                self.env, seeds, env_kwargs=self.env_kwargs, start=self.start, on_update=told,
                config=config, **self.objects,
            )  # fmt: skip
        if found.interrupted:
            raise Interrupted(found.exit_code)
        for seed in seeds:
            failure = found.failures.get(seed)
            if failure is not None and not isinstance(failure, NonFiniteError):
                raise failure
            done[seed] = outcome_of(rows[seed], None if failure is None else str(failure))


@contextlib.contextmanager
def _not_told() -> Iterator[None]:
    """The trial itself says that it was stopped, and how to go on with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoppedEarly)
        yield


def _batch_of(config: TrainConfig) -> int | None:
    """Steps of a batch of segments; None for whole episodes, whose lengths are not known."""
    return None if config.whole_episodes else config.rows * config.num_envs


def asked_of(config: TrainConfig, saved: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a run was asked for, without those of its length, seed and files.

    A run of an earlier version does not tell them from those that followed: all count as asked for.
    """
    names = saved.get("asked")
    names = [n for n in config.to_json() if n not in LEFT_OUT] if names is None else names
    return {name: getattr(config, name) for name in names if name not in LEFT_OUT}


def _start_of(subject: Subject) -> str | None:
    """The policy that a run began from, if a file holds it."""
    saved, path = subject.saved, subject.directory.path
    if not saved.get("begins_from_a_policy") or "policy" in subject.objects:
        return None
    start = saved.get("from")
    if start is None:
        raise UserError(
            f"{path} cannot be tried: it began from a policy passed in Python, which no file "
            f"holds; try it in Python: policygrad.try_advice({str(path)!r}, policy=…)"
        )
    if checksum_of(user_path(start["path"])) != start["sha256"]:
        raise RunError(
            f"{path} cannot be tried: it began from the policy in {start['path']}, which holds "
            "another one by now"
        )
    return start["path"]

"""The loop: collect a batch, update, record, and from time to time save."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from policygrad.core.errors import NonFiniteError, WriteError
from policygrad.core.shell import command
from policygrad.core.trajectories import Trajectories
from policygrad.devices.sharing import as_one_device
from policygrad.policies import Agent
from policygrad.rollout.collectors import SegmentProgram
from policygrad.runs import RunDirectory
from policygrad.training import checkpoint, ending, overlapped
from policygrad.training.adaptive_batch import columns_of
from policygrad.training.assembly import Assembly, closing_on_failure
from policygrad.training.checkpoint import Progress
from policygrad.training.keys import keys_of_update
from policygrad.training.metrics import Metrics, Recorder, infos_of, metrics_of, noise_of
from policygrad.training.ongoing import (
    Callback,
    Ongoing,
    OnUpdate,
    Stop,
    as_callbacks,
    asks_to_stop,
    needs_state,
)
from policygrad.training.overlapped import PendingUpdate
from policygrad.training.own_values import check_record
from policygrad.training.pace import Pace
from policygrad.training.programs import (
    StateAndLanes,
    rows_of,
    run_updates,
)
from policygrad.training.report import UpdateReport
from policygrad.training.result import Run
from policygrad.training.shapes import of_few_shapes
from policygrad.training.signals import StopRequest, stop_requests
from policygrad.training.soundness import first_unsound, refuse_update
from policygrad.training.videos import videos_of


@dataclass
class Training:
    """A run in progress.

    Attributes:
        assembly: the run's values.
        progress: what changes from update to update.
        directory: where it is written; None if it is not written.
        recorder: where metrics go.
        callbacks: what is called after every update.
        stop: set where the run is to end after the update that is running.
        told: what a callback raised; the run is then where its newest update left it.
        timings: seconds, by what they were spent on.
        pending: the newest update, while its refit goes on.
        last_save: when the newest checkpoint was written, by `time.perf_counter`.
        before_writing: what is written of a run that goes on, before its first row is.
        went_back: whether it goes on from a checkpoint that was named, behind which all is set
            aside.
    """

    assembly: Assembly
    progress: Progress
    directory: RunDirectory | None = None
    recorder: Recorder = field(default_factory=Recorder)
    callbacks: tuple[Callback, ...] = ()
    stop: StopRequest = field(default_factory=StopRequest)
    told: BaseException | None = None
    timings: dict[str, float] = field(default_factory=lambda: {"save": 0.0})
    pending: PendingUpdate | None = None
    last_save: float = field(default_factory=time.perf_counter)
    before_writing: Callable[[], None] = lambda: None
    went_back: bool = False

    @classmethod
    def begin(
        cls, assembly: Assembly, directory: RunDirectory | None, schedules: Sequence[str] = ()
    ) -> "Training":
        """A new run; its configuration and a first checkpoint are written.

        Args:
            assembly: the run's values.
            directory: where it is written; None if it is not written.
            schedules: the numbers that callbacks change.
        """
        training = cls(assembly, Progress.fresh(assembly), directory)
        if directory is not None:
            with closing_on_failure(assembly):
                directory.write_config(assembly.description() | _noted(schedules))
                training.save()
        return training

    @classmethod
    def resume(
        cls,
        assembly: Assembly,
        directory: RunDirectory,
        at: Path | None = None,
        schedules: Sequence[str] = (),
    ) -> "Training":
        """A run from a checkpoint; nothing is written before all that can be wrong was looked at.

        Args:
            assembly: the run's values.
            directory: of the run.
            at: the checkpoint; None for the newest.
            schedules: the numbers that callbacks change.
        """
        with closing_on_failure(assembly):
            training = cls(assembly, checkpoint.restore(assembly, directory, at), directory)
            if training.progress.resumed_exactly is False:
                warnings.warn(
                    f"{directory.path}: the environments could not be brought back to where they "
                    "were, and began fresh episodes; this run differs from one that was not "
                    "interrupted",
                    stacklevel=4,
                )
            for name, value in training.progress.numbers.items():
                Ongoing(training, {}).set(name, value)

        def go_on() -> None:
            directory.go_on(at)
            directory.write_config(assembly.description() | _noted(schedules))
            training.save()  # where it begins only now

        training.before_writing, training.went_back = go_on, at is not None
        return training

    @property
    def updates_left(self) -> int:
        """How many more batches the run needs; at most 1 if their sizes differ."""
        pending = 0 if self.pending is None else int(self.pending.report.steps)
        config = self.assembly.config
        left = max(0, config.total_steps - self.progress.env_steps - pending)
        return min(left, 1) if config.whole_episodes else -(-left // config.steps_per_batch)

    @property
    def watched(self) -> bool:
        """Whether a callback is to see the run after every update."""
        return any(map(needs_state, self.callbacks))

    def run(self, on_update: OnUpdate | None = None, stop: StopRequest | None = None) -> Run:
        """Train to the last step, or until a signal or a callback ends the run.

        Args:
            on_update: callbacks.
            stop: what asks the run to end, of a caller that handles signals itself.
        """
        program = self.assembly.collector.program()
        with stop_requests() if stop is None else contextlib.nullcontext(stop) as self.stop:
            with self.recording(on_update):
                if program is None:
                    overlapped.run(self)
                else:
                    self._run_compiled(program)
            return self.finish(interrupted=self.updates_left > 0)

    @contextlib.contextmanager
    def recording(self, on_update: OnUpdate | None = None) -> Iterator[None]:
        """Keep the recorder open, and begin the callbacks; a failure releases the environments, and
        what it leaves of the run is saved."""
        self.callbacks = (*as_callbacks(on_update), *videos_of(self.assembly.config))
        resumed = self.progress.resumed_exactly is not None
        after = self.progress.updates if resumed else None
        with contextlib.ExitStack() as stack:
            stack.enter_context(closing_on_failure(self.assembly))
            for callback in self.callbacks:
                if hasattr(callback, "begin"):
                    callback.begin(Ongoing(self, {}))  # pyright: ignore
            stack.enter_context(
                self.recorder.opened(
                    self.assembly.config, self.directory, after, self.before_writing
                )
            )
            try:
                yield
            except BaseException as error:
                ending.keep_after(self, error)
                raise

    def _run_compiled(self, program: SegmentProgram) -> None:
        """Run many updates in each program."""
        pace = Pace(one_by_one=self.assembly.config.checkpoint_seconds == 0 or self.watched)
        while self.updates_left and not self.stop.is_set():
            started, count = time.perf_counter(), pace.count(self.updates_left)
            reports = self.updates(program, count)
            seconds = time.perf_counter() - started
            pace.took(count, seconds)
            self.record(reports, seconds)
            self.save_if_due()

    def updates(self, program: SegmentProgram, count: int) -> list[UpdateReport]:
        """`count` updates in one program, or those before the first that is not sound."""
        started = time.perf_counter()
        assembly, progress = self.assembly, self.progress
        start = StateAndLanes(progress.state, assembly.collector.lanes)

        def run(count: int) -> tuple[StateAndLanes, UpdateReport]:
            return run_updates(
                assembly.learner, program, assembly.spaces, assembly.sharing,
                assembly.keys.updates, start, jnp.asarray(count, jnp.int32),
                assembly.config.monitor_every,
            )  # fmt: skip

        after, reports = run(count)
        reports = rows_of(reports, count)
        self.time_spent(collect_and_update=time.perf_counter() - started)
        bad = first_unsound(reports)
        if bad == 0:  # collect once more, for its batch
            collect_key, _ = keys_of_update(assembly.keys.updates, progress.updates)
            self.refuse(reports[0], self.collect(collect_key))
        if bad:  # keep the updates before it; it is the first of the next program
            (after, _), reports = run(bad), reports[:bad]
        self.take(after)
        return reports

    def take(self, after: StateAndLanes) -> None:
        """Take over the state after a program of many updates."""
        self.progress.state, self.assembly.collector.lanes = after

    def collect(self, key: PRNGKeyArray) -> Trajectories:
        """The next batch. The key is consumed."""
        started, progress = time.perf_counter(), self.progress
        episodes = None if progress.batch is None else int(progress.batch.episodes)
        collector = self.assembly.collector
        trajectories = collector.collect(progress.state.learner.policy, key, episodes)
        afresh = collector.take_afresh()
        if afresh is not None:
            progress.state = progress.state.forget_running(jnp.asarray(afresh))
        if self.assembly.task.collector is not None:
            config = self.assembly.config
            columns = config.columns if episodes is None else episodes
            check_record(
                trajectories, columns, self.assembly.info_names,
                whole_episodes=config.whole_episodes, group_size=config.group_size,
                greedy=self.assembly.learner.estimator.reads_greedy,
            )  # fmt: skip
        if trajectories.whole_episodes:
            count = trajectories.valid.shape[1]
            trajectories = of_few_shapes(
                trajectories, self.assembly.learner, progress.state.learner.policy,
                self.assembly.longest_episode, count if episodes is None else columns_of(count),
            )  # fmt: skip
        self.time_spent(collect=time.perf_counter() - started)
        return trajectories

    def refuse(
        self, report: UpdateReport, trajectories: Trajectories | None, update: int | None = None
    ) -> None:
        """Raise for an update that is not sound, and write the reason into the run's directory."""
        progress = self.progress
        update = progress.updates if update is None else update
        try:
            refuse_update(report, trajectories, update, progress.env_steps, self.assembly.spaces)
        except NonFiniteError as error:
            raise self.failed(error) from None

    def failed(self, error: NonFiniteError) -> NonFiniteError:
        """The error that ends the run, after it was written into the run's directory, if any."""
        if self.directory is None:
            return error
        with contextlib.suppress(WriteError):  # report the first failure only
            self.directory.write_failure(str(error), self.progress.env_steps, error.kind)
        kept = self.directory.newest_checkpoint()
        look = command("diagnose", self.directory.path)
        told = f"{error}; the last good checkpoint is {kept}; what led to it: {look}"
        return NonFiniteError(told, error.kind)

    def record(
        self, reports: list[UpdateReport], seconds: float, infos: Metrics | None = None
    ) -> None:
        """Show the newest updates to the callbacks, and record them.

        The state is that after the last of them, whatever a callback does. So all are counted
        before the first is shown, and all are written.

        Args:
            reports: of the updates.
            seconds: that they took.
            infos: metrics of the infos that the collector has tallied, as they were when the batch
                was collected.
        """
        progress, config, rows = self.progress, self.assembly.config, []
        first = progress.updates - len(reports) + 1
        for number, report in enumerate(reports, first):
            progress.env_steps += int(report.steps)
            progress.seconds += seconds / len(reports)
            row = metrics_of(number, report, progress.env_steps, seconds / len(reports))
            if config.monitors(number):
                row |= noise_of(report, progress.batch)
            row |= infos_of(self.assembly.info_names, report) | (infos or {})
            rows.append(row | {"seconds": progress.seconds})
        try:
            for row in rows:
                self._tell(row)
        finally:
            self.recorder.record(rows)

    def _tell(self, row: Metrics) -> None:
        """Call the callbacks with an update."""
        for callback in self.callbacks:
            try:
                answer = callback(Ongoing(self, row) if needs_state(callback) else row)
                if asks_to_stop(callback, answer):
                    raise Stop
            except Stop:
                self.stop.ask("callback")
            except BaseException as error:
                self.told = error
                raise

    @property
    def save_is_due(self) -> bool:
        """Whether the newest checkpoint is old enough for another one, if any is written."""
        since = time.perf_counter() - self.last_save
        return self.directory is not None and since >= self.assembly.config.checkpoint_seconds

    def save_if_due(self) -> None:
        """Save a checkpoint if one is due."""
        if self.save_is_due:
            self.save()

    def save(self) -> None:
        """Save a checkpoint, if there is a directory."""
        if self.directory is None:
            return
        started = time.perf_counter()
        checkpoint.save(self.assembly, self.progress, self.directory)
        self.last_save = time.perf_counter()
        self.timings["save"] += self.last_save - started

    def time_spent(self, **seconds: float) -> None:
        """Add to the timings by name. The first time, which includes compiling, is kept apart."""
        for name, value in seconds.items():
            if f"first_{name}" not in self.timings:
                self.timings |= {f"first_{name}": value, name: 0.0}
            else:
                self.timings[name] += value

    def finish(self, *, interrupted: bool) -> Run:
        """Save everything, and release the environments. The picture is drawn last: where that
        fails, the run is whole."""
        assembly, path = self.assembly, None if self.directory is None else self.directory.path
        policy = as_one_device(self.progress.state.learner.policy)
        agent = Agent(policy, assembly.source.observation_space, assembly.source.action_space)
        summary = ending.summary_of(self, interrupted)
        with closing_on_failure(assembly):
            ending.write(self, summary)
        assembly.close()
        if path is not None:
            ending.try_to_draw(path)
        ending.warn_of_lost_components(policy)
        return Run(
            path, assembly.config, agent, summary, assembly.task.env, interrupted,
            assembly.task.env_kwargs, assembly.task.engine, self.recorder.kept,
        )  # fmt: skip


def _noted(schedules: Sequence[str]) -> dict[str, list[str]]:
    """What `config.json` says of the numbers that callbacks change."""
    return {"schedules": list(schedules)} if schedules else {}

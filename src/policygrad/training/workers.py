"""Seeds side by side, in spawned worker processes."""

import contextlib
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import jax

from policygrad.core.errors import PolicygradError, UserError
from policygrad.runs import RunDirectory
from policygrad.runs.policy_files import load
from policygrad.training.assembly import Task, assemble
from policygrad.training.config import TrainConfig
from policygrad.training.loop import Training
from policygrad.training.metrics import Metrics
from policygrad.training.resolve import Given
from policygrad.training.result import Run
from policygrad.training.signals import stop_requests

OnSeedUpdate = Callable[[int, Metrics], None]
INHERITED = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_enable_compilation_cache",
    "jax_enable_x64",
)


@dataclass
class SideBySide:
    """Seeds in worker processes, a few at a time.

    Workers do not react to Ctrl-C in the terminal. This process passes on exactly one interrupt to
    each of them. A worker trains into a directory, and returns plain data only.

    Attributes:
        task: the environment of the runs.
        given: values that were passed in place of names.
        configs: one a seed.
        out: directory that holds one directory for each seed; None to keep none.
        jobs: greatest number of workers at a time.
        on_update: called with a seed and the metrics of every update of it.
        runs, failures: by seed, filled in by `run`.
    """

    task: Task
    given: Given
    configs: list[TrainConfig]
    out: Path | None
    jobs: int
    on_update: OnSeedUpdate | None
    runs: dict[int, Run] = field(default_factory=dict)
    failures: dict[int, PolicygradError] = field(default_factory=dict)
    stopping: bool = False

    def run(self) -> None:
        """Train all seeds; fill in runs and failures."""
        waiting = list(reversed(self.configs))
        workers: dict[Connection, tuple[Any, TrainConfig]] = {}
        with self._folder() as folder, stop_requests() as stop:
            try:
                while workers or (waiting and not self.stopping):
                    while waiting and len(workers) < self.jobs and not self.stopping:
                        config = waiting.pop()
                        path = folder / f"seed-{config.seed}"
                        connection, process = self._start(config, path)
                        workers[connection] = process, config
                    for connection in wait(list(workers), timeout=0.1):
                        assert isinstance(connection, Connection)
                        process, config = workers[connection]
                        if self._received(connection, config, folder):
                            del workers[connection]
                            process.join()
                    if stop.is_set() and not self.stopping:
                        self.stopping = True
                        for process, _ in workers.values():
                            os.kill(process.pid, signal.SIGINT)
            finally:
                for process, _ in workers.values():
                    process.terminate()
                    process.join()

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        if self.out is not None:
            try:
                self.out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"cannot write to --out {self.out}: {error.strerror}") from error
            yield self.out
        else:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder)

    def _start(self, config: TrainConfig, path: Path) -> tuple[Connection, Any]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        settings = {name: getattr(jax.config, name) for name in INHERITED}
        arguments = (theirs, self.task, self.given, config, path, settings)
        process = context.Process(target=_work, args=arguments)
        multiprocessing.resource_tracker.ensure_running()  # else it starts below, and unblocks it
        try:
            with blocked(signal.SIGINT):  # until the worker can handle it
                process.start()
        except (AttributeError, TypeError, ValueError) as error:  # what pickling raises
            raise UserError(
                f"an object cannot be sent to a worker process ({error}); pass ids, or "
                "functions and classes that are defined at the top of a module"
            ) from error
        theirs.close()
        return ours, process

    def _received(self, connection: Connection, config: TrainConfig, folder: Path) -> bool:
        """Take one message of a worker; returns whether it was the last."""
        try:
            message: tuple[str, Any] = connection.recv()
        except (EOFError, OSError):
            message = "failed", "its worker process was killed"
        kind: str = message[0]
        content: Any = message[1]
        if kind == "update":
            if self.on_update is not None:
                self.on_update(config.seed, content)
            return False
        if kind == "failed":
            self.failures[config.seed] = PolicygradError(content)
        else:
            self.runs[config.seed] = self._run(config, folder / f"seed-{config.seed}")
        return True

    def _run(self, config: TrainConfig, path: Path) -> Run:
        directory = RunDirectory.open(path)
        saved = directory.read_config()
        summary = directory.read_summary()
        written = self.out is not None
        like = {"like": self.given.policy, "network": self.given.network}
        return Run(
            path if written else None,
            TrainConfig.from_json(dict(saved["config"]), str(path)),
            load(path, **{name: value for name, value in like.items() if value is not None}),
            summary if written else summary | {"path": None},
            self.task.env,
            summary["interrupted"],
            self.task.env_kwargs,
            self.task.engine,
            [] if written else directory.read_metrics(),
        )


def _work(
    connection: Connection,
    task: Task,
    given: Given,
    config: TrainConfig,
    path: Path,
    settings: dict[str, Any],
) -> None:
    """What a worker process does: train one seed."""
    if hasattr(os, "setsid"):
        os.setsid()  # leave the terminal's group: the parent passes Ctrl-C on
    for name, value in settings.items():
        jax.config.update(name, value)
    with stop_requests() as stop:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

        def report(metrics: Metrics) -> None:
            connection.send(("update", metrics))
            if stop.is_set():  # requested before there was anything to save
                stop.clear()
                signal.raise_signal(signal.SIGINT)

        try:
            assembly = assemble(task, config, given)
            Training.begin(assembly, RunDirectory.create(path)).run(report)
            connection.send(("ended", None))
        except BrokenPipeError:  # the parent is gone
            pass
        except PolicygradError as error:
            connection.send(("failed", str(error)))
        except BaseException:
            connection.send(("failed", traceback.format_exc()))


@contextlib.contextmanager
def blocked(signum: signal.Signals) -> Iterator[None]:
    """Hold a signal back, from this process and from those that it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signum})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

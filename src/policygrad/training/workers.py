"""Seeds side by side, in spawned worker processes."""

import contextlib
import inspect
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import jax
from gymnasium.vector.utils import CloudpickleWrapper

from policygrad.core.errors import PolicygradError, UserError
from policygrad.runs import RunDirectory
from policygrad.runs.policy_files import load
from policygrad.training.assembly import Task, assemble
from policygrad.training.config import TrainConfig
from policygrad.training.history import History, rebuilds_policy
from policygrad.training.loop import Training
from policygrad.training.metrics import Metrics
from policygrad.training.resolve import Given
from policygrad.training.result import Run
from policygrad.training.signals import NAMES, stop_requests

OnSeedUpdate = Callable[[int, Metrics], Any]
PASSED_ON = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
INHERITED = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_enable_compilation_cache",
    "jax_enable_x64",
)


NO_GUARD = 113  # a worker's exit code
REMEDY = (
    "a worker process runs the script once more as it starts, and came to train_seeds there. Put "
    'what the script does under `if __name__ == "__main__":`'
)
GRACE_SECONDS = 10.0  # for a worker to save after its parent has gone


def _asks_to_stop() -> signal.Signals:
    """What ends a worker: the signal of Ctrl-C, where workers do not inherit that it is ignored."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return signal.SIGTERM if ignored else signal.SIGINT


def refuse_in_a_worker() -> None:
    """End this process where it is a worker that is only starting: its script has no guard."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(NO_GUARD)  # the parent says why


def check_seed_callback(on_update: OnSeedUpdate | None) -> None:
    """UserError unless it takes a seed and metrics."""
    fits = on_update is None
    if callable(on_update) and not isinstance(on_update, type):
        try:
            inspect.signature(on_update).bind(0, {})
            fits = True
        except TypeError:
            fits = False
        except ValueError:  # no signature is known
            fits = True
    if not fits:
        raise UserError(
            "on_update of train_seeds must be a function of a seed and the metrics of an update, "
            f"got {on_update!r}; callbacks of one run, as policygrad.callbacks has them, are for "
            "policygrad.train"
        )


def of_seed(on_update: OnSeedUpdate, seed: int) -> Callable[[Metrics], None]:
    """A callback for one seed, which takes metrics alone and stops nothing."""

    def told(metrics: Metrics) -> None:
        answer = on_update(seed, metrics)
        if answer is not None and answer is not True:
            raise UserError(
                f"on_update of train_seeds returned {answer!r}; it cannot stop a seed. Train the "
                "seeds one by one with policygrad.train, whose callbacks can"
            )

    told.needs_state = False  # pyright: ignore[reportFunctionMemberAccess]
    return told


@dataclass
class SideBySide:
    """Seeds in worker processes, a few at a time.

    Workers do not react to Ctrl-C in the terminal. This process passes on exactly one request to
    stop to each of them, and ends those that are left at a second one. A worker trains into a
    directory, and returns plain data only. It saves and ends where this process is gone.

    Attributes:
        task: the environment of the runs.
        given: values that were passed in place of names.
        configs: one a seed.
        out: directory that holds one directory for each seed; None to keep none.
        jobs: greatest number of workers at a time.
        on_update: called with a seed and the metrics of every update of it.
        history: where a policy that was passed came from.
        runs, failures: by seed, filled in by `run`.
        raised: what `on_update` raised; the workers are then asked to stop.
    """

    task: Task
    given: Given
    configs: list[TrainConfig]
    out: Path | None
    jobs: int
    on_update: OnSeedUpdate | None
    history: History = field(default_factory=History)
    runs: dict[int, Run] = field(default_factory=dict)
    failures: dict[int, PolicygradError] = field(default_factory=dict)
    raised: BaseException | None = None
    stopping: bool = False

    def run(self) -> None:
        """Train all seeds; fill in runs and failures."""
        self.task = sendable(self.task, self.given)
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
                        if self._received(connection, process, config, folder):
                            del workers[connection]
                            process.join()
                    if (stop.is_set() or self.raised is not None) and not self.stopping:
                        self.stopping = True
                        by = signal.Signals.__members__.get(str(stop.by), _asks_to_stop())
                        for process, _ in workers.values():
                            with contextlib.suppress(ProcessLookupError):  # it has ended already
                                os.kill(process.pid, by)
            finally:
                for process, _ in workers.values():
                    process.kill()
                    process.join()
        if self.raised is not None:
            raise self.raised

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
        arguments = (theirs, self.task, self.given, self.history, config, path, settings)
        process = context.Process(target=_work, args=arguments)
        multiprocessing.resource_tracker.ensure_running()  # else it starts below, and unblocks it
        with blocked(*PASSED_ON):  # until the worker can handle them
            process.start()
        theirs.close()
        return ours, process

    def _received(
        self, connection: Connection, process: Any, config: TrainConfig, folder: Path
    ) -> bool:
        """Take one message of a worker; returns whether it was the last."""
        try:
            message: tuple[str, Any] = connection.recv()
        except (EOFError, OSError):
            process.join()
            if process.exitcode == NO_GUARD:
                raise UserError(REMEDY) from None
            message = "failed", how_it_ended(process.exitcode)
        kind: str = message[0]
        content: Any = message[1]
        if kind == "update":
            if self.on_update is not None and self.raised is None:
                try:
                    of_seed(self.on_update, config.seed)(content)
                except BaseException as error:
                    self.raised = error
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
        rebuilt = rebuilds_policy(self.given)
        like = {"like": None if rebuilt else self.given.policy, "network": self.given.network}
        return Run(
            path if written else None,
            TrainConfig.from_json(dict(saved["config"]), str(path)),
            load(path, **{name: value for name, value in like.items() if value is not None}),
            summary if written else summary | {"path": None},
            as_passed(self.task).env,
            summary["interrupted"],
            self.task.env_kwargs,
            self.task.engine,
            () if written else directory.read_metrics(),
        )


def _work(
    connection: Connection,
    task: Task,
    given: Given,
    history: History,
    config: TrainConfig,
    path: Path,
    settings: dict[str, Any],
) -> None:
    """What a worker process does: train one seed."""
    if hasattr(os, "setsid"):
        os.setsid()  # leave the terminal's group: the parent passes Ctrl-C on
    for name, value in settings.items():
        jax.config.update(name, value)
    with stop_requests(second_stops_at_once=False) as stop:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, set(PASSED_ON))

        def report(metrics: Metrics) -> None:
            with contextlib.suppress(BrokenPipeError):  # the parent is gone: see below
                connection.send(("update", metrics))

        report.needs_state = False  # pyright: ignore[reportFunctionMemberAccess]
        try:
            assembly = assemble(as_passed(task), config, given, history)
            with RunDirectory.begun(path) as directory:
                Training.begin(assembly, directory).run(report, stop)
            connection.send(("ended", None))
        except BrokenPipeError:  # the parent is gone
            pass
        except PolicygradError as error:
            connection.send(("failed", str(error)))
        except BaseException:
            connection.send(("failed", traceback.format_exc()))


def _end_with_parent() -> None:
    """Stop this process, saving what it trains, once its parent is gone; at once if it hangs."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


def sendable(task: Task, given: Given) -> Task:
    """The task as it is sent to a worker process: a function or class that no module names, such as
    a lambda, goes by its content where it makes the environment.

    Raises:
        UserError: an object cannot be sent, or no worker could start.
    """
    main = getattr(sys.modules["__main__"], "__file__", None)
    if main is not None and not os.path.exists(main):
        raise UserError(
            f"worker processes run the script once more as they start, and {main} is no file; save "
            "the script to a file, and run that"
        )
    if callable(task.env) and not _is_sent(task.env):
        make: Any = task.env
        task = replace(task, env=CloudpickleWrapper(make))
    for name, value in {**vars(task), **vars(given)}.items():
        try:
            ForkingPickler.dumps(value)
        except Exception as error:
            raise UserError(
                f"{name} cannot be sent to a worker process ({error}); pass an id, or a function "
                "or class that is defined at the top of a module and holds no open file, lock or "
                "other thing of this process"
            ) from error
    return task


def _is_sent(value: Any) -> bool:
    try:
        ForkingPickler.dumps(value)
    except Exception:
        return False
    return True


def as_passed(task: Task) -> Task:
    """The task as the user passed it, from what `sendable` returned."""
    wrapped = isinstance(task.env, CloudpickleWrapper)
    return replace(task, env=task.env.fn) if wrapped else task


def how_it_ended(code: int | None) -> str:
    """How a worker process ended that sent no last message."""
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        memory = ", as the system does where memory runs out" * (name == "SIGKILL")
        return f"its worker process was killed by {name}{memory}"
    return (
        f"its worker process ended with exit code {code} and no message; what it printed stands "
        "above"
    )


@contextlib.contextmanager
def blocked(*signals: signal.Signals) -> Iterator[None]:
    """Hold signals back, from this process and from those that it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(signals))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

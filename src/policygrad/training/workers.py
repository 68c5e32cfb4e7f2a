"""Seeds side by side, in worker processes."""

import contextlib
import os
import tempfile
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from policygrad.core.errors import PolicygradError, UserError
from policygrad.processes.scripts import check_script
from policygrad.processes.signals import let_signals_in
from policygrad.processes.worker import Worker, WorkerEnded, ready
from policygrad.training.config import TrainConfig
from policygrad.training.metrics import Metrics
from policygrad.training.recipe import Recipe, SentRecipe
from policygrad.training.result import Run
from policygrad.training.seed_callback import OnSeedUpdate, of_seed
from policygrad.training.signals import StopRequest, stop_requests

GRACE_SECONDS = 10.0  # for a worker to save after its parent has gone


@dataclass
class SideBySide:
    """Seeds in worker processes, a few at a time.

    Workers do not react to Ctrl-C in the terminal. This process passes on exactly one request to
    stop to each of them, and ends those that are left at a second one. A worker trains into a
    directory, and returns plain data only. It saves and ends where this process is gone.

    Attributes:
        recipe: what the runs have in common.
        configs: one a seed.
        out: directory that holds one directory for each seed; None to keep none.
        jobs: greatest number of workers at a time.
        on_update: called with a seed and the metrics of every update of it.
        runs, failures: by seed, filled in by `run`.
        raised: what `on_update` raised; the workers are then asked to stop.
    """

    recipe: Recipe
    configs: list[TrainConfig]
    out: Path | None
    jobs: int
    on_update: OnSeedUpdate | None
    runs: dict[int, Run] = field(default_factory=dict)
    failures: dict[int, PolicygradError] = field(default_factory=dict)
    raised: BaseException | None = None

    def run(self) -> None:
        """Train all seeds; fill in runs and failures."""
        check_script()
        sent, waiting = self.recipe.sent(), list(reversed(self.configs))
        working: dict[Worker, TrainConfig] = {}
        stopping = False
        with self._folder() as folder, stop_requests() as stop:
            try:
                while working or (waiting and not stopping):
                    while waiting and len(working) < self.jobs and not stopping:
                        config = waiting.pop()
                        at = folder / f"seed-{config.seed}"
                        working[Worker(_work, sent, config, at, grace=GRACE_SECONDS)] = config
                    for worker in ready(working, 0.1):
                        if self._received(worker, working[worker], folder):
                            worker.join()
                            del working[worker]
                            worker.close()
                    if (stop.is_set() or self.raised is not None) and not stopping:
                        stopping = True
                        for worker in working:
                            with contextlib.suppress(PolicygradError):  # it has ended already
                                worker.send(stop.by or "SIGINT")
            finally:
                for worker in working:
                    worker.close()
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

    def _received(self, worker: Worker, config: TrainConfig, folder: Path) -> bool:
        """Take one message of a worker; returns whether it was the last."""
        kind: str
        content: Any
        try:
            kind, content = worker.receive()
        except WorkerEnded as ended:
            early = "before its run was done; what it printed stands above"
            kind, content = "failed", f"its worker process {ended.how} {early}"
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
            self.runs[config.seed] = self._run(folder / f"seed-{config.seed}")
        return True

    def _run(self, path: Path) -> Run:
        run = self.recipe.read(path)
        if self.out is not None:
            return run
        summary = run.summary | {"path": None}
        return replace(run, path=None, summary=summary, recorded=run.metrics)


def _work(pipe: Any, sent: SentRecipe, config: TrainConfig, path: Path) -> None:
    """What a worker process does: train one seed."""
    if hasattr(os, "setsid"):
        os.setsid()  # leave the terminal's group: the parent passes Ctrl-C on
    with stop_requests(second_stops_at_once=False) as stop:
        let_signals_in()
        threading.Thread(target=_listen, args=[pipe, stop], daemon=True).start()

        def report(metrics: Metrics) -> None:
            with contextlib.suppress(ConnectionError):  # the parent is gone, and the run is saved
                pipe.send(("update", metrics))

        report.needs_state = False  # pyright: ignore[reportFunctionMemberAccess]
        try:
            sent.read().train(config, path, report, stop)
            last = "ended", None
        except PolicygradError as error:
            last = "failed", str(error)
        except BaseException:
            last = "failed", traceback.format_exc()
        with contextlib.suppress(ConnectionError):
            pipe.send(last)


def _listen(pipe: Any, stop: StopRequest) -> None:
    """Ask the run to stop where the parent does, or is gone."""
    try:
        stop.ask(pipe.recv())
    except (EOFError, OSError):
        stop.ask("SIGINT")

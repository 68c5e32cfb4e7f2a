"""Seeds side by side, in worker processes."""

import contextlib
import os
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policygrad.core.errors import PolicygradError
from policygrad.processes.scripts import check_script
from policygrad.processes.signals import let_signals_in
from policygrad.processes.worker import Worker, WorkerEnded, ready
from policygrad.training.config import TrainConfig
from policygrad.training.metrics import Metrics
from policygrad.training.recipe import SentRecipe
from policygrad.training.seed_pool import SeedPool
from policygrad.training.signals import StopRequest, stop_requests

GRACE_SECONDS = 10.0  # for a worker to save after its parent has gone


@dataclass
class SideBySide(SeedPool):
    """Seeds in worker processes, a few at a time.

    Workers do not react to Ctrl-C in the terminal. This process passes on exactly one request to
    stop to each of them, and ends those that are left at a second one. A worker trains into a
    directory, and returns plain data only. It saves and ends where this process is gone.

    Attributes:
        jobs: greatest number of workers at a time.
    """

    jobs: int

    def run(self) -> None:
        """Train all seeds; fill in runs and failures."""
        check_script()
        sent, waiting = self.recipe.sent(), list(reversed(self.configs))
        working: dict[Worker, TrainConfig] = {}
        stopping = False
        with self.folder() as folder, stop_requests() as stop:
            try:
                while working or (waiting and not stopping):
                    while waiting and len(working) < self.jobs and not stopping:
                        config = waiting.pop()
                        at = folder / f"seed-{config.seed}"
                        working[Worker(_work, sent, config, at, grace=GRACE_SECONDS)] = config
                    for worker in ready(working, 0.1):
                        if self._received(worker, working[worker].seed, folder):
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

    def _received(self, worker: Worker, seed: int, folder: Path) -> bool:
        """Take one message of a worker; returns whether it was the last."""
        kind: str
        content: Any
        try:
            kind, content = worker.receive()
        except WorkerEnded as ended:
            early = "before its run was done; what it printed stands above"
            kind, content = "ended", f"its worker process {ended.how} {early}"
        if kind == "update":
            self.tell(seed, content)
            return False
        self.take(seed, folder, content)
        return True


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
            failure = None
        except PolicygradError as error:
            failure = str(error)
        except BaseException:
            failure = traceback.format_exc()
        with contextlib.suppress(ConnectionError):
            pipe.send(("ended", failure))


def _listen(pipe: Any, stop: StopRequest) -> None:
    """Ask the run to stop where the parent does, or is gone."""
    try:
        stop.ask(pipe.recv())
    except (EOFError, OSError):
        stop.ask("SIGINT")

"""Seeds on workers of Ray's: each is one task, which goes on elsewhere where its worker dies."""

import contextlib
import importlib
import secrets
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policygrad.core.errors import PolicygradError, RunError, UserError
from policygrad.machines.channel import open_channel
from policygrad.machines.cluster import Cluster
from policygrad.machines.crew import Crew
from policygrad.machines.remote import Remote
from policygrad.machines.worker import Worker
from policygrad.runs import RunDirectory
from policygrad.training.config import TrainConfig
from policygrad.training.metrics import Metrics
from policygrad.training.recipe import SentRecipe
from policygrad.training.seed_pool import SeedPool
from policygrad.training.signals import StopRequest, stop_requests

REPORT_SECONDS = 0.25  # from one report of a worker to the next


@dataclass
class SeedsElsewhere(SeedPool):
    """Seeds on workers of Ray's, a few at a time.

    Attributes:
        remote: the workers.
    """

    remote: Remote
    _heard: dict[int, float] = field(default_factory=dict, init=False)
    _updates: dict[int, int] = field(default_factory=dict, init=False)

    def run(self) -> None:
        """Train all seeds; fill in runs and failures."""
        sent = self.recipe.sent()
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(self.folder()).resolve()
            token = stack.enter_context(_marked(folder))
            stop = stack.enter_context(stop_requests())
            cluster = Cluster(self.remote.address)
            stack.callback(cluster.close)
            workers = min(self.remote.workers, len(self.configs))
            crew = Crew(cluster, self.remote, workers)
            stack.callback(crew.close)
            channel = open_channel(cluster.ray)
            stack.callback(cluster.ray.kill, channel)

            def meanwhile() -> None:
                self._look(cluster.ray, channel, stop, folder)

            def items() -> Iterator[tuple[Any, ...]]:
                for config in self.configs:
                    if stop.is_set() or self.raised is not None:
                        return
                    yield sent, config, folder, token, channel

            answers = crew.map(train_one, items(), meanwhile=meanwhile, heard=self._heard_of)
            for config, failure in zip(self.configs, answers, strict=False):
                self._catch_up(config.seed, folder)
                self.take(config.seed, folder, failure)
            meanwhile()
        if self.raised is not None:
            raise self.raised

    def _look(self, ray: Any, channel: Any, stop: StopRequest, folder: Path) -> None:
        """Take what the workers have reported, and pass on a request to stop."""
        with contextlib.suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            if stop.is_set() or self.raised is not None:
                channel.ask.remote(stop.by or "SIGINT")
            for seed, rows in ray.get(channel.take.remote(), timeout=10):
                self._heard[seed] = time.monotonic()
                for metrics in rows:
                    self._catch_up(seed, folder, metrics["update"] - 1)
                    self._tell_once(seed, metrics)

    def _tell_once(self, seed: int, metrics: Metrics) -> None:
        """Call the callback; a seed that went on elsewhere makes its newest updates once more."""
        if metrics["update"] > self._updates.get(seed, 0):
            self._updates[seed] = metrics["update"]
            self.tell(seed, metrics)

    def _catch_up(self, seed: int, folder: Path, up_to: int | None = None) -> None:
        """Tell the updates that a worker has recorded, and could not report before it died."""
        if self.on_update is None or (up_to is not None and up_to <= self._updates.get(seed, 0)):
            return
        with contextlib.suppress(RunError):  # none yet, or the seed fails with this error itself
            for metrics in RunDirectory.open(folder / f"seed-{seed}").read_metrics(up_to):
                self._tell_once(seed, metrics)

    def _heard_of(self, number: int) -> float:
        """When the seed of this number in the order has last reported; 0 where it never has."""
        return self._heard.get(self.configs[number].seed, 0.0)


@contextlib.contextmanager
def _marked(folder: Path) -> Iterator[str]:
    """A file by which workers see that their file system is this one; its name."""
    marker = folder / f".policygrad-{secrets.token_hex(8)}"
    try:
        marker.touch()
    except OSError as error:
        raise UserError(f"cannot write to --out {folder}: {error.strerror}") from error
    try:
        yield marker.name
    finally:
        marker.unlink(missing_ok=True)


def train_one(
    worker: Worker,
    sent: SentRecipe,
    config: TrainConfig,
    folder: Path,
    marker: str,
    channel: Any,
) -> str | None:
    """What a worker does: train one seed; returns why it failed, if it did.

    Args:
        worker: not used.
        sent: what the seeds have in common.
        config: of the seed.
        folder: of all seeds.
        marker: a file that is in it.
        channel: where it reports to.

    Raises:
        UserError: the folder is not on a file system of this machine.
    """
    if not (folder / marker).exists():
        raise UserError(
            f"{folder} is not there on the machine of a worker; --out must be on a file system "
            "that all machines share"
        )
    stop = StopRequest()
    reporter = _Reporter(config.seed, channel, stop)
    try:
        sent.read().train_on(config, folder / f"seed-{config.seed}", reporter, stop)
    except PolicygradError as error:
        return str(error)
    except Exception:
        return traceback.format_exc()
    finally:
        reporter.flush()
    return None


class _Reporter:
    """Reports the updates of a seed, some at a time, and takes a request to stop."""

    needs_state = False

    def __init__(self, seed: int, channel: Any, stop: StopRequest) -> None:
        self._seed, self._channel, self._stop = seed, channel, stop
        self._rows: list[Metrics] = []
        self._last = 0.0

    def __call__(self, metrics: Metrics) -> None:
        self._rows.append(metrics)
        if time.monotonic() - self._last >= REPORT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Report what is left."""
        ray: Any = importlib.import_module("ray")
        with contextlib.suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            reported = self._channel.report.remote((self._seed, self._rows))
            request = ray.get(reported, timeout=10)
            self._rows, self._last = [], time.monotonic()
            if request is not None:
                self._stop.ask(request)

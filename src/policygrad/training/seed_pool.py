"""Seeds that are trained in other processes: what comes back, and where it is kept."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from policygrad.core.errors import PolicygradError, UserError
from policygrad.training.config import TrainConfig
from policygrad.training.metrics import Metrics
from policygrad.training.recipe import Recipe
from policygrad.training.result import Run
from policygrad.training.seed_callback import OnSeedUpdate, of_seed


@dataclass
class SeedPool:
    """Seeds, each of which is trained into a directory of its own.

    Attributes:
        recipe: what the runs have in common.
        configs: one a seed.
        out: directory that holds one directory for each seed; None to keep none.
        on_update: called with a seed and the metrics of every update of it.
        runs, failures: by seed, what became of it.
        raised: what `on_update` raised; the seeds are then asked to stop.
    """

    recipe: Recipe
    configs: list[TrainConfig]
    out: Path | None
    on_update: OnSeedUpdate | None
    runs: dict[int, Run] = field(default_factory=dict, init=False)
    failures: dict[int, PolicygradError] = field(default_factory=dict, init=False)
    raised: BaseException | None = field(default=None, init=False)

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """Where the directories of the seeds are, while they are trained."""
        if self.out is not None:
            try:
                self.out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"cannot write to --out {self.out}: {error.strerror}") from error
            yield self.out
        else:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder)

    def tell(self, seed: int, metrics: Metrics) -> None:
        """Call the callback with an update."""
        if self.on_update is not None and self.raised is None:
            try:
                of_seed(self.on_update, seed)(metrics)
            except BaseException as error:
                self.raised = error

    def take(self, seed: int, folder: Path, failure: str | None) -> None:
        """A seed has ended: its run, or why it has none.

        Args:
            seed: the seed.
            folder: of all seeds.
            failure: why it failed; None if it did not.
        """
        if failure is not None:
            self.failures[seed] = PolicygradError(failure)
            return
        run = self.recipe.read(folder / f"seed-{seed}")
        if self.out is None:
            summary = run.summary | {"path": None}
            run = replace(run, path=None, summary=summary, recorded=run.metrics)
        self.runs[seed] = run
